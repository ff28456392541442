//! A store in memory: what the message pipeline uses of repo's `Store`, with lost answers and a failover that forgets
//! the last transaction, but neither epochs nor reserved bounds.
//!
//! Owns the verbs; the rows are in [`crate::tables`]. Accounts and tokens are not simulated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use gochat_proto::events::{Event, EventBody};
use gochat_repo::store::conversation::{
    Access, Conversation, Head, Info, ListQuery, ListedConversation, Member, MemberQuery, NewConversation, Profile,
    RaisePointer, RaisedPointer, ReadPointer, Roster,
};
use gochat_repo::store::friend::{
    Asked, FriendStore, Friendship, HandleRequest, Handled, NewFriendRequest, RequestQuery,
};
use gochat_repo::store::group::{AddMembers, AddedMembers, RemoveMember, UpdateInfo, UpdateMember};
use gochat_repo::store::message::{Message, MessagePage, MessageQuery};
use gochat_repo::store::pipeline::{OutboxRow, Parked, PersistTx, PrepareAnswer, PrepareLookup, RecallTarget};
use gochat_repo::store::room::{RoomMembers, RoomSize, RoomStore, RoomVersion};
use gochat_repo::store::token::{ConsumeToken, Consumed, Family, NewRefreshToken, Revocation};
use gochat_repo::store::upkeep::{Backlog, Frozen};
use gochat_repo::store::user::{Membership, NewUser, Status, User, UserChange};
use gochat_repo::store::{
    ConversationStore, GroupStore, MessageStore, Noun, PipelineStore, Result, StoreError, TokenStore, UpkeepStore,
    UserStore,
};
use tokio::sync::{OwnedMutexGuard, watch};

use crate::Broken;
use crate::chaos::{Chaos, Fate, locked};
use crate::persist_tx::MemoryTx;
use crate::tables::{Database, Inner, Row, StoredConversation, lost};

/// The store. Clones share it.
#[derive(Clone)]
pub(crate) struct MemoryStore {
    pub(crate) database: Arc<Database>,
    writer: Arc<tokio::sync::Mutex<()>>,
    /// Of the machine when this was opened.
    life: u64,
}

fn not_simulated<T>() -> Result<T> {
    Err(StoreError::Broken("not simulated".to_owned()))
}

impl MemoryStore {
    /// A store with conversations: text id and members, keys from 1.
    pub(crate) fn new(
        chaos: Arc<Chaos>,
        conversations: Vec<(String, Vec<i64>)>,
        broken: Option<Broken>,
    ) -> MemoryStore {
        let mut inner = Inner { broken, ..Inner::default() };
        for (key, (id, members)) in (1..).zip(conversations) {
            let head = Head { key, ..Head::default() };
            inner
                .tables
                .conversations
                .insert(key, StoredConversation { id, size: members.len() as i64, members, version: 1, head });
        }
        MemoryStore {
            database: Arc::new(Database { inner: Mutex::new(inner), chaos, commits: watch::Sender::new(0) }),
            writer: Arc::default(),
            life: 0,
        }
    }

    /// The machine has died: the store as its next life opens it.
    pub(crate) fn reopened(&self) -> MemoryStore {
        let mut inner = locked(&self.database.inner);
        inner.life += 1;
        MemoryStore { life: inner.life, ..self.clone() }
    }

    /// Changes the members of a conversation, with the event, in a commit that survives a failover.
    async fn change_members<T>(
        &self,
        conversation: &str,
        change: impl FnOnce(&mut Vec<i64>) -> Result<(T, Option<EventBody>)>,
    ) -> Result<T> {
        let changed = self
            .write(|inner| {
                let stored = inner.tables.by_id(conversation).ok_or(StoreError::Missing(Noun::Conversation))?;
                let (key, mut members) = (stored.head.key, stored.members.clone());
                let (answer, body) = change(&mut members)?;
                if let Some(body) = body {
                    let event = event(conversation, body);
                    let before = inner.before_last.as_ref().map_or(0, |tables| tables.outbox_next);
                    let id = inner.tables.outbox_next.max(before) + 1;
                    for tables in std::iter::once(&mut inner.tables).chain(inner.before_last.as_mut()) {
                        tables.change_members(key, members.clone(), event.clone(), id);
                    }
                }
                Ok(answer)
            })
            .await?;
        self.database.commits.send_modify(|commits| *commits += 1);
        changed
    }

    /// The primary is lost and a replica takes over that has not seen the last transaction.
    pub(crate) fn fail_over(&self) {
        let mut inner = locked(&self.database.inner);
        inner.term += 1;
        if let Some(before) = inner.before_last.take() {
            inner.tables = before;
        }
    }

    /// Number of failovers so far.
    pub(crate) fn term(&self) -> u64 {
        locked(&self.database.inner).term
    }

    async fn write<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> Result<T> {
        let _writer = self.writer.lock().await;
        self.database.chaos.jitter().await;
        let fate = self.database.chaos.fate(None);
        if fate == Fate::Refused || locked(&self.database.inner).life != self.life {
            return Err(lost());
        }
        let result = change(&mut locked(&self.database.inner));
        self.database.chaos.jitter().await;
        if fate == Fate::AnswerLost { Err(lost()) } else { Ok(result) }
    }

    async fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> Result<T> {
        self.database.chaos.jitter().await;
        if self.database.chaos.fate(None) != Fate::Done {
            return Err(lost());
        }
        let result = look(&locked(&self.database.inner));
        self.database.chaos.jitter().await;
        Ok(result)
    }
}

#[async_trait]
impl PipelineStore for MemoryStore {
    async fn draw_epoch(&self, partition: u32) -> Result<i64> {
        self.write(|inner| {
            let epoch = inner.survivors.epochs.entry(partition).or_insert(0);
            *epoch += 1;
            *epoch
        })
        .await
    }

    async fn epoch(&self, partition: u32) -> Result<i64> {
        self.read(|inner| inner.survivors.epochs.get(&partition).copied().unwrap_or(0)).await
    }

    async fn prepare_lookup(&self, lookup: PrepareLookup) -> Result<PrepareAnswer> {
        let claims = self
            .read(|inner| {
                let row = |id: &i64| inner.tables.rows.get(id).map(|row| row.identity.clone());
                let held = |place: &i64| inner.tables.claims.get(place).map(|id| (*place, row(id)));
                lookup.claims.iter().filter_map(held).collect()
            })
            .await?;
        let top_seqs = self
            .read(|inner| {
                let top = |key: &i64| {
                    inner.tables.conversations.get(key).map_or(0, |c| c.head.last_seq.max(c.head.stored_through_seq))
                };
                lookup.conversations.iter().map(top).collect()
            })
            .await?;
        Ok(PrepareAnswer { epoch: self.epoch(lookup.partition).await?, claims, top_seqs })
    }

    async fn recall_targets(&self, ids: &[i64]) -> Result<Vec<RecallTarget>> {
        self.read(|inner| {
            let row = |row: &Row| RecallTarget {
                id: row.identity.id,
                conversation: row.identity.conversation,
                seq: row.identity.seq,
                sender_id: row.identity.sender_id,
                kind: row.kind,
                created_at_ms: row.identity.created_at_ms,
                deleted: row.deleted,
            };
            ids.iter().filter_map(|id| inner.tables.rows.get(id)).map(row).collect()
        })
        .await
    }

    async fn reserve_sequences(&self, raises: &[(i64, i64)]) -> Result<Vec<i64>> {
        self.write(|inner| {
            let mut raise = |(key, count): &(i64, i64)| {
                let bound = inner.survivors.reserved.entry(*key).or_insert(0);
                *bound += count;
                *bound - count
            };
            raises.iter().map(&mut raise).collect()
        })
        .await
    }

    async fn begin_persist(&self, partition: u32, _now_ms: i64) -> Result<Box<dyn PersistTx>> {
        let writer: OwnedMutexGuard<()> = self.writer.clone().lock_owned().await;
        self.database.chaos.jitter().await;
        let inner = locked(&self.database.inner);
        let (term, tables) = (inner.term, inner.tables.clone());
        drop(inner);
        Ok(Box::new(MemoryTx::new(self.database.clone(), writer, partition, term, tables)))
    }

    async fn positions(&self) -> Result<Vec<(u32, i64)>> {
        self.read(|inner| inner.tables.logs.iter().map(|(partition, log)| (*partition, log.next_offset)).collect())
            .await
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<(i64, OutboxRow)>> {
        let row = |(id, row): (&i64, &OutboxRow)| (*id, row.clone());
        self.read(|inner| inner.tables.outbox.iter().take(limit as usize).map(row).collect()).await
    }

    fn outbox_commits(&self) -> watch::Receiver<u64> {
        self.database.commits.subscribe()
    }

    async fn delete_outbox(&self, ids: &[i64]) -> Result<()> {
        self.write(|inner| {
            inner.before_last = Some(inner.tables.clone());
            let forgets = inner.broken == Some(Broken::EventsForgotten);
            inner.tables.outbox.retain(|id, _| !forgets && !ids.contains(id));
        })
        .await
    }

    async fn parked(&self, limit: u32) -> Result<Vec<Parked>> {
        self.read(|inner| inner.tables.parked.iter().take(limit as usize).cloned().collect()).await
    }

    /// Its disk never fails.
    fn health(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }
}

#[async_trait]
impl MessageStore for MemoryStore {
    async fn message(&self, _id: i64) -> Result<Option<Message>> {
        not_simulated()
    }

    async fn messages(&self, query: MessageQuery) -> Result<Option<MessagePage>> {
        let head = self.read(|inner| inner.tables.by_id(&query.conversation).map(|c| c.head)).await?;
        let Some(head) = head else { return Ok(None) };
        self.read(|inner| {
            let range = (head.key, query.low)..=(head.key, query.high);
            let found = inner.tables.places.range(range).filter_map(|(_, id)| inner.tables.rows.get(id));
            let message = |row: &Row| Message {
                id: row.identity.id,
                conversation: query.conversation.clone(),
                seq: row.identity.seq,
                sender_id: row.identity.sender_id,
                kind: row.kind,
                content: row.content.clone(),
                extra: row.extra.clone(),
                client_msg_id: String::from_utf8_lossy(&row.identity.client_msg_id).into_owned(),
                created_at_ms: row.identity.created_at_ms,
                deleted: row.deleted,
            };
            let mut messages: Vec<(Message, Option<Profile>)> = found.map(|row| (message(row), None)).collect();
            if !query.ascending {
                messages.reverse();
            }
            messages.truncate(query.limit as usize);
            Some(MessagePage { head, messages })
        })
        .await
    }

    async fn highest_id(&self) -> Result<i64> {
        self.read(|inner| inner.tables.rows.keys().next_back().copied().unwrap_or(0)).await
    }
}

#[async_trait]
impl ConversationStore for MemoryStore {
    async fn create_conversation(&self, _new: NewConversation) -> Result<(Conversation, bool)> {
        not_simulated()
    }

    async fn conversations(&self, ids: &[String]) -> Result<Vec<Conversation>> {
        self.read(|inner| {
            let known = ids.iter().filter_map(|id| inner.tables.by_id(id));
            known
                .map(|c| Conversation {
                    head: c.head,
                    id: c.id.clone(),
                    kind: c.kind(),
                    info: Info::default(),
                    owner_id: 0,
                    member_count: c.members.len() as i32,
                    created_at_ms: 0,
                    active_at_ms: 0,
                    updated_at_ms: 0,
                    dissolved: false,
                })
                .collect()
        })
        .await
    }

    async fn rosters(&self, ids: &[String]) -> Result<Vec<Roster>> {
        self.read(|inner| {
            let known = ids.iter().filter_map(|id| inner.tables.by_id(id));
            known
                .map(|c| {
                    let members = match inner.broken {
                        // As if nobody had ever gone.
                        Some(Broken::RostersOfBefore) => c.everybody(),
                        _ => c.members.clone(),
                    };
                    Roster {
                        id: c.id.clone(),
                        key: c.head.key,
                        kind: c.kind(),
                        membership_version: c.version,
                        member_count: members.len() as i32,
                        members,
                        ..Roster::default()
                    }
                })
                .collect()
        })
        .await
    }

    async fn members(&self, conversation: &str, users: &[i64]) -> Result<Vec<Member>> {
        self.read(|inner| {
            let members = inner.tables.by_id(conversation).map_or(&[][..], |c| &c.members);
            let asked = members.iter().filter(|id| users.contains(id));
            asked
                .map(|id| Member {
                    user: user(*id),
                    role: 1,
                    muted: false,
                    muted_until: 0,
                    joined_at_ms: 0,
                    updated_at_ms: 0,
                })
                .collect()
        })
        .await
    }

    async fn member_page(&self, _query: MemberQuery) -> Result<Vec<Member>> {
        not_simulated()
    }

    async fn member_ids(&self, _conversation: &str, _after: i64, _limit: i64) -> Result<Vec<i64>> {
        not_simulated()
    }

    async fn member_total(&self, _conversation: &str, _role: i32) -> Result<i64> {
        not_simulated()
    }

    async fn access(&self, user: i64, conversation: &str) -> Result<Access> {
        self.read(|inner| match inner.tables.by_id(conversation) {
            None => Access::Absent,
            Some(c) if c.members.contains(&user) => Access::Member { history_after: 0 },
            Some(_) => Access::Stranger,
        })
        .await
    }

    async fn removed_conversations(&self, _user: i64, _since_ms: i64) -> Result<Vec<String>> {
        not_simulated()
    }

    async fn conversation_list(&self, _query: ListQuery) -> Result<Vec<ListedConversation>> {
        not_simulated()
    }

    async fn change_time(&self) -> Result<i64> {
        not_simulated()
    }

    async fn raise_read_pointer(&self, _raise: RaisePointer) -> Result<Option<RaisedPointer>> {
        not_simulated()
    }

    async fn read_pointer(&self, _user: i64, _conversation: &str) -> Result<Option<ReadPointer>> {
        not_simulated()
    }

    async fn conversation_ids(&self, _user: i64, _kind: i32, _limit: i64) -> Result<Vec<String>> {
        not_simulated()
    }

    async fn unread_counts(&self, _user: i64, _conversations: &[String]) -> Result<Vec<(String, i64)>> {
        not_simulated()
    }
}

fn event(conversation: &str, body: EventBody) -> Event {
    Event {
        event_id: String::new(),
        timestamp: 0,
        conversation_id: conversation.to_owned(),
        user_id: String::new(),
        friend_id: String::new(),
        operator_id: String::new(),
        body,
    }
}

fn user(id: i64) -> User {
    User {
        id,
        username: format!("user{id}"),
        avatar_url: String::new(),
        is_guest: false,
        status: Status::Normal,
        token_version: 0,
        created_at_ms: 0,
        updated_at_ms: 0,
    }
}

#[async_trait]
impl GroupStore for MemoryStore {
    async fn add_members(&self, add: AddMembers) -> Result<AddedMembers> {
        self.change_members(&add.conversation, |members| {
            let (existing, added): (Vec<i64>, Vec<i64>) = add.users.iter().partition(|user| members.contains(user));
            members.extend(&added);
            members.sort_unstable();
            let member_count = members.len() as i32;
            let body = (!added.is_empty()).then(|| EventBody::MembersAdded {
                kind: 2,
                added_user_ids: added.iter().map(i64::to_string).collect(),
                added_by: add.operator.to_string(),
                member_count,
                version: 0,
            });
            Ok((AddedMembers { added, existing, rejected: Vec::new(), member_count }, body))
        })
        .await
    }

    async fn remove_member(&self, remove: RemoveMember) -> Result<i32> {
        self.change_members(&remove.conversation, |members| {
            let at = members.binary_search(&remove.user).map_err(|_| StoreError::Missing(Noun::Member))?;
            members.remove(at);
            let member_count = members.len() as i32;
            let body = EventBody::MemberRemoved {
                kind: 2,
                removed_user_id: remove.user.to_string(),
                removed_by: remove.operator.to_string(),
                reason: remove.reason.clone(),
                member_count,
                version: 0,
            };
            Ok((member_count, Some(body)))
        })
        .await
    }

    async fn update_member(&self, _update: UpdateMember) -> Result<()> {
        not_simulated()
    }

    async fn transfer_ownership(&self, _conversation: &str, _from: i64, _to: i64, _now_ms: i64) -> Result<()> {
        not_simulated()
    }

    async fn update_info(&self, _update: UpdateInfo) -> Result<Conversation> {
        not_simulated()
    }

    async fn dissolve(&self, _conversation: &str, _operator: i64, _reason: &str, _now_ms: i64) -> Result<()> {
        not_simulated()
    }

    async fn hide(&self, _conversation: &str, _user: i64) -> Result<()> {
        not_simulated()
    }
}

#[async_trait]
impl UserStore for MemoryStore {
    async fn create_user(&self, _user: NewUser) -> Result<User> {
        not_simulated()
    }

    async fn create_users(&self, _users: Vec<NewUser>) -> Result<()> {
        not_simulated()
    }

    async fn users(&self, ids: &[i64]) -> Result<Vec<User>> {
        self.read(|_| ids.iter().map(|id| user(*id)).collect()).await
    }

    async fn user_by_name(&self, _username: &str) -> Result<Option<User>> {
        not_simulated()
    }

    async fn password_hash(&self, _id: i64) -> Result<Option<String>> {
        not_simulated()
    }

    async fn update_user(&self, _id: i64, _change: UserChange, _now_ms: i64) -> Result<User> {
        not_simulated()
    }

    async fn delete_user(&self, _id: i64, _now_ms: i64) -> Result<bool> {
        not_simulated()
    }

    async fn memberships_to_end(&self, _user: i64) -> Result<Vec<Membership>> {
        not_simulated()
    }

    async fn successor(&self, _conversation: &str, _owner: i64) -> Result<Option<i64>> {
        not_simulated()
    }

    async fn unfinished_deletions(&self, _limit: u32) -> Result<Vec<i64>> {
        not_simulated()
    }

    async fn inactive_guests(&self, _before_ms: i64, _limit: u32) -> Result<Vec<i64>> {
        not_simulated()
    }

    async fn touch_users(&self, _ids: &[i64], _now_ms: i64) -> Result<()> {
        not_simulated()
    }

    async fn search_users(&self, _text: &str, _searcher: i64, _limit: u32) -> Result<Vec<User>> {
        not_simulated()
    }

    async fn list_users(&self, _after: i64, _name_prefix: &str, _limit: u32) -> Result<Vec<User>> {
        not_simulated()
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn store_refresh_token(&self, _token: NewRefreshToken) -> Result<()> {
        not_simulated()
    }

    async fn consume_refresh_token(&self, _consume: ConsumeToken) -> Result<Consumed> {
        not_simulated()
    }

    async fn revoke_family(&self, _family: &str, _user: i64, _now: i64) -> Result<Option<(i64, u64)>> {
        not_simulated()
    }

    async fn families(&self, _user: i64, _now: i64, _limit: u32) -> Result<Vec<Family>> {
        not_simulated()
    }

    async fn revoke_user(&self, _user: i64, _now: i64) -> Result<(u64, i64)> {
        not_simulated()
    }

    async fn blacklist(&self, _token_hash: &str, _expires_at: i64, _now: i64) -> Result<()> {
        not_simulated()
    }

    async fn blacklisted(&self, _token_hashes: &[String], _now: i64) -> Result<Vec<bool>> {
        not_simulated()
    }

    async fn revocations(&self, _after_id: i64, _limit: u32, _now: i64) -> Result<Vec<Revocation>> {
        not_simulated()
    }
}

#[async_trait]
impl FriendStore for MemoryStore {
    async fn ask_friend(&self, _ask: NewFriendRequest) -> Result<Asked> {
        not_simulated()
    }

    async fn accept_friend(&self, _handle: HandleRequest) -> Result<Handled> {
        not_simulated()
    }

    async fn reject_friend(&self, _handle: HandleRequest) -> Result<Handled> {
        not_simulated()
    }

    async fn friend_request(&self, _id: i64) -> Result<Option<Friendship>> {
        not_simulated()
    }

    async fn friendships_between(&self, _a: i64, _b: i64) -> Result<(Option<Friendship>, Option<Friendship>)> {
        not_simulated()
    }

    async fn friends(&self, _user: i64, _offset: i64, _limit: i64) -> Result<Vec<Friendship>> {
        not_simulated()
    }

    async fn friend_changes(&self, _user: i64, _since_ms: i64) -> Result<(Vec<Friendship>, Vec<i64>)> {
        not_simulated()
    }

    async fn friend_requests(&self, _query: RequestQuery) -> Result<Vec<Friendship>> {
        not_simulated()
    }

    async fn friend_ids(&self, _user: i64) -> Result<Vec<i64>> {
        not_simulated()
    }

    async fn set_remark(&self, _user: i64, _friend: i64, _remark: &str) -> Result<Option<Friendship>> {
        not_simulated()
    }

    async fn remove_friend(&self, _user: i64, _friend: i64, _now_ms: i64) -> Result<bool> {
        not_simulated()
    }

    async fn set_block(&self, _user: i64, _target: i64, _blocked: bool, _now_ms: i64) -> Result<bool> {
        not_simulated()
    }

    async fn blocks(&self, _user: i64, _others: &[i64]) -> Result<(Vec<i64>, Vec<i64>)> {
        not_simulated()
    }

    async fn blocked_by(&self, _user: i64, _offset: i64, _limit: i64) -> Result<Vec<(i64, i64)>> {
        not_simulated()
    }
}

#[async_trait]
impl RoomStore for MemoryStore {
    async fn rooms(&self, _users: &[i64], _above: i32) -> Result<Vec<(i64, RoomVersion)>> {
        not_simulated()
    }

    async fn room_size(&self, conversation: &str) -> Result<Option<RoomSize>> {
        let size = |c: &StoredConversation| RoomSize { is_world: false, member_count: c.members.len() as i32 };
        self.read(|inner| inner.tables.by_id(conversation).map(size)).await
    }

    async fn room_members(&self, conversation: &str) -> Result<Option<RoomMembers>> {
        let members = |c: &StoredConversation| RoomMembers { version: c.version, members: c.members.clone() };
        self.read(|inner| inner.tables.by_id(conversation).map(members)).await
    }

    async fn room_versions(&self, _conversations: &[String]) -> Result<HashMap<String, i64>> {
        not_simulated()
    }
}

#[async_trait]
impl UpkeepStore for MemoryStore {
    async fn freeze(&self) -> Result<Box<dyn Frozen>> {
        not_simulated()
    }

    async fn backlog(&self) -> Result<Backlog> {
        not_simulated()
    }

    async fn leap(&self, _numbers: i64) -> Result<()> {
        not_simulated()
    }
}

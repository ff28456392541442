//! Membership, claim and sequence of one batch (pipeline.md A3, B, C): a look-up in the store, then the cache's script.

use super::hash::{MessageKey, PROBES_MAX, PlaceHasher};
use crate::directory::Directory;
use crate::store::conversation::Roster;
use crate::store::pipeline::{PrepareLookup, StoredRow};
use crate::store::user::{Status, User};
use crate::store::{Store, StoreError};
use gochat_infra::cache::{Cache, CacheError, ClaimRequest, Claimed, Reservation, SequenceReply, SequenceRequest};
use gochat_proto::bus::v1::Sender;
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1::prepared_item::Outcome;
use gochat_proto::im::repo::v1::{
    PrepareConversation, PrepareItem, PrepareMessagesRequest, PrepareMessagesResponse, PreparedConversation,
    PreparedItem,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Members up to which an answer lists all of them (F1).
const MEMBERS_LISTED_MAX: usize = 20;
/// Reservation, script, and once more when the cache lost its counters in between.
const SCRIPT_ROUNDS_MAX: usize = 4;

/// Why a batch was not prepared. Nothing of it may be appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// A newer epoch was drawn (A2).
    #[error("the writer's epoch is superseded")]
    StaleWriter,
    /// The request contradicts the contract.
    #[error("{0}")]
    Invalid(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The cache handed out a number that was used before, or keeps asking for reservations (C1).
    #[error("the cache's counters cannot be trusted: {0}")]
    Counters(&'static str),
}

/// Prepares batches.
pub(crate) struct Preparer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) hasher: PlaceHasher,
    /// Numbers reserved at once (C1).
    pub(crate) block: i64,
}

impl Preparer {
    pub(crate) async fn prepare(
        &self,
        request: PrepareMessagesRequest,
    ) -> Result<PrepareMessagesResponse, PrepareError> {
        let ids = request.conversations.iter().map(|c| c.conversation_id.as_str());
        let rosters = self.directory.conversations(ids).await?;
        let senders = request.conversations.iter().flat_map(|c| &c.items).map(|i| i.sender_id);
        let users = self.directory.users(senders).await?;
        let mut batch = Batch::new(&request, &rosters)?;
        self.look_up(&mut batch, &request).await?;
        batch.refuse_strangers(&users);
        if let Some(incarnation) = self.claim(&mut batch, &request).await? {
            return Ok(PrepareMessagesResponse { incarnation, conversations: Vec::new() });
        }
        Ok(PrepareMessagesResponse { incarnation: request.incarnation, conversations: batch.finish(&users) })
    }

    /// Finds what is stored already (B1, B3), and the floors of new numbers (C1).
    async fn look_up(&self, batch: &mut Batch<'_>, request: &PrepareMessagesRequest) -> Result<(), PrepareError> {
        let conversations = batch.keys();
        let mut probes = batch.first_probes(&self.hasher);
        for probe in 1..=PROBES_MAX {
            let lookup = PrepareLookup {
                partition: request.partition,
                claims: probes.iter().map(|p| p.place).collect(),
                // Asked again with every round: the floors must not be older than the claims.
                conversations: conversations.clone(),
            };
            let answer = self.store.prepare_lookup(lookup).await?;
            if answer.epoch != request.epoch {
                return Err(PrepareError::StaleWriter);
            }
            batch.raise_floors(&answer.top_seqs);
            let taken: HashMap<i64, Option<StoredRow>> = answer.claims.into_iter().collect();
            probes.retain_mut(|p| match taken.get(&p.place) {
                Some(row) => batch.judge(p, row.as_ref()),
                None => false,
            });
            if probes.is_empty() {
                break;
            }
            for p in &mut probes {
                p.place = self.hasher.place(&batch.item_key(p.at), probe);
            }
        }
        for p in &probes {
            batch.refuse(p.at, ErrorCode::ClientMsgIdReused);
        }
        batch.refuse_reused();
        Ok(())
    }

    /// Claims and numbers for what is left; `Some` is another incarnation than the one asked with (B3).
    async fn claim(
        &self,
        batch: &mut Batch<'_>,
        request: &PrepareMessagesRequest,
    ) -> Result<Option<u64>, PrepareError> {
        let mut open: Vec<usize> = (0..batch.conversations.len()).filter(|c| batch.is_open(*c)).collect();
        for _ in 0..SCRIPT_ROUNDS_MAX {
            if open.is_empty() {
                return Ok(None);
            }
            let asks = open.iter().map(|c| batch.sequence_request(*c, request.epoch)).collect();
            let replies = match self.cache.claim_sequences(request.incarnation, asks).await? {
                Ok(replies) => replies,
                Err(other) => return Ok(Some(other)),
            };
            let mut short = Vec::new();
            for (conversation, reply) in open.into_iter().zip(replies) {
                match reply {
                    SequenceReply::Claimed(claimed) => batch.take(conversation, claimed)?,
                    SequenceReply::NeedsReservation => short.push(conversation),
                    SequenceReply::StaleWriter => return Err(PrepareError::StaleWriter),
                }
            }
            self.reserve(batch, &short, request.incarnation).await?;
            open = short;
        }
        if open.is_empty() { Ok(None) } else { Err(PrepareError::Counters("reservations do not stand")) }
    }

    /// Reserves blocks in SQL first, then lets the cache hand them out (C1).
    async fn reserve(&self, batch: &Batch<'_>, short: &[usize], incarnation: u64) -> Result<(), PrepareError> {
        if short.is_empty() {
            return Ok(());
        }
        let works: Vec<&Work<'_>> = short.iter().map(|c| &batch.conversations[*c]).collect();
        let raises: Vec<(i64, i64)> = works.iter().map(|w| (w.key(), self.block.max(w.items.len() as i64))).collect();
        let mut starts = self.store.reserve_sequences(&raises).await?;
        // A bound below a number in use was lost with its table: one more raise takes it above.
        let low = |(_, (work, start)): &(usize, (&&Work<'_>, &i64))| **start < work.floor;
        let low: Vec<usize> = works.iter().zip(&starts).enumerate().filter(low).map(|(i, _)| i).collect();
        if !low.is_empty() {
            let lift = |i: &usize| (works[*i].key(), works[*i].floor - starts[*i] + raises[*i].1);
            let lifts: Vec<(i64, i64)> = low.iter().map(lift).collect();
            self.store.reserve_sequences(&lifts).await?;
            for i in low {
                starts[i] = works[i].floor;
            }
        }
        let reservations = works.iter().zip(&raises).zip(starts).map(|((work, (_, count)), start)| Reservation {
            conversation: work.asked.conversation_id.clone(),
            start,
            bound: start + count,
        });
        self.cache.reserve(incarnation, reservations.collect()).await?;
        Ok(())
    }
}

/// Position of an item in the batch.
#[derive(Clone, Copy)]
struct At {
    conversation: usize,
    item: usize,
}

/// An item whose place in the claims index is still to be looked at.
struct Probe {
    at: At,
    place: i64,
}

/// One batch on its way.
struct Batch<'a> {
    conversations: Vec<Work<'a>>,
}

struct Work<'a> {
    asked: &'a PrepareConversation,
    /// `None`: no such conversation.
    roster: Option<&'a Arc<Roster>>,
    /// Highest number appended under this epoch or stored (C1).
    floor: i64,
    items: Vec<Item>,
}

/// An item's fate.
enum Item {
    /// To be claimed.
    Open,
    /// As open, but its client_msg_id is stored with other content.
    Reused,
    Done(PreparedItem),
}

impl Work<'_> {
    /// 0 for a conversation that does not exist; such a row does not exist either.
    fn key(&self) -> i64 {
        self.roster.map_or(0, |roster| roster.key)
    }

    fn message_key<'b>(&'b self, item: &'b PrepareItem) -> MessageKey<'b> {
        MessageKey {
            conversation: &self.asked.conversation_id,
            sender_id: item.sender_id,
            client_msg_id: item.client_msg_id.as_bytes(),
        }
    }
}

impl<'a> Batch<'a> {
    fn new(
        request: &'a PrepareMessagesRequest,
        rosters: &'a HashMap<&str, Arc<Roster>>,
    ) -> Result<Batch<'a>, PrepareError> {
        if request.conversations.iter().flat_map(|c| &c.items).any(|i| i.content_hash.len() != 16) {
            return Err(PrepareError::Invalid("content_hash has 16 bytes"));
        }
        let work = |asked: &'a PrepareConversation| {
            let roster = rosters.get(asked.conversation_id.as_str());
            let fate = || match roster {
                Some(_) => Item::Open,
                None => refusal(ErrorCode::ConversationNotFound),
            };
            let items = asked.items.iter().map(|_| fate()).collect();
            Work { asked, roster, floor: asked.top_seq, items }
        };
        Ok(Batch { conversations: request.conversations.iter().map(work).collect() })
    }

    fn keys(&self) -> Vec<i64> {
        self.conversations.iter().map(Work::key).collect()
    }

    fn item_key(&self, at: At) -> MessageKey<'_> {
        let work = &self.conversations[at.conversation];
        work.message_key(&work.asked.items[at.item])
    }

    fn first_probes(&self, hasher: &PlaceHasher) -> Vec<Probe> {
        let mut probes = Vec::new();
        for (conversation, work) in self.conversations.iter().enumerate().filter(|(_, w)| w.roster.is_some()) {
            for (item, asked) in work.asked.items.iter().enumerate() {
                let place = hasher.place(&work.message_key(asked), 0);
                probes.push(Probe { at: At { conversation, item }, place });
            }
        }
        probes
    }

    fn raise_floors(&mut self, top_seqs: &[i64]) {
        for (work, top) in self.conversations.iter_mut().zip(top_seqs) {
            work.floor = work.floor.max(*top);
        }
    }

    /// Looks at the row of a taken place; true: the next place has to be looked at.
    fn judge(&mut self, probe: &Probe, row: Option<&StoredRow>) -> bool {
        let work = &mut self.conversations[probe.at.conversation];
        let asked = &work.asked.items[probe.at.item];
        let mine = |row: &&StoredRow| {
            row.conversation == work.roster.map_or(0, |r| r.key)
                && row.sender_id == asked.sender_id
                && row.client_msg_id == asked.client_msg_id.as_bytes()
        };
        let Some(row) = row.filter(mine) else { return true };
        if row.content_hash != hash_of(asked) {
            work.items[probe.at.item] = Item::Reused;
            return true;
        }
        work.items[probe.at.item] = Item::Done(PreparedItem {
            outcome: Outcome::Stored.into(),
            message_id: row.id,
            seq_id: row.seq,
            created_at_ms: row.created_at_ms,
            ..PreparedItem::default()
        });
        false
    }

    fn refuse(&mut self, at: At, code: ErrorCode) {
        self.conversations[at.conversation].items[at.item] = refusal(code);
    }

    /// No row with equal content was found behind the ones with other content (B1).
    fn refuse_reused(&mut self) {
        for item in self.conversations.iter_mut().flat_map(|w| &mut w.items) {
            if matches!(item, Item::Reused) {
                *item = refusal(ErrorCode::ClientMsgIdReused);
            }
        }
    }

    /// Membership and account status (H2), for what is not stored yet: a stored message was accepted once.
    fn refuse_strangers(&mut self, users: &HashMap<i64, Arc<User>>) {
        for work in &mut self.conversations {
            let Some(roster) = work.roster else { continue };
            for (item, asked) in work.items.iter_mut().zip(&work.asked.items) {
                if !matches!(item, Item::Open) {
                    continue;
                }
                match users.get(&asked.sender_id) {
                    _ if roster.members.binary_search(&asked.sender_id).is_err() => {
                        *item = refusal(ErrorCode::NotConversationMember);
                    }
                    None => *item = refusal(ErrorCode::UserNotFound),
                    Some(user) if user.status != Status::Normal => *item = refusal(ErrorCode::UserDisabled),
                    Some(_) => {}
                }
            }
        }
    }

    fn is_open(&self, conversation: usize) -> bool {
        self.conversations[conversation].items.iter().any(|i| matches!(i, Item::Open))
    }

    fn sequence_request(&self, conversation: usize, epoch: i64) -> SequenceRequest {
        let work = &self.conversations[conversation];
        let open = work.items.iter().zip(&work.asked.items).filter(|(item, _)| matches!(item, Item::Open));
        let claims = open.map(|(_, asked)| ClaimRequest {
            key: work.message_key(asked).in_conversation(),
            content_hash: hash_of(asked),
            message_id: asked.message_id,
            created_at_ms: asked.created_at_ms,
            offset: asked.offset,
        });
        let claims = claims.collect();
        SequenceRequest { conversation: work.asked.conversation_id.clone(), epoch, floor: work.floor, claims }
    }

    /// Takes the script's answer for the open items of a conversation.
    fn take(&mut self, conversation: usize, claimed: Vec<Claimed>) -> Result<(), PrepareError> {
        let work = &mut self.conversations[conversation];
        let mut top = work.floor;
        let mut claimed = claimed.into_iter();
        for (item, asked) in work.items.iter_mut().zip(&work.asked.items) {
            if !matches!(item, Item::Open) {
                continue;
            }
            let Some(Claimed { claim, fresh }) = claimed.next() else {
                return Err(PrepareError::Counters("an answer is missing"));
            };
            if fresh && claim.seq <= top {
                return Err(PrepareError::Counters("a fresh number does not increase"));
            }
            if fresh {
                top = claim.seq;
            }
            *item = if claim.content_hash != hash_of(asked) {
                refusal(ErrorCode::ClientMsgIdReused)
            } else {
                Item::Done(PreparedItem {
                    outcome: if fresh { Outcome::Fresh } else { Outcome::Known }.into(),
                    message_id: claim.message_id,
                    seq_id: claim.seq,
                    created_at_ms: claim.created_at_ms,
                    claim_offset: claim.offset,
                    ..PreparedItem::default()
                })
            };
        }
        Ok(())
    }

    fn finish(self, users: &HashMap<i64, Arc<User>>) -> Vec<PreparedConversation> {
        self.conversations.into_iter().map(|work| work.finish(users)).collect()
    }
}

impl Work<'_> {
    fn finish(self, users: &HashMap<i64, Arc<User>>) -> PreparedConversation {
        let mut senders: Vec<i64> = self.asked.items.iter().map(|i| i.sender_id).collect();
        senders.sort_unstable();
        senders.dedup();
        let done = |item| match item {
            Item::Done(item) => item,
            // Not reached: every open item was claimed or refused.
            Item::Open | Item::Reused => refused(ErrorCode::InternalError),
        };
        let items = self.items.into_iter().map(done).collect();
        let senders = senders.iter().filter_map(|id| users.get(id)).map(|user| profile(user)).collect();
        match self.roster {
            Some(roster) => PreparedConversation {
                r#type: roster.kind,
                membership_version: roster.membership_version,
                member_ids: if roster.members.len() <= MEMBERS_LISTED_MAX {
                    roster.members.clone()
                } else {
                    Vec::new()
                },
                items,
                senders,
                member_count: roster.members.len() as i32,
            },
            None => PreparedConversation { items, senders, ..PreparedConversation::default() },
        }
    }
}

fn profile(user: &User) -> Sender {
    Sender {
        id: user.id,
        username: user.username.clone(),
        avatar_url: user.avatar_url.clone(),
        is_guest: user.is_guest,
    }
}

fn refusal(code: ErrorCode) -> Item {
    Item::Done(refused(code))
}

fn refused(code: ErrorCode) -> PreparedItem {
    PreparedItem { outcome: Outcome::Refused.into(), code: code.number(), ..PreparedItem::default() }
}

/// The batch's hashes were checked to have 16 bytes.
fn hash_of(item: &PrepareItem) -> u128 {
    <[u8; 16]>::try_from(item.content_hash.as_ref()).map_or(0, u128::from_be_bytes)
}

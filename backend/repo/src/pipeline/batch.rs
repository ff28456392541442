//! One batch on its way through preparing: what became of each item so far, and why.
//!
//! Owns the verdicts and their order. Pure: what must be known comes from the store, the cache and [`super::people`].

use super::hash::{MessageKey, PlaceHasher};
use super::people::People;
use super::rules;
use crate::store::StoreError;
use crate::store::conversation::Roster;
use crate::store::pipeline::StoredRow;
use crate::store::user::User;
use bytes::Bytes;
use gochat_infra::cache::{CacheError, ClaimRequest, Claimed, SequenceRequest};
use gochat_proto::bus::v1::{Sender, StreamKind};
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1::prepared_item::Outcome;
use gochat_proto::im::repo::v1::{
    PrepareConversation, PrepareItem, PrepareMessagesRequest, PreparedConversation, PreparedItem,
};
use gochat_proto::rooms::MEMBERS_WITHOUT_ROOM;
use std::collections::HashMap;
use std::sync::Arc;

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

/// Position of an item in the batch.
#[derive(Clone, Copy)]
pub(super) struct At {
    conversation: usize,
    item: usize,
}

/// An item whose place in the claims index is still to be looked at.
pub(super) struct Probe {
    pub(super) at: At,
    pub(super) place: i64,
}

/// One batch on its way.
pub(super) struct Batch<'a> {
    pub(super) conversations: Vec<Work<'a>>,
    /// Conversations and keys of what a rule refused: a claim that stands under one belongs to nothing that was appended.
    void_claims: Vec<(String, Bytes)>,
}

/// The batch's items of one conversation.
pub(super) struct Work<'a> {
    pub(super) asked: &'a PrepareConversation,
    /// `None`: no such conversation.
    roster: Option<&'a Arc<Roster>>,
    /// Highest number appended under this epoch or stored (C1).
    pub(super) floor: i64,
    pub(super) items: Vec<Item>,
}

/// An item's fate.
pub(super) enum Item {
    /// To be claimed.
    Open,
    /// As open, but its client_msg_id is stored with other content.
    Reused,
    Done(PreparedItem),
}

impl Work<'_> {
    /// 0 for a conversation that does not exist; such a row does not exist either.
    pub(super) fn key(&self) -> i64 {
        self.roster.map_or(0, |roster| roster.key)
    }

    fn message_key<'b>(&'b self, item: &'b PrepareItem) -> MessageKey<'b> {
        key_of(self.asked, item)
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(
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
        Ok(Batch { conversations: request.conversations.iter().map(work).collect(), void_claims: Vec::new() })
    }

    pub(super) fn keys(&self) -> Vec<i64> {
        self.conversations.iter().map(Work::key).collect()
    }

    pub(super) fn item_key(&self, at: At) -> MessageKey<'_> {
        let work = &self.conversations[at.conversation];
        work.message_key(&work.asked.items[at.item])
    }

    pub(super) fn first_probes(&self, hasher: &PlaceHasher) -> Vec<Probe> {
        let mut probes = Vec::new();
        for (conversation, work) in self.conversations.iter().enumerate().filter(|(_, w)| w.roster.is_some()) {
            for (item, asked) in work.asked.items.iter().enumerate() {
                let place = hasher.place(&work.message_key(asked), 0);
                probes.push(Probe { at: At { conversation, item }, place });
            }
        }
        probes
    }

    pub(super) fn raise_floors(&mut self, top_seqs: &[i64]) {
        for (work, top) in self.conversations.iter_mut().zip(top_seqs) {
            work.floor = work.floor.max(*top);
        }
    }

    /// Looks at the row of a taken place; true: the next place has to be looked at.
    pub(super) fn judge(&mut self, probe: &Probe, row: Option<&StoredRow>) -> bool {
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

    pub(super) fn refuse(&mut self, at: At, code: ErrorCode) {
        self.conversations[at.conversation].items[at.item] = refusal(code);
    }

    /// No row with equal content was found behind the ones with other content (B1).
    pub(super) fn refuse_reused(&mut self) {
        for item in self.conversations.iter_mut().flat_map(|w| &mut w.items) {
            if matches!(item, Item::Reused) {
                *item = refusal(ErrorCode::ClientMsgIdReused);
            }
        }
    }

    /// The rules of sending, for what is not stored yet: a stored message was accepted once.
    pub(super) fn judge_speakers(&mut self, people: &People) {
        for work in &mut self.conversations {
            let Some(roster) = work.roster else { continue };
            for (item, asked) in work.items.iter_mut().zip(&work.asked.items) {
                if !matches!(item, Item::Open) {
                    continue;
                }
                let speaker = people.speaker(roster, asked.sender_id);
                if let Err(code) = rules::may_send(roster, speaker, asked.kind(), asked.created_at_ms) {
                    *item = refusal(code);
                    self.void_claims.push(claim_of(work.asked, asked));
                }
            }
        }
    }

    /// The rules of recalling (D3). Behind a recall whose message is not stored yet, what its conversation's order depends on
    /// waits with it. A claim that the cache knows is judged again: what was appended under it is answered by the store, or
    /// by the writer that appended it, so nothing of it was acknowledged.
    pub(super) fn judge_recalls(&mut self, people: &People, targets_final: bool) {
        for work in &mut self.conversations {
            let Some(roster) = work.roster else { continue };
            let mut waits = false;
            for (item, asked) in work.items.iter_mut().zip(&work.asked.items) {
                if !matches!(item, Item::Open) {
                    continue;
                }
                if asked.kind() == StreamKind::Recall && !waits {
                    let target = people.target(asked.recalled_message_id);
                    waits = target.is_none() && !targets_final;
                    let author = target.and_then(|target| people.standing(roster, target.sender_id));
                    let speaker = people.speaker(roster, asked.sender_id);
                    let judged = rules::may_recall(roster, speaker, target, author, asked.created_at_ms);
                    if let (Err(code), false) = (judged, waits) {
                        *item = refusal(code);
                        self.void_claims.push(claim_of(work.asked, asked));
                    }
                }
                if waits {
                    let outcome = Outcome::TargetUnstored.into();
                    *item = Item::Done(PreparedItem { outcome, ..PreparedItem::default() });
                }
            }
        }
    }

    /// Claims that have to go before the answer does (B4). A batch may be asked again: it may have been claimed when it was
    /// asked first and be refused now, and a later resend would then be acknowledged though nothing was ever appended. What
    /// was appended does not stand here: the store, or the writer's memory, answers for it before the rules do.
    pub(super) fn take_void_claims(&mut self) -> Vec<(String, Bytes)> {
        std::mem::take(&mut self.void_claims)
    }

    pub(super) fn is_open(&self, conversation: usize) -> bool {
        self.conversations[conversation].items.iter().any(|i| matches!(i, Item::Open))
    }

    pub(super) fn sequence_request(&self, conversation: usize, epoch: i64) -> SequenceRequest {
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
    pub(super) fn take(&mut self, conversation: usize, claimed: Vec<Claimed>) -> Result<(), PrepareError> {
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

    pub(super) fn finish(self, people: &People) -> Vec<PreparedConversation> {
        self.conversations.into_iter().map(|work| work.finish(people)).collect()
    }
}

impl Work<'_> {
    fn finish(self, people: &People) -> PreparedConversation {
        let mut senders: Vec<i64> = self.asked.items.iter().map(|i| i.sender_id).collect();
        senders.sort_unstable();
        senders.dedup();
        let done = |(item, asked): (Item, &PrepareItem)| match item {
            Item::Done(item) if asked.kind() == StreamKind::Recall => {
                let target = people.target(asked.recalled_message_id);
                PreparedItem { recalled_seq: target.map_or(0, |target| target.seq), ..item }
            }
            Item::Done(item) => item,
            // Not reached: every open item was claimed or refused.
            Item::Open | Item::Reused => refused(ErrorCode::InternalError),
        };
        let items = self.items.into_iter().zip(&self.asked.items).map(done).collect();
        let senders = senders.iter().filter_map(|id| people.user(*id)).map(profile).collect();
        let Some(roster) = self.roster else {
            return PreparedConversation { items, senders, ..PreparedConversation::default() };
        };
        let is_listed = !roster.dissolved && roster.members.len() <= MEMBERS_WITHOUT_ROOM as usize;
        PreparedConversation {
            r#type: roster.kind,
            membership_version: if roster.is_world() { 0 } else { roster.membership_version },
            member_ids: if is_listed { roster.members.clone() } else { Vec::new() },
            items,
            senders,
            member_count: roster.member_count,
        }
    }
}

fn key_of<'b>(conversation: &'b PrepareConversation, item: &'b PrepareItem) -> MessageKey<'b> {
    MessageKey {
        conversation: &conversation.conversation_id,
        sender_id: item.sender_id,
        client_msg_id: item.client_msg_id.as_bytes(),
    }
}

/// Where the cache keeps an item's claim.
fn claim_of(conversation: &PrepareConversation, item: &PrepareItem) -> (String, Bytes) {
    (conversation.conversation_id.clone(), key_of(conversation, item).in_conversation())
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
    PreparedItem {
        outcome: Outcome::Refused.into(),
        code: code.number(),
        code_name: if code.owns_number() { String::new() } else { code.as_str().to_owned() },
        ..PreparedItem::default()
    }
}

/// The batch's hashes were checked to have 16 bytes.
fn hash_of(item: &PrepareItem) -> u128 {
    <[u8; 16]>::try_from(item.content_hash.as_ref()).map_or(0, u128::from_be_bytes)
}

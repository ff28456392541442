//! Persisting records: rows, effects and the log position in one transaction (pipeline.md E1, A2, B5, D1).

use super::hash::{MessageKey, PlaceHasher};
use super::positions::Positions;
use super::settle::{Candidate, Fate, Settled, settle};
use crate::directory::Directory;
use crate::events;
use crate::store::conversation::Roster;
use crate::store::pipeline::{Advance, LogState, Parked};
use crate::store::{Result, Store};
use bytes::Bytes;
use gochat_infra::cache::Cache;
use gochat_infra::clock::Clock;
use gochat_proto::bus::v1::{Ack, OutboxEvent, PersistMessage, PersistRecord, StreamKind};
use gochat_proto::common::v1::MessageType;
use gochat_proto::events::EventBody;
use gochat_proto::im::repo::v1::{SaveRecordsRequest, SaveRecordsResponse};
use prost::Message as _;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SYSTEM: i32 = MessageType::System as i32;
/// How long the cache remembers a claim that is stored: longer than a batch stays between its look-up in the store and
/// the cache's script.
const CLAIM_KEPT: Duration = Duration::from_secs(10);

/// Saves records.
pub(crate) struct Saver {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) positions: Arc<Positions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hasher: PlaceHasher,
}

impl Saver {
    pub(crate) async fn save(&self, request: SaveRecordsRequest) -> Result<SaveRecordsResponse> {
        let records: Vec<Record> = request.records.into_iter().map(Record::decode).collect();
        let ids = records.iter().flat_map(Record::messages).map(|m| m.conversation_id.as_str());
        let rosters = self.directory.conversations(ids).await?;
        let now_ms = self.clock.unix_ms();
        let mut tx = self.store.begin_persist(request.partition, now_ms).await?;
        let before = tx.log_state().await?;
        let plan = Plan::new(&records, before, &rosters);
        let settled = settle(&mut *tx, self.hasher, &plan.candidates).await?;
        let effects = Effects::of(&plan, settled, request.partition, now_ms);
        if !effects.recalled.is_empty() {
            tx.recall_messages(&effects.recalled).await?;
        }
        if !effects.advances.is_empty() {
            tx.advance(&effects.advances).await?;
        }
        if !effects.parked.is_empty() {
            tx.park(&effects.parked).await?;
        }
        if effects.answer.outbox_pending {
            tx.add_outbox(&effects.outbox, &effects.events).await?;
        }
        if plan.after != before {
            tx.set_log_state(plan.after).await?;
        }
        tx.commit().await?;
        self.after_commit(request.partition, &effects).await;
        Ok(SaveRecordsResponse { next_offset: plan.after.next_offset, ..effects.answer })
    }

    /// What follows the commit may be lost: claims end by themselves, and positions are read from the store.
    async fn after_commit(&self, partition: u32, effects: &Effects) {
        for parked in &effects.parked {
            tracing::error!(
                partition, log_offset = parked.log_offset, conversation = %parked.conversation,
                reason = %parked.reason, "a record cannot be stored: parked"
            );
        }
        if !effects.claims.is_empty()
            && let Err(error) = self.cache.release_claims(effects.claims.clone(), CLAIM_KEPT).await
        {
            tracing::warn!(%error, "claims of stored messages were not released");
        }
        self.positions.moved();
    }
}

/// A record as it came from the log.
struct Record {
    offset: i64,
    /// The bytes themselves when they are no record.
    content: std::result::Result<PersistRecord, Bytes>,
}

impl Record {
    fn decode(record: gochat_proto::im::repo::v1::SaveRecord) -> Record {
        let content = PersistRecord::decode(record.record.clone()).map_err(|_| record.record);
        Record { offset: record.offset, content }
    }

    fn messages(&self) -> &[PersistMessage] {
        self.content.as_ref().map_or(&[], |record| &record.messages)
    }
}

/// What a batch of records asks for, judged before anything is written.
struct Plan<'a> {
    /// Offset of each candidate's record.
    offsets: Vec<i64>,
    candidates: Vec<Candidate<'a>>,
    /// Messages that cannot even be tried.
    hopeless: Vec<Hopeless<'a>>,
    /// Messages void for their epoch (A2).
    stale: u32,
    after: LogState,
}

struct Hopeless<'a> {
    offset: i64,
    conversation: &'a str,
    /// Key of the conversation, if there is one.
    key: Option<i64>,
    /// 0: unknown.
    message_id: i64,
    reason: &'static str,
    bytes: Bytes,
}

impl<'a> Plan<'a> {
    fn new(records: &'a [Record], before: LogState, rosters: &HashMap<&str, Arc<Roster>>) -> Plan<'a> {
        let mut plan =
            Plan { offsets: Vec::new(), candidates: Vec::new(), hopeless: Vec::new(), stale: 0, after: before };
        for record in records {
            if record.offset < plan.after.next_offset {
                continue;
            }
            // After a failover the store may stand further back: the caller goes on from there.
            if record.offset > plan.after.next_offset {
                break;
            }
            plan.after.next_offset = record.offset + 1;
            match &record.content {
                Ok(content) if content.epoch < plan.after.epoch_seen => plan.stale += content.messages.len() as u32,
                Ok(content) => {
                    plan.after.epoch_seen = content.epoch;
                    plan.try_messages(record.offset, &content.messages, rosters);
                }
                Err(bytes) => plan.hopeless.push(Hopeless {
                    offset: record.offset,
                    conversation: "",
                    key: None,
                    message_id: 0,
                    reason: "not a persist record",
                    bytes: bytes.clone(),
                }),
            }
        }
        plan
    }

    fn try_messages(&mut self, offset: i64, messages: &'a [PersistMessage], rosters: &HashMap<&str, Arc<Roster>>) {
        for message in messages {
            let hash = <[u8; 16]>::try_from(message.content_hash.as_ref());
            let roster = rosters.get(message.conversation_id.as_str());
            let reason = match (roster, hash) {
                (Some(roster), Ok(hash)) if message.seq_id > 0 && message.message_id > 0 => {
                    self.offsets.push(offset);
                    let content_hash = u128::from_be_bytes(hash);
                    self.candidates.push(Candidate { message, conversation: roster.key, content_hash });
                    continue;
                }
                (None, _) => "its conversation does not exist",
                (Some(_), Err(_)) => "its content hash does not have 16 bytes",
                (Some(_), Ok(_)) => "its id or number is not positive",
            };
            self.hopeless.push(Hopeless {
                offset,
                conversation: &message.conversation_id,
                key: roster.map(|r| r.key),
                message_id: message.message_id.max(0),
                reason,
                bytes: message.encode_to_vec().into(),
            });
        }
    }
}

/// What a transaction writes besides the rows.
#[derive(Default)]
struct Effects {
    advances: Vec<Advance>,
    parked: Vec<Parked>,
    outbox: Vec<Bytes>,
    events: Vec<OutboxEvent>,
    /// Conversation keys and ids of messages that recalls name.
    recalled: Vec<(i64, i64)>,
    /// Claims that the store has taken over.
    claims: Vec<(String, Bytes)>,
    answer: SaveRecordsResponse,
}

impl Effects {
    fn of(plan: &Plan<'_>, settled: Settled, partition: u32, now_ms: i64) -> Effects {
        let mut effects = Effects::default();
        let mut advances: HashMap<i64, Advance> = HashMap::new();
        let mut kept = 0u64;
        for hopeless in &plan.hopeless {
            if let Some(conversation) = hopeless.key {
                advances.insert(conversation, Advance { conversation, parked: true, ..Advance::default() });
            }
            effects.parked.push(Parked {
                partition,
                log_offset: hopeless.offset,
                conversation: hopeless.conversation.to_owned(),
                message_id: hopeless.message_id,
                reason: hopeless.reason.into(),
                message: hopeless.bytes.clone(),
                parked_at_ms: now_ms,
            });
        }
        for ((candidate, offset), fate) in plan.candidates.iter().zip(&plan.offsets).zip(settled.fates) {
            let message = candidate.message;
            let advance = advances
                .entry(candidate.conversation)
                .or_insert(Advance { conversation: candidate.conversation, ..Advance::default() });
            match fate {
                Fate::Stored => {
                    kept += 1;
                    store(advance, message);
                    if message.kind() == StreamKind::Recall {
                        effects.recalled.push((candidate.conversation, message.recalled_message_id));
                        effects.events.push(recalled_event(message));
                    }
                }
                Fate::Void(row) => {
                    effects.answer.voided += 1;
                    pass(advance, message.seq_id);
                    let ack = corrected_ack(message, row.id, row.seq, row.created_at_ms);
                    effects.outbox.push(ack.encode_to_vec().into());
                }
                Fate::Parked(reason) => {
                    advance.parked = true;
                    effects.parked.push(Parked {
                        partition,
                        log_offset: *offset,
                        conversation: message.conversation_id.clone(),
                        message_id: message.message_id,
                        reason,
                        message: message.encode_to_vec().into(),
                        parked_at_ms: now_ms,
                    });
                    continue;
                }
            }
            let key = MessageKey {
                conversation: &message.conversation_id,
                sender_id: message.sender_id,
                client_msg_id: message.client_msg_id.as_bytes(),
            };
            effects.claims.push((message.conversation_id.clone(), key.in_conversation()));
        }
        effects.advances = advances.into_values().collect();
        effects.advances.sort_unstable_by_key(|a| a.conversation);
        effects.answer.saved = u32::try_from(settled.new).unwrap_or(u32::MAX);
        effects.answer.repeated_messages = u32::try_from(kept.saturating_sub(settled.new)).unwrap_or(u32::MAX);
        effects.answer.voided += plan.stale;
        effects.answer.parked = effects.parked.len() as u32;
        effects.answer.outbox_pending = !effects.outbox.is_empty() || !effects.events.is_empty();
        effects
    }
}

/// A row is in: numbers rise; what a person wrote is the last message, and all but a recall is activity.
fn store(advance: &mut Advance, message: &PersistMessage) {
    advance.last_seq = advance.last_seq.max(message.seq_id);
    if message.message_type != SYSTEM && message.seq_id > advance.last_message_seq {
        advance.last_message_seq = message.seq_id;
        advance.last_message_id = message.message_id;
    }
    advance.active |= message.kind() != StreamKind::Recall;
    pass(advance, message.seq_id);
}

/// What a recall's row says of itself.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RecallExtra {
    seq_id: i64,
    reason: String,
}

/// For who listens to messages; those who are connected hear of a recall from its push.
fn recalled_event(message: &PersistMessage) -> OutboxEvent {
    let RecallExtra { seq_id, reason } = serde_json::from_str(&message.extra).unwrap_or_default();
    let body = EventBody::MessageRecalled { message_id: message.recalled_message_id.to_string(), seq_id, reason };
    events::of_conversation(message.created_at_ms, &message.conversation_id, message.sender_id, body)
}

/// Everything up to a number is stored or void, unless something before it was parked (D1).
fn pass(advance: &mut Advance, seq: i64) {
    if !advance.parked {
        advance.stored_through_seq = advance.stored_through_seq.max(seq);
    }
}

fn corrected_ack(message: &PersistMessage, message_id: i64, seq_id: i64, created_at_ms: i64) -> Ack {
    Ack {
        origin: message.origin,
        client_msg_id: message.client_msg_id.clone(),
        temp_message_id: message.temp_message_id.clone(),
        conversation_id: message.conversation_id.clone(),
        message_id,
        seq_id,
        created_at_ms,
        duplicate: true,
        corrected: true,
    }
}

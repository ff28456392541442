//! One batch of upstream records: decoded, validated, grouped by conversation, and what became of each.
//!
//! Owns the rules of spec 06 §3.1 step 4 and the choice of pipeline.md B4. Pure: no clock, no I/O; never decides
//! membership, claims or numbers, which repo settles for the whole batch.

use std::collections::HashMap;
use std::mem::take;

use bytes::Bytes;
use gochat_infra::bus::{Consumed, Offset, partition_of};
use gochat_proto::bus::v1::{PersistMessage, UpstreamMessage};
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1::prepared_item::Outcome;
use gochat_proto::im::repo::v1::{PrepareConversation, PrepareItem, PreparedConversation, PreparedItem};
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_128;

/// Characters of a message's content at most.
const CONTENT_CHARS_MAX: usize = 5_000;
/// Bytes of `extra` at most.
const EXTRA_BYTES_MAX: usize = 4 * 1024;
/// Characters of `client_msg_id` at most.
const CLIENT_MSG_ID_CHARS_MAX: usize = 64;
/// Bytes of a conversation id at most.
const CONVERSATION_ID_BYTES_MAX: usize = 64;

/// The ids a message is acknowledged under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) message_id: i64,
    pub(crate) seq_id: i64,
    pub(crate) created_at_ms: i64,
}

/// Whether recipients hear of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    No,
    First,
    Redelivered,
}

/// What became of one upstream record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Repo has to be asked.
    Open,
    /// Refused with this number of `common.v1.ErrorCode`; nothing is stored.
    Refused { code: i32 },
    /// Acknowledged under these ids once the epoch has been checked.
    Settled { ids: Ids, append: bool, push: Push, duplicate: bool },
}

/// One upstream record of a batch.
pub(crate) struct Item {
    pub(crate) offset: Offset,
    pub(crate) message: UpstreamMessage,
    pub(crate) content_hash: u128,
    /// Index into [`Batch::conversations`].
    pub(crate) conversation: usize,
    /// Ids proposed to repo; the same ones however often the batch is asked again.
    pub(crate) candidate_id: i64,
    pub(crate) verdict: Verdict,
}

/// A batch in upstream order.
pub(crate) struct Batch {
    pub(crate) items: Vec<Item>,
    /// Conversation ids in order of first appearance.
    pub(crate) conversations: Vec<String>,
    /// Offset of the first record.
    pub(crate) first: Offset,
    /// Offset behind the last record.
    pub(crate) next: Offset,
    /// Records that could not be decoded or do not belong to this partition; they are skipped.
    pub(crate) undecodable: usize,
    /// Candidate creation time of every message in it.
    pub(crate) created_at_ms: i64,
}

/// Why repo's answer cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum AnswerError {
    #[error("the answer has another shape than the question")]
    Shape,
    #[error("seq {seq} of conversation {conversation} does not increase above {top}")]
    Regressed { conversation: String, seq: i64, top: i64 },
}

impl Batch {
    /// Decodes `records` of upstream partition `partition` out of `partitions`; each takes the candidate id at its
    /// index, records without one are left for the next batch.
    pub(crate) fn decode(
        records: &[Consumed],
        partition: u32,
        partitions: u32,
        created_at_ms: i64,
        candidate_ids: &[i64],
    ) -> Batch {
        let mut batch = Batch {
            items: Vec::with_capacity(records.len()),
            conversations: Vec::new(),
            first: records.first().map_or(0, |r| r.offset),
            next: records.first().map_or(0, |r| r.offset),
            undecodable: 0,
            created_at_ms,
        };
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut scratch = Vec::new();
        for (record, candidate_id) in records.iter().zip(candidate_ids.iter().copied()) {
            batch.next = record.offset + 1;
            let message = match UpstreamMessage::decode(record.value.clone()) {
                Ok(m) if partition_of(m.conversation_id.as_bytes(), partitions) == partition => m,
                Ok(_) | Err(_) => {
                    batch.undecodable += 1;
                    tracing::error!(partition, offset = record.offset, "upstream record is not usable here, skipped");
                    continue;
                }
            };
            let conversation = match index.get(&message.conversation_id) {
                Some(known) => *known,
                None => {
                    batch.conversations.push(message.conversation_id.clone());
                    index.insert(message.conversation_id.clone(), batch.conversations.len() - 1);
                    batch.conversations.len() - 1
                }
            };
            let verdict = match check(&message) {
                Ok(()) => Verdict::Open,
                Err(code) => Verdict::Refused { code: code.number() },
            };
            batch.items.push(Item {
                offset: record.offset,
                content_hash: content_hash(&message, &mut scratch),
                message,
                conversation,
                candidate_id,
                verdict,
            });
        }
        batch
    }

    /// What repo is asked: the open items by conversation, in upstream order.
    pub(crate) fn question(&self, top_seq: impl Fn(&str) -> i64) -> Question {
        let mut asked = Question { conversations: Vec::new() };
        let mut slots = vec![usize::MAX; self.conversations.len()];
        for (row, item) in self.items.iter().enumerate().filter(|(_, i)| i.verdict == Verdict::Open) {
            let slot = &mut slots[item.conversation];
            if *slot == usize::MAX {
                *slot = asked.conversations.len();
                let top_seq = top_seq(&self.conversations[item.conversation]);
                asked.conversations.push(Asked { conversation: item.conversation, top_seq, rows: Vec::new() });
            }
            asked.conversations[*slot].rows.push(row);
        }
        asked
    }

    /// The question as it is sent.
    pub(crate) fn ask(&self, question: &Question) -> Vec<PrepareConversation> {
        let item = |row: &usize| {
            let item = &self.items[*row];
            PrepareItem {
                offset: item.offset,
                sender_id: item.message.sender_id,
                client_msg_id: item.message.client_msg_id.clone(),
                content_hash: Bytes::copy_from_slice(&item.content_hash.to_be_bytes()),
                message_id: item.candidate_id,
                created_at_ms: self.created_at_ms,
                kind: item.message.kind,
                recalled_message_id: item.message.recalled_message_id,
            }
        };
        let conversation = |asked: &Asked| PrepareConversation {
            conversation_id: self.conversations[asked.conversation].clone(),
            top_seq: asked.top_seq,
            items: asked.rows.iter().map(item).collect(),
        };
        question.conversations.iter().map(conversation).collect()
    }

    /// Takes repo's answer to `asked`: every open item gets its verdict, or the answer is refused as a whole.
    pub(crate) fn settle(
        &mut self,
        asked: &Question,
        answer: &[PreparedConversation],
        end_at_draw: Offset,
        repeat_known: bool,
    ) -> Result<(), AnswerError> {
        if answer.len() != asked.conversations.len() {
            return Err(AnswerError::Shape);
        }
        for (Asked { conversation, top_seq, rows }, answered) in asked.conversations.iter().zip(answer) {
            if rows.len() != answered.items.len() {
                return Err(AnswerError::Shape);
            }
            let mut top = *top_seq;
            for (row, prepared) in rows.iter().zip(&answered.items) {
                if prepared.outcome() == Outcome::Fresh {
                    if prepared.seq_id <= top {
                        return Err(AnswerError::Regressed {
                            conversation: self.conversations[*conversation].clone(),
                            seq: prepared.seq_id,
                            top,
                        });
                    }
                    top = prepared.seq_id;
                }
                let item = &mut self.items[*row];
                item.verdict = decide(prepared, item.offset, end_at_draw, repeat_known).ok_or(AnswerError::Shape)?;
            }
        }
        Ok(())
    }

    /// The messages that go into the batch's one persist record, in upstream order. `kinds` gives the type of a
    /// conversation by its index. Their texts are lent out: [`Batch::take_back`] follows.
    pub(crate) fn lend_appends(&mut self, kinds: impl Fn(usize) -> i32) -> Vec<PersistMessage> {
        self.appended()
            .map(|(item, ids)| PersistMessage {
                message_id: ids.message_id,
                conversation_id: take(&mut item.message.conversation_id),
                conversation_type: kinds(item.conversation),
                sender_id: item.message.sender_id,
                message_type: item.message.message_type,
                content: take(&mut item.message.content),
                extra: take(&mut item.message.extra),
                seq_id: ids.seq_id,
                client_msg_id: take(&mut item.message.client_msg_id),
                content_hash: Bytes::copy_from_slice(&item.content_hash.to_be_bytes()),
                created_at_ms: ids.created_at_ms,
                temp_message_id: take(&mut item.message.temp_message_id),
                origin: item.message.origin,
                kind: item.message.kind,
                recalled_message_id: item.message.recalled_message_id,
            })
            .collect()
    }

    /// Takes back what [`Batch::lend_appends`] lent out.
    pub(crate) fn take_back(&mut self, messages: Vec<PersistMessage>) {
        for ((item, _), lent) in self.appended().zip(messages) {
            item.message.conversation_id = lent.conversation_id;
            item.message.content = lent.content;
            item.message.extra = lent.extra;
            item.message.client_msg_id = lent.client_msg_id;
            item.message.temp_message_id = lent.temp_message_id;
        }
    }

    fn appended(&mut self) -> impl Iterator<Item = (&mut Item, Ids)> {
        self.items.iter_mut().filter_map(|item| match item.verdict {
            Verdict::Settled { ids, append: true, .. } => Some((item, ids)),
            Verdict::Settled { .. } | Verdict::Refused { .. } | Verdict::Open => None,
        })
    }
}

/// A question to repo and where its answers belong.
pub(crate) struct Question {
    pub(crate) conversations: Vec<Asked>,
}

/// What is asked about one conversation.
pub(crate) struct Asked {
    /// Index in the batch.
    pub(crate) conversation: usize,
    /// Highest number this writer knows of.
    top_seq: i64,
    /// Indices of its items in the batch.
    rows: Vec<usize>,
}

/// B4: which of the outcomes are appended (again), and which are pushed (again). `None` for an unknown outcome.
fn decide(prepared: &PreparedItem, offset: Offset, end_at_draw: Offset, repeat_known: bool) -> Option<Verdict> {
    let ids = Ids { message_id: prepared.message_id, seq_id: prepared.seq_id, created_at_ms: prepared.created_at_ms };
    let settled = |append, push, duplicate| Some(Verdict::Settled { ids, append, push, duplicate });
    match prepared.outcome() {
        Outcome::Fresh => settled(true, Push::First, false),
        // Claimed by this very record or a later one: a redelivery, or an answer that was lost.
        Outcome::Known if offset <= prepared.claim_offset && repeat_known => settled(true, Push::First, false),
        Outcome::Known => settled(false, Push::No, true),
        Outcome::Stored if offset < end_at_draw => settled(false, Push::Redelivered, true),
        Outcome::Stored => settled(false, Push::No, true),
        Outcome::Refused => Some(Verdict::Refused { code: prepared.code }),
        Outcome::TargetUnstored | Outcome::Unspecified => None,
    }
}

fn check(message: &UpstreamMessage) -> Result<(), ErrorCode> {
    if message.sender_id <= 0
        || message.conversation_id.is_empty()
        || message.conversation_id.len() > CONVERSATION_ID_BYTES_MAX
        || message.client_msg_id.is_empty()
        || message.client_msg_id.chars().count() > CLIENT_MSG_ID_CHARS_MAX
    {
        return Err(ErrorCode::InvalidMessage);
    }
    if !matches!(message.message_type, 1 | 2 | 3 | 5 | 6) {
        return Err(ErrorCode::UnsupportedMessageType);
    }
    if message.content.is_empty() {
        return Err(ErrorCode::MessageEmpty);
    }
    // Bytes bound characters from above, so that the usual short message is never counted.
    if message.content.len() > CONTENT_CHARS_MAX && message.content.chars().count() > CONTENT_CHARS_MAX {
        return Err(ErrorCode::MessageTooLarge);
    }
    if message.extra.len() > EXTRA_BYTES_MAX {
        return Err(ErrorCode::MessageTooLarge);
    }
    if !message.extra.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(&message.extra).is_err() {
        return Err(ErrorCode::InvalidMessage);
    }
    Ok(())
}

/// B1: of the length-prefixed type, content and extra as they came in.
fn content_hash(message: &UpstreamMessage, scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(&message.message_type.to_le_bytes());
    for part in [&message.content, &message.extra] {
        scratch.extend_from_slice(&(part.len() as u64).to_le_bytes());
        scratch.extend_from_slice(part.as_bytes());
    }
    xxh3_128(scratch)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    fn upstream(content: &str, client_msg_id: &str) -> UpstreamMessage {
        UpstreamMessage {
            sender_id: 7,
            conversation_id: "c1".into(),
            message_type: 1,
            content: content.into(),
            client_msg_id: client_msg_id.into(),
            ..UpstreamMessage::default()
        }
    }

    fn consumed(offset: Offset, message: &UpstreamMessage) -> Consumed {
        Consumed {
            offset,
            key: Bytes::new(),
            value: message.encode_to_vec().into(),
            trace_id: Bytes::new(),
            produced_at_ms: 0,
        }
    }

    fn decode(records: &[Consumed]) -> Batch {
        let ids: Vec<i64> = (101..).take(records.len()).collect();
        Batch::decode(records, 0, 1, 5, &ids)
    }

    fn prepared(outcome: Outcome, seq_id: i64, claim_offset: i64) -> PreparedItem {
        PreparedItem { outcome: outcome as i32, message_id: 1, seq_id, claim_offset, ..PreparedItem::default() }
    }

    fn verdict_of(outcome: Outcome, claim_offset: i64, offset: i64, end: i64) -> Verdict {
        decide(&prepared(outcome, 9, claim_offset), offset, end, true).unwrap()
    }

    fn is(verdict: Verdict, wanted: (bool, Push, bool)) -> bool {
        matches!(verdict, Verdict::Settled { append, push, duplicate, .. } if (append, push, duplicate) == wanted)
    }

    #[test]
    fn a_known_record_is_produced_again_only_up_to_its_claims_offset() {
        assert!(is(verdict_of(Outcome::Known, 10, 10, 0), (true, Push::First, false)));
        assert!(is(verdict_of(Outcome::Known, 10, 9, 0), (true, Push::First, false)));
        assert!(is(verdict_of(Outcome::Known, 10, 11, 0), (false, Push::No, true)));
    }

    #[test]
    fn a_stored_record_is_pushed_again_only_below_the_end_of_the_draw() {
        assert!(is(verdict_of(Outcome::Stored, 0, 4, 5), (false, Push::Redelivered, true)));
        assert!(is(verdict_of(Outcome::Stored, 0, 5, 5), (false, Push::No, true)));
    }

    #[test]
    fn a_fresh_number_that_does_not_increase_is_noticed() {
        let mut batch = decode(&[consumed(0, &upstream("a", "1")), consumed(1, &upstream("b", "2"))]);
        let asked = batch.question(|_| 4);
        let answer = |first, second| {
            vec![PreparedConversation {
                items: vec![prepared(Outcome::Fresh, first, 0), prepared(Outcome::Fresh, second, 0)],
                ..PreparedConversation::default()
            }]
        };
        assert!(matches!(batch.settle(&asked, &answer(4, 5), 0, true), Err(AnswerError::Regressed { seq: 4, .. })));
        assert!(matches!(batch.settle(&asked, &answer(6, 6), 0, true), Err(AnswerError::Regressed { seq: 6, .. })));
        assert_eq!(batch.settle(&asked, &answer(5, 6), 0, true), Ok(()));
        assert_eq!(batch.lend_appends(|_| 1).iter().map(|m| m.seq_id).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        let mut batch = decode(&[consumed(0, &upstream("a", "1"))]);
        let asked = batch.question(|_| 0);
        assert_eq!(batch.settle(&asked, &[], 0, true), Err(AnswerError::Shape));
        assert_eq!(batch.settle(&asked, &[PreparedConversation::default()], 0, true), Err(AnswerError::Shape));
    }

    #[test]
    fn bad_messages_are_refused_and_never_asked_about() {
        let long = "é".repeat(CONTENT_CHARS_MAX + 1);
        let cases: Vec<(UpstreamMessage, ErrorCode)> = vec![
            (upstream("", "1"), ErrorCode::MessageEmpty),
            (upstream(&long, "1"), ErrorCode::MessageTooLarge),
            (upstream("a", ""), ErrorCode::InvalidMessage),
            (upstream("a", &"x".repeat(65)), ErrorCode::InvalidMessage),
            (UpstreamMessage { message_type: 4, ..upstream("a", "1") }, ErrorCode::UnsupportedMessageType),
            (UpstreamMessage { extra: "{".into(), ..upstream("a", "1") }, ErrorCode::InvalidMessage),
            (UpstreamMessage { extra: "1".repeat(4097), ..upstream("a", "1") }, ErrorCode::MessageTooLarge),
            (UpstreamMessage { sender_id: 0, ..upstream("a", "1") }, ErrorCode::InvalidMessage),
        ];
        for (message, code) in cases {
            let batch = decode(&[consumed(0, &message)]);
            assert_eq!(batch.items[0].verdict, Verdict::Refused { code: code.number() }, "{code:?}");
            assert!(batch.question(|_| 0).conversations.is_empty());
        }
        let longest = upstream(&"é".repeat(CONTENT_CHARS_MAX), &"x".repeat(64));
        assert_eq!(decode(&[consumed(0, &longest)]).items[0].verdict, Verdict::Open);
    }

    #[test]
    fn undecodable_records_are_skipped_and_counted() {
        let bad = Consumed { value: Bytes::from_static(b"\xff\xff"), ..consumed(3, &upstream("a", "1")) };
        let batch = decode(&[consumed(2, &upstream("a", "1")), bad]);
        assert_eq!((batch.items.len(), batch.undecodable, batch.next), (1, 1, 4));
    }

    #[test]
    fn the_content_hash_keeps_its_parts_apart() {
        let mut scratch = Vec::new();
        let mut hash = |content: &str, extra: &str| {
            content_hash(&UpstreamMessage { extra: extra.into(), ..upstream(content, "1") }, &mut scratch)
        };
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
        assert_eq!(hash("ab", "c"), hash("ab", "c"));
    }
}

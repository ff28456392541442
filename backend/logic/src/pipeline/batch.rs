//! One batch of upstream records: decoded, grouped by conversation, and what became of each.
//!
//! Owns the choice of pipeline.md B4. Pure: no clock, no I/O; never decides membership, claims or numbers, which repo
//! settles for the whole batch.

use std::collections::HashMap;
use std::mem::take;

use bytes::Bytes;
use gochat_infra::bus::{Consumed, Offset, partition_of};
use gochat_proto::bus::v1::{PersistMessage, StreamKind, UpstreamMessage};
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1::prepared_item::Outcome;
use gochat_proto::im::repo::v1::{PrepareConversation, PrepareItem, PreparedConversation, PreparedItem};
use prost::Message as _;

use super::entry;

/// Bytes a message gains from upstream to persist record: ids, number, hash, time.
pub(crate) const RECORD_OVERHEAD: usize = 96;
/// Bytes of the messages of one persist record at most (A2).
pub(crate) const PERSIST_BYTES_MAX: usize = 900 << 10;

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
    /// Refused; nothing is stored.
    Refused { code: ErrorCode },
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
    /// Number of the message that a recall names, once it is settled.
    pub(crate) recalled_seq: i64,
    pub(crate) verdict: Verdict,
}

impl Item {
    /// What a recall's row says of the message it names.
    fn take_recalled(&mut self, recalled_seq: i64) -> Result<(), AnswerError> {
        let Verdict::Settled { append, push, .. } = self.verdict else { return Ok(()) };
        if self.message.kind != StreamKind::Recall as i32 || (!append && push == Push::No) {
            return Ok(());
        }
        if recalled_seq <= 0 {
            return Err(AnswerError::Shape);
        }
        self.recalled_seq = recalled_seq;
        self.message.extra = entry::recall_extra(&self.message, recalled_seq);
        Ok(())
    }
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
    /// index. Records without one, and those that might not fit into one persist record, are left for the next batch.
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
        let mut bytes = 0;
        for (record, candidate_id) in records.iter().zip(candidate_ids.iter().copied()) {
            let decoded = UpstreamMessage::decode(record.value.clone());
            bytes += record.value.len() + RECORD_OVERHEAD + decoded.as_ref().map_or(0, entry::growth);
            if bytes > PERSIST_BYTES_MAX && batch.next > batch.first {
                break;
            }
            batch.next = record.offset + 1;
            let mut message = match decoded {
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
            entry::normalize(&mut message);
            let verdict = match entry::check(&message) {
                Ok(()) => Verdict::Open,
                Err(code) => Verdict::Refused { code },
            };
            batch.items.push(Item {
                offset: record.offset,
                content_hash: entry::content_hash(&message, &mut scratch),
                message,
                conversation,
                candidate_id,
                recalled_seq: 0,
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

    /// Recalls that cannot be judged yet: what they name may be on its way to the store (D3). Indices of items. What is
    /// behind them in their conversation waits with them.
    pub(crate) fn unjudged(&self, asked: &Question, answer: &[PreparedConversation]) -> Vec<usize> {
        let rows = asked.conversations.iter().zip(answer);
        let rows = rows.flat_map(|(asked, answered)| asked.rows.iter().zip(&answered.items));
        let unstored = rows.filter(|(_, item)| item.outcome() == Outcome::TargetUnstored).map(|(row, _)| *row);
        unstored.filter(|row| self.items[*row].message.kind == StreamKind::Recall as i32).collect()
    }

    /// Refuses open items by their indices.
    pub(crate) fn refuse(&mut self, rows: &[usize], code: ErrorCode) {
        for row in rows {
            self.items[*row].verdict = Verdict::Refused { code };
        }
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
                item.take_recalled(prepared.recalled_seq)?;
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
        Outcome::Refused => Some(Verdict::Refused { code: refusal(prepared) }),
        Outcome::TargetUnstored | Outcome::Unspecified => None,
    }
}

/// The code of a refusal: by its name where the number belongs to another.
fn refusal(prepared: &PreparedItem) -> ErrorCode {
    let named = prepared.code_name.parse().ok();
    named.or_else(|| ErrorCode::from_number(prepared.code)).unwrap_or(ErrorCode::InternalError)
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
    fn a_bad_message_is_refused_and_never_asked_about() {
        let batch = decode(&[consumed(0, &upstream("", "1"))]);
        assert_eq!(batch.items[0].verdict, Verdict::Refused { code: ErrorCode::MessageEmpty });
        assert!(batch.question(|_| 0).conversations.is_empty());
        assert_eq!(decode(&[consumed(0, &upstream("a", "1"))]).items[0].verdict, Verdict::Open);
    }

    fn recall(reason: &str) -> UpstreamMessage {
        UpstreamMessage {
            kind: StreamKind::Recall.into(),
            recalled_message_id: 9,
            reason: reason.into(),
            ..upstream("", "\u{1}r9")
        }
    }

    fn answer(item: PreparedItem) -> Vec<PreparedConversation> {
        vec![PreparedConversation { items: vec![item], ..PreparedConversation::default() }]
    }

    #[test]
    fn a_recall_becomes_a_row_of_type_4_that_names_its_message_by_the_hash_of_what_came_in() {
        let mut batch = decode(&[consumed(0, &recall("spam"))]);
        let hash = batch.items[0].content_hash;
        let asked = batch.question(|_| 0);
        let fresh = PreparedItem { recalled_seq: 3, ..prepared(Outcome::Fresh, 5, 0) };
        assert_eq!(batch.settle(&asked, &answer(fresh), 0, true), Ok(()));
        let rows = batch.lend_appends(|_| 2);
        assert_eq!((rows[0].message_type, rows[0].recalled_message_id, rows[0].content.as_str()), (4, 9, ""));
        assert_eq!(rows[0].content_hash, hash.to_be_bytes().to_vec());
        let extra: serde_json::Value = serde_json::from_str(&rows[0].extra).unwrap();
        assert_eq!((&extra["messageId"], &extra["seqId"], &extra["operatorId"]), (&"9".into(), &3.into(), &"7".into()));
        assert_eq!(decode(&[consumed(4, &recall("another"))]).items[0].content_hash, hash);
    }

    #[test]
    fn a_recall_without_the_number_of_its_message_is_not_appended() {
        let mut batch = decode(&[consumed(0, &recall(""))]);
        let asked = batch.question(|_| 0);
        assert_eq!(batch.settle(&asked, &answer(prepared(Outcome::Fresh, 5, 0)), 0, true), Err(AnswerError::Shape));
        let again = prepared(Outcome::Stored, 5, 0);
        assert_eq!(batch.settle(&asked, &answer(again), 0, true), Ok(()));
    }

    #[test]
    fn a_recall_whose_message_is_not_stored_yet_can_be_told_and_refused() {
        let mut batch = decode(&[consumed(0, &recall("")), consumed(1, &upstream("a", "1"))]);
        let asked = batch.question(|_| 0);
        let waiting = prepared(Outcome::TargetUnstored, 0, 0);
        let answer =
            vec![PreparedConversation { items: vec![waiting.clone(), waiting], ..PreparedConversation::default() }];
        assert_eq!(batch.unjudged(&asked, &answer), [0]);
        assert_eq!(batch.settle(&asked, &answer, 0, true), Err(AnswerError::Shape));
        batch.refuse(&[0], ErrorCode::ServiceUnavailable);
        let left: Vec<i64> = batch.ask(&batch.question(|_| 0))[0].items.iter().map(|item| item.offset).collect();
        assert_eq!(left, [1], "what waited behind it goes on");
    }

    #[test]
    fn a_refusal_goes_by_its_name_where_the_number_is_borrowed() {
        let mut item = PreparedItem { code: ErrorCode::GuestForbidden.number(), ..prepared(Outcome::Refused, 0, 0) };
        assert_eq!(refusal(&item), ErrorCode::Forbidden);
        item.code_name = "GUEST_FORBIDDEN".into();
        assert_eq!(refusal(&item), ErrorCode::GuestForbidden);
        assert_eq!(refusal(&PreparedItem { code: -1, ..item.clone() }), ErrorCode::GuestForbidden);
        assert_eq!(refusal(&PreparedItem { code: -1, ..prepared(Outcome::Refused, 0, 0) }), ErrorCode::InternalError);
    }

    #[test]
    fn a_batch_ends_where_its_persist_record_might_grow_too_large() {
        let records: Vec<Consumed> = (0..1_500).map(|offset| consumed(offset, &recall(&"\"".repeat(200)))).collect();
        let batch = decode(&records);
        assert!(batch.next > 0 && batch.next < 1_500);
        assert_eq!(batch.items.len() as i64, batch.next);
    }

    #[test]
    fn undecodable_records_are_skipped_and_counted() {
        let bad = Consumed { value: Bytes::from_static(b"\xff\xff"), ..consumed(3, &upstream("a", "1")) };
        let batch = decode(&[consumed(2, &upstream("a", "1")), bad]);
        assert_eq!((batch.items.len(), batch.undecodable, batch.next), (1, 1, 4));
    }
}

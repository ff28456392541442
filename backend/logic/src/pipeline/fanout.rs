//! From a settled batch to what each gateway has to send: acknowledgements, refusals, pushes.
//!
//! Owns grouping by gateway, upstream order within a gateway, and the split into records of bounded size. Pure; never
//! looks anybody up and never sends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use gochat_proto::bus::v1::downstream_item::Item as Body;
use gochat_proto::bus::v1::{Ack, ChatMessage, DownstreamItem, DownstreamRecord, Refusal};
use gochat_proto::codes::ErrorCode;
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::{OnlineStatus, PreparedConversation};
use prost::Message as _;

use super::batch::{Batch, Ids, Item, Push, Verdict};

/// Bytes of one downstream record at most.
const RECORD_BYTES_MAX: usize = 900 << 10;

/// One life of one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Gateway {
    /// Number of the instance, 1..=1023.
    pub(crate) id: u32,
    pub(crate) incarnation: u64,
}

/// What each gateway gets, in upstream order.
pub(crate) type Outgoing = BTreeMap<Gateway, Vec<DownstreamItem>>;

/// Live connections of users.
#[derive(Default)]
pub(crate) struct Sessions(HashMap<i64, Vec<(Gateway, u64)>>);

impl Sessions {
    /// Takes what repo answered.
    pub(crate) fn add(&mut self, statuses: Vec<OnlineStatus>) {
        for status in statuses {
            let Ok(user) = status.user_id.parse::<i64>() else { continue };
            let live = status.sessions.iter().filter_map(|session| {
                let id: GatewayId = session.gateway_id.parse().ok()?;
                Some((Gateway { id: id.number(), incarnation: session.gateway_incarnation }, session.address))
            });
            self.0.insert(user, live.collect());
        }
    }

    /// Connections of one user.
    pub(crate) fn of(&self, user: i64) -> &[(Gateway, u64)] {
        self.0.get(&user).map_or(&[], Vec::as_slice)
    }
}

/// Users who have to be looked up before `batch` can be pushed, each once.
pub(crate) fn recipients(batch: &Batch, prepared: &[Option<PreparedConversation>]) -> Vec<i64> {
    let mut users = BTreeSet::new();
    let mut seen = vec![false; batch.conversations.len()];
    for item in batch.items.iter().filter(|i| is_pushed(i)) {
        if !std::mem::replace(&mut seen[item.conversation], true)
            && let Some(conversation) = &prepared[item.conversation]
        {
            users.extend(conversation.member_ids.iter().copied());
        }
    }
    users.into_iter().collect()
}

/// Acknowledgements and refusals of a batch.
pub(crate) fn answers(batch: &Batch, outgoing: &mut Outgoing) {
    for item in &batch.items {
        answer(item, outgoing);
    }
}

/// Everything a batch has for gateways; `with_answers` is false when they have gone out already.
pub(crate) fn everything(
    batch: &Batch,
    prepared: &[Option<PreparedConversation>],
    sessions: &Sessions,
    with_answers: bool,
) -> Outgoing {
    let mut outgoing = Outgoing::new();
    let mut targets: Vec<Option<BTreeMap<Gateway, Vec<u64>>>> = vec![None; batch.conversations.len()];
    for item in &batch.items {
        if with_answers {
            answer(item, &mut outgoing);
        }
        let Verdict::Settled { ids, push, .. } = item.verdict else { continue };
        let Some(conversation) = prepared[item.conversation].as_ref().filter(|_| push != Push::No) else { continue };
        let targets = targets[item.conversation].get_or_insert_with(|| targets_of(conversation, sessions));
        push_item(item, ids, push, conversation, targets, &mut outgoing);
    }
    outgoing
}

/// Encodes one gateway's items as records of bounded size, in order.
pub(crate) fn encode(gateway: Gateway, items: Vec<DownstreamItem>) -> Vec<Bytes> {
    let mut records = Vec::new();
    let mut record = DownstreamRecord { incarnation: gateway.incarnation, items: Vec::with_capacity(items.len()) };
    let mut bytes = 0;
    for item in items {
        let size = item.encoded_len() + 8;
        if bytes + size > RECORD_BYTES_MAX && !record.items.is_empty() {
            records.push(Bytes::from(record.encode_to_vec()));
            record.items.clear();
            bytes = 0;
        }
        bytes += size;
        record.items.push(item);
    }
    if !record.items.is_empty() {
        records.push(Bytes::from(record.encode_to_vec()));
    }
    records
}

fn is_pushed(item: &Item) -> bool {
    matches!(item.verdict, Verdict::Settled { push: Push::First | Push::Redelivered, .. })
}

fn targets_of(conversation: &PreparedConversation, sessions: &Sessions) -> BTreeMap<Gateway, Vec<u64>> {
    let mut targets: BTreeMap<Gateway, Vec<u64>> = BTreeMap::new();
    for member in &conversation.member_ids {
        for (gateway, address) in sessions.of(*member) {
            targets.entry(*gateway).or_default().push(*address);
        }
    }
    targets
}

fn answer(item: &Item, outgoing: &mut Outgoing) {
    let message = &item.message;
    let Some(origin) = message.origin.filter(|o| o.gateway != 0) else { return };
    let body = match item.verdict {
        Verdict::Settled { ids, duplicate, .. } => Body::Ack(Ack {
            origin: Some(origin),
            client_msg_id: message.client_msg_id.clone(),
            temp_message_id: message.temp_message_id.clone(),
            conversation_id: message.conversation_id.clone(),
            message_id: ids.message_id,
            seq_id: ids.seq_id,
            created_at_ms: ids.created_at_ms,
            duplicate,
            corrected: false,
        }),
        Verdict::Refused { code } => Body::Refusal(Refusal {
            origin: Some(origin),
            client_msg_id: message.client_msg_id.clone(),
            temp_message_id: message.temp_message_id.clone(),
            conversation_id: message.conversation_id.clone(),
            code,
            message: ErrorCode::from_number(code).map_or_else(String::new, |c| c.default_message().to_owned()),
            retry_after_s: 0,
            code_name: String::new(),
        }),
        Verdict::Open => return,
    };
    let gateway = Gateway { id: origin.gateway, incarnation: origin.incarnation };
    outgoing.entry(gateway).or_default().push(DownstreamItem { item: Some(body) });
}

fn push_item(
    item: &Item,
    ids: Ids,
    push: Push,
    conversation: &PreparedConversation,
    targets: &BTreeMap<Gateway, Vec<u64>>,
    outgoing: &mut Outgoing,
) {
    let message = &item.message;
    let own = message.origin.filter(|o| o.address != 0);
    for (gateway, all) in targets {
        let is_own = |address: &u64| {
            own.is_some_and(|o| {
                o.gateway == gateway.id && o.incarnation == gateway.incarnation && o.address == *address
            })
        };
        let addresses: Vec<u64> = all.iter().copied().filter(|a| !is_own(a)).collect();
        if addresses.is_empty() {
            continue;
        }
        let body = gochat_proto::bus::v1::Push {
            addresses,
            target_conversation_id: String::new(),
            exclude_address: 0,
            redelivered: push == Push::Redelivered,
            membership_version: conversation.membership_version,
            recalled: None,
            message: Some(ChatMessage {
                message_id: ids.message_id,
                conversation_id: message.conversation_id.clone(),
                conversation_type: conversation.r#type,
                sender: conversation.senders.iter().find(|s| s.id == message.sender_id).cloned(),
                message_type: message.message_type,
                content: message.content.clone(),
                extra: message.extra.clone(),
                seq_id: ids.seq_id,
                client_msg_id: message.client_msg_id.clone(),
                created_at_ms: ids.created_at_ms,
            }),
        };
        outgoing.entry(*gateway).or_default().push(DownstreamItem { item: Some(Body::Push(body)) });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use gochat_infra::bus::Consumed;
    use gochat_proto::bus::v1::{Origin, Sender, UpstreamMessage};
    use gochat_proto::im::repo::v1::Session;

    const HERE: Gateway = Gateway { id: 1, incarnation: 9 };
    const THERE: Gateway = Gateway { id: 2, incarnation: 5 };

    fn batch(contents: &[String]) -> Batch {
        let records: Vec<Consumed> = contents
            .iter()
            .enumerate()
            .map(|(offset, content)| {
                let message = UpstreamMessage {
                    sender_id: 7,
                    conversation_id: "c".into(),
                    message_type: 1,
                    content: content.clone(),
                    client_msg_id: offset.to_string(),
                    origin: Some(Origin { gateway: 1, incarnation: 9, address: 70, request: 0 }),
                    ..UpstreamMessage::default()
                };
                Consumed {
                    offset: offset as i64,
                    key: Bytes::new(),
                    value: message.encode_to_vec().into(),
                    trace_id: Bytes::new(),
                    produced_at_ms: 0,
                }
            })
            .collect();
        let ids: Vec<i64> = (1..).take(records.len()).collect();
        let mut batch = Batch::decode(&records, 0, 1, 5, &ids);
        for (at, item) in batch.items.iter_mut().enumerate() {
            let ids = Ids { message_id: 100 + at as i64, seq_id: at as i64 + 1, created_at_ms: 0 };
            item.verdict = Verdict::Settled { ids, append: true, push: Push::First, duplicate: false };
        }
        batch
    }

    fn prepared() -> Vec<Option<PreparedConversation>> {
        vec![Some(PreparedConversation {
            r#type: 1,
            member_ids: vec![7, 8],
            senders: vec![Sender { id: 7, username: "seven".into(), ..Sender::default() }],
            ..PreparedConversation::default()
        })]
    }

    fn sessions() -> Sessions {
        let session = |gateway: Gateway, address| Session {
            gateway_id: format!("gateway-{}", gateway.id),
            gateway_incarnation: gateway.incarnation,
            address,
            ..Session::default()
        };
        let status =
            |user: i64, sessions| OnlineStatus { user_id: user.to_string(), sessions, ..OnlineStatus::default() };
        let mut all = Sessions::default();
        all.add(vec![status(7, vec![session(HERE, 70), session(THERE, 71)]), status(8, vec![session(HERE, 80)])]);
        all
    }

    #[test]
    fn every_session_of_every_member_but_the_sending_one_is_pushed_to() {
        let batch = batch(&["hi".into()]);
        assert_eq!(recipients(&batch, &prepared()), [7, 8]);
        let outgoing = everything(&batch, &prepared(), &sessions(), true);
        let pushed = |gateway: Gateway| -> Vec<u64> {
            outgoing[&gateway]
                .iter()
                .filter_map(|i| match &i.item {
                    Some(Body::Push(p)) => Some(p.addresses.clone()),
                    _ => None,
                })
                .flatten()
                .collect()
        };
        assert_eq!((pushed(HERE), pushed(THERE)), (vec![80], vec![71]));
        let first = outgoing[&HERE].first().unwrap().item.as_ref().unwrap();
        assert!(matches!(first, Body::Ack(a) if a.message_id == 100 && a.seq_id == 1 && !a.duplicate));
    }

    #[test]
    fn a_refused_message_is_answered_and_never_pushed() {
        let mut batch = batch(&["hi".into()]);
        batch.items[0].verdict = Verdict::Refused { code: ErrorCode::Muted.number() };
        assert!(recipients(&batch, &prepared()).is_empty());
        let outgoing = everything(&batch, &prepared(), &sessions(), true);
        assert_eq!(outgoing.len(), 1);
        assert!(matches!(&outgoing[&HERE][0].item, Some(Body::Refusal(r)) if r.code == ErrorCode::Muted.number()));
    }

    #[test]
    fn records_stay_below_their_size_and_keep_order() {
        let batch = batch(&vec!["x".repeat(5_000); 400]);
        let outgoing = everything(&batch, &prepared(), &sessions(), true);
        let records = encode(HERE, outgoing[&HERE].clone());
        assert!(records.len() > 1 && records.iter().all(|r| r.len() <= RECORD_BYTES_MAX));
        let seqs: Vec<i64> = records
            .iter()
            .flat_map(|r| DownstreamRecord::decode(r.clone()).unwrap().items)
            .filter_map(|i| match i.item {
                Some(Body::Push(p)) => p.message.map(|m| m.seq_id),
                _ => None,
            })
            .collect();
        assert_eq!(seqs, (1..=400).collect::<Vec<_>>());
    }
}

//! From a settled batch to what each gateway, and task, has to send: acknowledgements, refusals, pushes.
//!
//! Owns grouping by gateway, upstream order within a gateway, and the split into records of bounded size. Pure; never
//! looks anybody up and never sends.

use std::collections::BTreeMap;

use bytes::Bytes;
use gochat_infra::lanes::Parcel;
use gochat_proto::bus::v1::downstream_item::Item as Body;
use gochat_proto::bus::v1::{
    Ack, ChatMessage, DownstreamItem, DownstreamRecord, FanoutTask, Push as PushBody, Recalled, Refusal, Sender,
    StreamKind,
};
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::PreparedConversation;
use gochat_proto::topics;
use prost::Message as _;

use super::audience::{Audience, Gateway, Reach};
use super::batch::{Batch, Ids, Item, Push, Verdict};

/// Bytes of one record at most.
const RECORD_BYTES_MAX: usize = 900 << 10;

/// What each gateway gets, and task for each conversation (by index of the batch), in upstream order.
#[derive(Default)]
pub(crate) struct Outgoing {
    gateways: BTreeMap<Gateway, Vec<DownstreamItem>>,
    tasks: BTreeMap<usize, Vec<DownstreamItem>>,
}

/// Acknowledgements and refusals of a batch.
pub(crate) fn answers(batch: &Batch) -> Outgoing {
    let mut outgoing = Outgoing::default();
    for item in &batch.items {
        outgoing.answer(item);
    }
    outgoing
}

/// Everything a batch has; `with_answers` is false when they have gone out already.
pub(crate) fn everything(
    batch: &Batch,
    prepared: &[Option<PreparedConversation>],
    audience: &Audience,
    with_answers: bool,
) -> Outgoing {
    let mut outgoing = Outgoing::default();
    let mut targets: Vec<Option<BTreeMap<Gateway, Vec<u64>>>> = vec![None; batch.conversations.len()];
    for item in &batch.items {
        if with_answers {
            outgoing.answer(item);
        }
        let Verdict::Settled { ids, push, .. } = item.verdict else { continue };
        let Some(conversation) = prepared[item.conversation].as_ref().filter(|_| push != Push::No) else { continue };
        match audience.reach(item.conversation) {
            Some(Reach::Members) => {
                let targets = targets[item.conversation].get_or_insert_with(|| targets_of(conversation, audience));
                outgoing.push_to(item, &body_of(item, ids, push, conversation), targets);
            }
            Some(Reach::Gateways) => {
                let body = room_body_of(item, body_of(item, ids, push, conversation));
                for gateway in audience.gateways.get(&item.conversation).into_iter().flatten() {
                    let gateway = Gateway { id: gateway.number(), incarnation: 0 };
                    outgoing.gateways.entry(gateway).or_default().push(of(Body::Push(body.clone())));
                }
            }
            Some(Reach::Task) => {
                let body = room_body_of(item, body_of(item, ids, push, conversation));
                outgoing.tasks.entry(item.conversation).or_default().push(of(Body::Push(body)));
            }
            None => {}
        }
    }
    outgoing
}

impl Outgoing {
    fn answer(&mut self, item: &Item) {
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
                code: code.number(),
                message: code.default_message().to_owned(),
                retry_after_s: 0,
                code_name: if code.owns_number() { String::new() } else { code.as_str().to_owned() },
            }),
            Verdict::Open => return,
        };
        let gateway = Gateway { id: origin.gateway, incarnation: origin.incarnation };
        self.gateways.entry(gateway).or_default().push(of(body));
    }

    fn push_to(&mut self, item: &Item, body: &PushBody, targets: &BTreeMap<Gateway, Vec<u64>>) {
        let own = excluded(item);
        for (gateway, all) in targets {
            let is_own = |address: &u64| own.is_some_and(|(own, excluded)| own == *gateway && excluded == *address);
            let addresses: Vec<u64> = all.iter().copied().filter(|a| !is_own(a)).collect();
            if !addresses.is_empty() {
                let body = Body::Push(PushBody { addresses, ..body.clone() });
                self.gateways.entry(*gateway).or_default().push(of(body));
            }
        }
    }

    /// As records of bounded size, in order, each topic once. `conversations` are those of the batch.
    pub(crate) fn parcels(self, conversations: &[String]) -> Vec<Parcel> {
        let mut parcels: Vec<Parcel> = Vec::new();
        for (gateway, items) in self.gateways {
            let Some(id) = GatewayId::new(gateway.id) else { continue };
            let topic = topics::downstream(id);
            let records = encode(items, |items| {
                DownstreamRecord { incarnation: gateway.incarnation, items }.encode_to_vec().into()
            });
            let records = records.into_iter().map(|value| (Bytes::new(), value));
            match parcels.last_mut().filter(|parcel| parcel.topic == topic) {
                Some(parcel) => parcel.records.extend(records),
                None => parcels.push(Parcel { topic, payload_type: "DownstreamRecord", records: records.collect() }),
            }
        }
        let mut tasks =
            Parcel { topic: topics::TASKS_FANOUT.to_owned(), payload_type: "FanoutTask", records: Vec::new() };
        for (conversation, items) in self.tasks {
            let id = &conversations[conversation];
            let records =
                encode(items, |items| FanoutTask { conversation_id: id.clone(), items }.encode_to_vec().into());
            tasks.records.extend(records.into_iter().map(|value| (id.clone().into(), value)));
        }
        if !tasks.records.is_empty() {
            parcels.push(tasks);
        }
        parcels
    }
}

/// Splits items so that no record is too large.
fn encode(items: Vec<DownstreamItem>, record: impl Fn(Vec<DownstreamItem>) -> Bytes) -> Vec<Bytes> {
    let mut records = Vec::new();
    let mut together = Vec::with_capacity(items.len());
    let mut bytes = 0;
    for item in items {
        let size = item.encoded_len() + 8;
        if bytes + size > RECORD_BYTES_MAX && !together.is_empty() {
            records.push(record(std::mem::take(&mut together)));
            bytes = 0;
        }
        bytes += size;
        together.push(item);
    }
    if !together.is_empty() {
        records.push(record(together));
    }
    records
}

fn of(body: Body) -> DownstreamItem {
    DownstreamItem { item: Some(body) }
}

fn targets_of(conversation: &PreparedConversation, audience: &Audience) -> BTreeMap<Gateway, Vec<u64>> {
    let mut targets: BTreeMap<Gateway, Vec<u64>> = BTreeMap::new();
    for member in &conversation.member_ids {
        for (gateway, address) in audience.sessions.of(*member) {
            targets.entry(*gateway).or_default().push(*address);
        }
    }
    targets
}

/// The connection that is acknowledged to instead of being pushed to. Who recalls sees the recall as everybody does.
fn excluded(item: &Item) -> Option<(Gateway, u64)> {
    let origin = item.message.origin.filter(|o| o.address != 0 && item.message.kind != StreamKind::Recall as i32)?;
    Some((Gateway { id: origin.gateway, incarnation: origin.incarnation }, origin.address))
}

/// For all members a gateway knows of.
fn room_body_of(item: &Item, body: PushBody) -> PushBody {
    let excluded = excluded(item);
    PushBody {
        target_conversation_id: item.message.conversation_id.clone(),
        exclude_address: excluded.map_or(0, |(_, address)| address),
        exclude_incarnation: excluded.map_or(0, |(gateway, _)| gateway.incarnation),
        ..body
    }
}

/// One entry of the stream, for nobody yet.
fn body_of(item: &Item, ids: Ids, push: Push, conversation: &PreparedConversation) -> PushBody {
    let message = &item.message;
    let body = PushBody {
        redelivered: push == Push::Redelivered,
        membership_version: conversation.membership_version,
        ..PushBody::default()
    };
    if message.kind == StreamKind::Recall as i32 {
        let recalled = Recalled {
            conversation_id: message.conversation_id.clone(),
            message_id: message.recalled_message_id,
            recalled_seq_id: item.recalled_seq,
            seq_id: ids.seq_id,
            operator_id: message.sender_id,
            reason: message.reason.clone(),
            recalled_at_ms: ids.created_at_ms,
            recall_id: ids.message_id,
        };
        return PushBody { recalled: Some(recalled), ..body };
    }
    let sender = conversation.senders.iter().find(|s| s.id == message.sender_id).cloned();
    let message = ChatMessage {
        message_id: ids.message_id,
        conversation_id: message.conversation_id.clone(),
        conversation_type: conversation.r#type,
        sender: Some(sender.unwrap_or_else(|| Sender { id: message.sender_id, ..Sender::default() })),
        message_type: message.message_type,
        content: message.content.clone(),
        extra: message.extra.clone(),
        seq_id: ids.seq_id,
        client_msg_id: message.client_msg_id.clone(),
        created_at_ms: ids.created_at_ms,
    };
    PushBody { message: Some(message), ..body }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use gochat_infra::bus::Consumed;
    use gochat_proto::bus::v1::{Origin, UpstreamMessage};
    use gochat_proto::codes::ErrorCode;
    use gochat_proto::im::repo::v1::{OnlineStatus, Session};

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

    fn prepared(member_count: i32) -> Vec<Option<PreparedConversation>> {
        vec![Some(PreparedConversation {
            r#type: 2,
            member_count,
            membership_version: 6,
            member_ids: if member_count > 20 { Vec::new() } else { vec![7, 8] },
            senders: vec![Sender { id: 7, username: "seven".into(), ..Sender::default() }],
            ..PreparedConversation::default()
        })]
    }

    fn audience(batch: &Batch, prepared: &[Option<PreparedConversation>]) -> Audience {
        let session = |gateway: Gateway, address| Session {
            gateway_id: format!("gateway-{}", gateway.id),
            gateway_incarnation: gateway.incarnation,
            address,
            ..Session::default()
        };
        let status =
            |user: i64, sessions| OnlineStatus { user_id: user.to_string(), sessions, ..OnlineStatus::default() };
        let mut audience = Audience::of(batch, prepared, 500);
        let all = vec![status(7, vec![session(HERE, 70), session(THERE, 71)]), status(8, vec![session(HERE, 80)])];
        audience.sessions.add(all);
        for room in audience.rooms() {
            audience.gateways.insert(room, vec![GatewayId::new(1).unwrap(), GatewayId::new(2).unwrap()]);
        }
        audience
    }

    /// The items of each topic, with the incarnation of their record, in order.
    fn sent(batch: &Batch, member_count: i32) -> BTreeMap<String, Vec<(u64, Body)>> {
        let prepared = prepared(member_count);
        let outgoing = everything(batch, &prepared, &audience(batch, &prepared), true);
        let mut sent: BTreeMap<String, Vec<(u64, Body)>> = BTreeMap::new();
        for parcel in outgoing.parcels(&batch.conversations) {
            for (key, value) in parcel.records {
                assert!(value.len() <= RECORD_BYTES_MAX);
                let record = if parcel.payload_type == "FanoutTask" {
                    assert_eq!(&key[..], b"c");
                    DownstreamRecord { incarnation: 0, items: FanoutTask::decode(value).unwrap().items }
                } else {
                    DownstreamRecord::decode(value).unwrap()
                };
                let bodies = record.items.into_iter().map(|i| (record.incarnation, i.item.unwrap()));
                sent.entry(parcel.topic.clone()).or_default().extend(bodies);
            }
        }
        sent
    }

    fn pushes(sent: &BTreeMap<String, Vec<(u64, Body)>>, topic: &str) -> Vec<(u64, PushBody)> {
        let push = |(incarnation, body): &(u64, Body)| match body {
            Body::Push(push) => Some((*incarnation, push.clone())),
            _ => None,
        };
        sent.get(topic).into_iter().flatten().filter_map(push).collect()
    }

    fn addresses(sent: &BTreeMap<String, Vec<(u64, Body)>>, gateway: Gateway) -> Vec<u64> {
        let topic = format!("gochat.messages.downstream.gateway-{}", gateway.id);
        pushes(sent, &topic).into_iter().flat_map(|(_, push)| push.addresses).collect()
    }

    const FIRST: &str = "gochat.messages.downstream.gateway-1";
    const SECOND: &str = "gochat.messages.downstream.gateway-2";

    fn recall() -> Batch {
        let mut batch = batch(&[String::new()]);
        let message = &mut batch.items[0].message;
        message.kind = StreamKind::Recall.into();
        message.recalled_message_id = 55;
        batch.items[0].recalled_seq = 3;
        batch
    }

    #[test]
    fn every_session_of_every_member_but_the_sending_one_is_pushed_to() {
        let sent = sent(&batch(&["hi".into()]), 2);
        assert_eq!((addresses(&sent, HERE), addresses(&sent, THERE)), (vec![80], vec![71]));
        assert!(matches!(&sent[FIRST][0], (9, Body::Ack(a)) if a.message_id == 100 && a.seq_id == 1 && !a.duplicate));
    }

    #[test]
    fn a_recall_goes_to_the_one_who_recalls_too_and_names_the_message() {
        let sent = sent(&recall(), 2);
        assert_eq!((addresses(&sent, HERE), addresses(&sent, THERE)), (vec![70, 80], vec![71]));
        let (_, push) = pushes(&sent, FIRST).remove(0);
        let recalled = push.recalled.unwrap();
        assert_eq!((recalled.message_id, recalled.recalled_seq_id, recalled.seq_id), (55, 3, 1));
        assert_eq!((recalled.recall_id, recalled.operator_id), (100, 7));
        assert!(push.message.is_none());
    }

    #[test]
    fn above_20_members_each_gateway_gets_one_push_for_the_members_it_knows() {
        let sent = sent(&batch(&["hi".into()]), 21);
        for topic in [FIRST, SECOND] {
            let [(0, push)] = &pushes(&sent, topic)[..] else { panic!("not one push to {topic}") };
            assert_eq!((push.target_conversation_id.as_str(), push.membership_version), ("c", 6));
            assert_eq!((push.exclude_address, push.exclude_incarnation), (70, 9));
            assert!(push.addresses.is_empty());
        }
        assert!(matches!(sent[FIRST].last(), Some((9, Body::Ack(_)))));
        let recalled = &pushes(&self::sent(&recall(), 21), SECOND)[0].1;
        assert_eq!((recalled.exclude_address, recalled.exclude_incarnation), (0, 0));
    }

    #[test]
    fn above_500_members_task_gets_the_pushes_in_order() {
        let sent = sent(&batch(&vec!["x".repeat(5_000); 150]), 501);
        let pushes = pushes(&sent, topics::TASKS_FANOUT);
        let seqs: Vec<i64> = pushes.iter().map(|(_, p)| p.message.as_ref().unwrap().seq_id).collect();
        assert_eq!(seqs, (1..=150).collect::<Vec<_>>());
        assert!(pushes.iter().all(|(_, p)| p.target_conversation_id == "c"));
        assert!(!sent.contains_key(SECOND));
    }

    #[test]
    fn a_refused_message_is_answered_by_its_name_and_never_pushed() {
        let mut batch = batch(&["hi".into(), "ho".into()]);
        batch.items[0].verdict = Verdict::Refused { code: ErrorCode::Muted };
        batch.items[1].verdict = Verdict::Refused { code: ErrorCode::GuestForbidden };
        let sent = sent(&batch, 2);
        assert_eq!(sent.len(), 1);
        let names: Vec<(i32, String)> = sent[FIRST]
            .iter()
            .map(|(_, body)| match body {
                Body::Refusal(r) => (r.code, r.code_name.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names[0], (ErrorCode::Muted.number(), String::new()));
        assert_eq!(names[1], (ErrorCode::GuestForbidden.number(), "GUEST_FORBIDDEN".to_owned()));
    }

    #[test]
    fn records_stay_below_their_size_and_keep_order() {
        let ack = |seq_id| of(Body::Ack(Ack { seq_id, client_msg_id: "x".repeat(5_000), ..Ack::default() }));
        let records = encode((1..=400).map(ack).collect(), |items| {
            FanoutTask { items, ..FanoutTask::default() }.encode_to_vec().into()
        });
        assert!(records.len() > 1 && records.iter().all(|record| record.len() <= RECORD_BYTES_MAX));
        let items = records.into_iter().flat_map(|record| FanoutTask::decode(record).unwrap().items);
        let seqs = items.map(|item| match item.item {
            Some(Body::Ack(ack)) => ack.seq_id,
            other => panic!("{other:?}"),
        });
        assert_eq!(seqs.collect::<Vec<_>>(), (1..=400).collect::<Vec<_>>());
    }

    #[test]
    fn the_sender_is_named_though_nobody_knows_the_profile() {
        let mut prepared = prepared(2);
        prepared[0].as_mut().unwrap().senders.clear();
        let batch = batch(&["hi".into()]);
        let Verdict::Settled { ids, push, .. } = batch.items[0].verdict else { panic!("not settled") };
        let body = body_of(&batch.items[0], ids, push, prepared[0].as_ref().unwrap());
        assert_eq!(body.message.unwrap().sender.unwrap().id, 7);
    }
}

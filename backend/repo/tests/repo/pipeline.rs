//! The rules of the message pipeline, one test a rule (pipeline.md).

use crate::bench::{Asked, Bench, CHAT, NOW, PARTITION, ask, candidate, message, record};
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::prepared_item::Outcome;
use gochat_proto::im::repo::v1::*;
use std::time::Duration;

fn outcomes(items: &[PreparedItem]) -> Vec<(Outcome, i64)> {
    items.iter().map(|i| (i.outcome(), i.seq_id)).collect()
}

fn refusals(items: &[PreparedItem]) -> Vec<i32> {
    assert!(items.iter().all(|i| i.outcome() == Outcome::Refused && i.seq_id == 0), "{items:?}");
    items.iter().map(|i| i.code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_gets_increasing_numbers_members_and_senders() {
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    let asked: [Asked<'_>; 3] = [(0, 1, "a", "x"), (1, 2, "a", "y"), (2, 1, "b", "z")];
    let answer = bench.prepare(writer, CHAT, 0, &asked).await.unwrap();
    let chat = &answer.conversations[0];
    assert_eq!(outcomes(&chat.items), [(Outcome::Fresh, 1), (Outcome::Fresh, 2), (Outcome::Fresh, 3)]);
    assert_eq!((chat.r#type, chat.member_ids.as_slice()), (1, [1, 2].as_slice()));
    assert_eq!(chat.senders.iter().map(|s| s.username.as_str()).collect::<Vec<_>>(), ["user1", "user2"]);
    let first = &chat.items[0];
    assert_eq!((first.message_id, first.created_at_ms, first.claim_offset), (candidate(0, 1), NOW, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_a_known_record_keeps_its_claim_and_its_offset() {
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    let first = bench.prepared(writer, CHAT, 0, &[(5, 1, "a", "x")]).await;
    let again = bench.prepared(writer, CHAT, 0, &[(5, 1, "a", "x"), (9, 1, "a", "x")]).await;
    assert_eq!(outcomes(&again), [(Outcome::Known, 1), (Outcome::Known, 1)]);
    for item in &again {
        assert_eq!((item.message_id, item.claim_offset), (first[0].message_id, 5), "redelivery and resend alike");
    }
    bench.save(vec![(0, record(1, vec![message(first[0].message_id, 1, "a", "x")]))]).await;
    bench.cache.lose_everything();
    let writer = bench.draw().await;
    let stored = bench.prepared(writer, CHAT, 0, &[(5, 1, "a", "x")]).await;
    assert_eq!(outcomes(&stored), [(Outcome::Stored, 1)]);
    assert_eq!(stored[0].message_id, first[0].message_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_the_same_key_with_other_content_is_refused_in_batch_cache_and_store() {
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    let reused = ErrorCode::ClientMsgIdReused.number();
    let batch = bench.prepared(writer, CHAT, 0, &[(0, 1, "a", "x"), (1, 1, "a", "other")]).await;
    assert_eq!(refusals(&batch[1..]), [reused]);
    assert_eq!(refusals(&bench.prepared(writer, CHAT, 0, &[(2, 1, "a", "other")]).await), [reused]);
    bench.save(vec![(0, record(1, vec![message(batch[0].message_id, 1, "a", "x")]))]).await;
    assert_eq!(refusals(&bench.prepared(writer, CHAT, 1, &[(3, 1, "a", "other")]).await), [reused]);
    let others = bench.prepared(writer, CHAT, 1, &[(4, 1, "a ", "x"), (5, 2, "a", "x"), (6, 1, "A", "x")]).await;
    assert!(others.iter().all(|i| i.outcome() == Outcome::Fresh), "bytes and sender are part of the key: {others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_disabled_users_are_refused_and_claim_nothing() {
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    let nowhere = bench.prepared(writer, "single_8_9", 0, &[(0, 1, "a", "x")]).await;
    assert_eq!(refusals(&nowhere), [ErrorCode::ConversationNotFound.number()]);
    let stranger = bench.prepared(writer, CHAT, 0, &[(1, 3, "a", "x")]).await;
    assert_eq!(refusals(&stranger), [ErrorCode::NotConversationMember.number()]);
    let mine = bench.prepared(writer, CHAT, 0, &[(2, 1, "a", "x")]).await;
    bench.save(vec![(0, record(1, vec![message(mine[0].message_id, 1, "a", "x")]))]).await;
    set_status(&bench, gochat_proto::common::v1::UserStatus::Disabled).await;
    let disabled = bench.prepared(writer, CHAT, 0, &[(3, 1, "b", "x")]).await;
    assert_eq!(refusals(&disabled), [ErrorCode::UserDisabled.number()]);
    let stored = bench.prepared(writer, CHAT, 0, &[(2, 1, "a", "x")]).await;
    assert_eq!(outcomes(&stored), [(Outcome::Stored, 1)], "what was accepted once stays acknowledged");
    set_status(&bench, gochat_proto::common::v1::UserStatus::Normal).await;
    assert_eq!(outcomes(&bench.prepared(writer, CHAT, 0, &[(3, 1, "b", "x")]).await), [(Outcome::Fresh, 2)]);
}

/// Asked again, as after an answer that was lost, it is refused; what its sender sends again later is another record.
#[tokio::test(flavor = "multi_thread")]
async fn b4_a_claim_ends_when_its_record_is_refused_after_all() {
    use gochat_proto::common::v1::UserStatus::{Disabled, Normal};
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    let asked: [Asked<'_>; 2] = [(5, 1, "a", "x"), (6, 2, "a", "y")];
    let lost = bench.prepared(writer, CHAT, 0, &asked).await;
    assert_eq!(outcomes(&lost), [(Outcome::Fresh, 1), (Outcome::Fresh, 2)]);
    set_status(&bench, Disabled).await;
    let again = bench.prepared(writer, CHAT, 0, &asked).await;
    assert_eq!(refusals(&again[..1]), [ErrorCode::UserDisabled.number()]);
    assert_eq!(outcomes(&again[1..]), [(Outcome::Known, 2)], "nobody else's claim ends");
    set_status(&bench, Normal).await;
    let resent = bench.prepared(writer, CHAT, 2, &[(9, 1, "a", "x")]).await;
    assert_eq!(outcomes(&resent), [(Outcome::Fresh, 3)], "known, it would be acknowledged and never stored");
}

async fn set_status(bench: &Bench, status: gochat_proto::common::v1::UserStatus) {
    let update = UpdateUserRequest {
        user_id: "1".into(),
        status: status.into(),
        update_mask: vec!["status".into()],
        ..UpdateUserRequest::default()
    };
    bench.users().update_user(ask(update)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_an_older_epoch_is_refused_and_told_so() {
    let bench = Bench::new().await;
    let old = bench.draw().await;
    let new = bench.draw().await;
    assert_eq!(new.epoch, old.epoch + 1);
    let refused = bench.prepare(old, CHAT, 0, &[(0, 1, "a", "x")]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(Failure::from(refused).code, ErrorCode::StaleWriter);
    let stands = async |epoch| {
        let check = CheckEpochRequest { partition: PARTITION, epoch };
        bench.pipeline().check_epoch(ask(check)).await.unwrap().into_inner().stands
    };
    assert!(!stands(old.epoch).await && stands(new.epoch).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_another_incarnation_prepares_nothing() {
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    bench.prepared(writer, CHAT, 0, &[(0, 1, "a", "x")]).await;
    bench.cache.lose_everything();
    let answer = bench.prepare(writer, CHAT, 0, &[(1, 1, "b", "y")]).await.unwrap();
    assert_ne!(answer.incarnation, writer.incarnation);
    assert!(answer.conversations.is_empty());
    let after = DrawEpochResponse { incarnation: answer.incarnation, ..writer };
    let items = bench.prepared(after, CHAT, 0, &[(1, 1, "b", "y")]).await;
    assert_eq!(outcomes(&items), [(Outcome::Fresh, 1001)], "C1: above every number ever reserved");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_claim_below_a_number_in_use_gets_a_new_one() {
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    bench.prepared(writer, CHAT, 0, &[(0, 1, "a", "x"), (1, 1, "b", "y")]).await;
    let again = bench.prepared(writer, CHAT, 2, &[(0, 1, "a", "x")]).await;
    assert_eq!(outcomes(&again), [(Outcome::Fresh, 3)], "this writer appended number 2");
    bench.save(vec![(0, record(1, vec![message(50, 7, "c", "z")]))]).await;
    let again = bench.prepared(writer, CHAT, 3, &[(1, 1, "b", "y")]).await;
    let (outcome, seq) = outcomes(&again)[0];
    assert!(outcome == Outcome::Fresh && seq > 7, "the store holds number 7: {again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_lost_bound_is_lifted_above_what_is_stored() {
    let bench = Bench::new().await;
    bench.save(vec![(0, record(1, vec![message(10, 50_000, "a", "one")]))]).await;
    let writer = bench.draw().await;
    for (offset, seq) in [(0, 50_001), (1, 50_002)] {
        let name = format!("m{offset}");
        let items = bench.prepared(writer, CHAT, 0, &[(offset, 1, name.as_str(), "x")]).await;
        assert_eq!(outcomes(&items), [(Outcome::Fresh, seq)]);
    }
    bench.cache.lose_everything();
    let writer = bench.draw().await;
    let items = bench.prepared(writer, CHAT, 0, &[(2, 1, "m2", "x")]).await;
    assert!(items[0].seq_id > 51_000, "the lifted bound is durable: {items:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_large_batch_reserves_what_it_needs() {
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    let names: Vec<String> = (0..2500).map(|i| format!("m{i}")).collect();
    let asked: Vec<Asked<'_>> = names.iter().enumerate().map(|(i, n)| (i as i64, 1, n.as_str(), "x")).collect();
    let items = bench.prepared(writer, CHAT, 0, &asked).await;
    assert!(items.iter().enumerate().all(|(i, item)| item.seq_id == i as i64 + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_records_are_stored_once_and_move_the_position() {
    let bench = Bench::new().await;
    let records =
        || vec![(0, record(1, vec![])), (1, record(1, vec![message(10, 1, "a", "one"), message(11, 2, "b", "two")]))];
    let saved = bench.save(records()).await;
    assert_eq!((saved.next_offset, saved.saved, saved.parked), (2, 2, 0));
    let again = bench.save(records()).await;
    assert_eq!((again.next_offset, again.saved, again.repeated_messages), (2, 0, 0), "below the position: skipped");
    let appended_twice = bench.save(vec![(2, record(1, vec![message(11, 2, "b", "two")]))]).await;
    assert_eq!((appended_twice.next_offset, appended_twice.saved, appended_twice.repeated_messages), (3, 0, 1));
    assert_eq!(bench.stored().await, (vec![(1, "one".into()), (2, "two".into())], 2));
    let positions = bench.pipeline().get_positions(ask(GetPositionsRequest {})).await.unwrap().into_inner().positions;
    assert_eq!(positions, [Position { partition: PARTITION, offset: 3 }]);
    assert!(bench.acks().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a_record_below_an_epoch_already_seen_is_void() {
    let bench = Bench::new().await;
    bench.save(vec![(0, record(1, vec![message(10, 1, "a", "one")])), (1, record(2, vec![]))]).await;
    let saved = bench.save(vec![
        (2, record(1, vec![message(11, 2, "b", "stale")])),
        (3, record(2, vec![message(12, 3, "c", "three")])),
        (4, record(1, vec![message(13, 4, "d", "stale")])),
    ]);
    let saved = saved.await;
    assert_eq!((saved.saved, saved.voided, saved.next_offset), (1, 2, 5));
    assert_eq!(
        bench.stored().await,
        (vec![(1, "one".into()), (3, "three".into())], 3),
        "void for its epoch: not passed"
    );
    assert!(bench.acks().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_the_same_message_under_another_number_is_void_and_corrected() {
    for one_batch in [true, false] {
        let bench = Bench::new().await;
        let first = (0, record(1, vec![message(10, 1, "a", "one")]));
        let second = (1, record(2, vec![message(20, 5, "a", "one"), message(21, 6, "b", "two")]));
        let saved = if one_batch {
            bench.save(vec![first, second]).await
        } else {
            bench.save(vec![first]).await;
            bench.save(vec![second]).await
        };
        assert!(saved.outbox_pending);
        assert_eq!((saved.voided, saved.parked), (1, 0));
        assert_eq!(bench.stored().await, (vec![(1, "one".into()), (6, "two".into())], 6), "its number is passed");
        let outbox = bench.acks().await;
        let ack = outbox[0].ack.clone().unwrap();
        assert_eq!((outbox.len(), ack.message_id, ack.seq_id, ack.corrected), (1, 10, 1, true));
        assert_eq!((ack.client_msg_id.as_str(), ack.origin.unwrap().address), ("a", 11));
        let delete = DeleteOutboxRequest { ids: vec![outbox[0].id] };
        bench.pipeline().delete_outbox(ask(delete)).await.unwrap();
        assert!(bench.acks().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_a_reuse_is_stored_with_a_claim_of_its_own() {
    let bench = Bench::new().await;
    let saved = bench
        .save(vec![(
            0,
            record(1, vec![message(10, 1, "a", "one"), message(11, 2, "a", "other"), message(12, 3, "a", "third")]),
        )])
        .await;
    assert_eq!((saved.saved, saved.voided, saved.parked), (3, 0, 0));
    assert_eq!(bench.stored().await.0.len(), 3);
    let saved = bench.save(vec![(1, record(1, vec![message(30, 9, "a", "other")]))]).await;
    assert_eq!((saved.saved, saved.voided), (0, 1));
    assert_eq!(bench.acks().await[0].ack.clone().unwrap().message_id, 11, "its resend is known");
    let writer = bench.draw().await;
    let items = bench.prepared(writer, CHAT, 0, &[(0, 1, "a", "third"), (1, 1, "a", "fourth")]).await;
    assert_eq!(outcomes(&items[..1]), [(Outcome::Stored, 3)], "the row with equal content is preferred");
    assert_eq!(refusals(&items[1..]), [ErrorCode::ClientMsgIdReused.number()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_conflict_is_parked_and_stops_only_its_conversation() {
    let bench = Bench::new().await;
    bench.chat(1, 3).await;
    let elsewhere = |id, seq| gochat_proto::bus::v1::PersistMessage {
        conversation_id: "single_1_3".into(),
        ..message(id, seq, "e", "elsewhere")
    };
    bench.save(vec![(0, record(1, vec![message(10, 1, "a", "one"), elsewhere(11, 1)]))]).await;
    let saved = bench
        .save(vec![
            (1, record(1, vec![message(12, 2, "b", "two"), message(13, 1, "c", "taken")])),
            (2, record(1, vec![message(14, 3, "d", "three"), message(10, 9, "f", "id taken")])),
        ])
        .await;
    assert_eq!((saved.saved, saved.parked, saved.next_offset), (2, 2, 3), "the partition goes on");
    let page = bench.history(0, 0, 10, true).await;
    assert_eq!(page.messages.len(), 3);
    assert_eq!((page.stored_through_seq, page.complete, page.has_more), (2, false, false));
    let parked = bench.store.parked(10).await.unwrap();
    assert_eq!(parked.iter().map(|p| p.log_offset).collect::<Vec<_>>(), [1, 2]);
    assert!(parked[0].reason.contains("message 10"), "{}", parked[0].reason);
    bench.save(vec![(3, record(1, vec![elsewhere_next(15)]))]).await;
    let other = bench.store.conversations(&["single_1_3".into()]).await.unwrap();
    assert_eq!((other[0].head.stored_through_seq, other[0].head.parked), (2, false));
}

fn elsewhere_next(id: i64) -> gochat_proto::bus::v1::PersistMessage {
    gochat_proto::bus::v1::PersistMessage { conversation_id: "single_1_3".into(), ..message(id, 2, "g", "elsewhere") }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_what_makes_no_sense_is_parked_too() {
    let bench = Bench::new().await;
    let mut nowhere = message(10, 1, "a", "x");
    nowhere.conversation_id = "single_8_9".into();
    let mut hashless = message(11, 1, "b", "x");
    hashless.content_hash = Default::default();
    let garbage = SaveRecord { offset: 1, record: vec![0xff; 9].into() };
    bench.save(vec![(0, record(1, vec![nowhere, hashless, message(12, 2, "c", "fine")]))]).await;
    let request = SaveRecordsRequest { partition: PARTITION, records: vec![garbage] };
    let saved = bench.pipeline().save_records(ask(request)).await.unwrap().into_inner();
    assert_eq!((saved.parked, saved.next_offset), (1, 2));
    assert_eq!(bench.store.parked(10).await.unwrap().len(), 3);
    assert_eq!(bench.stored().await, (vec![(2, "fine".into())], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_colliding_places_are_probed() {
    let bench = Bench::with_hash_bits(2).await;
    let names: Vec<String> = (0..12).map(|i| format!("m{i}")).collect();
    let batch: Vec<_> = names.iter().zip(1..).map(|(n, seq)| message(seq * 10, seq, n, n)).collect();
    // Four places only: what finds none free is parked, everything else keeps its own.
    let saved = bench.save(vec![(0, record(1, batch[..2].to_vec()))]).await;
    assert_eq!((saved.saved, saved.voided, saved.parked), (2, 0, 0));
    let again = [message(1000, 50, "m0", "m0"), message(1001, 51, "m1", "m1")];
    let saved = bench.save(vec![(1, record(1, again.to_vec()))]).await;
    assert_eq!((saved.saved, saved.voided), (0, 2), "found behind the collisions");
    let writer = bench.draw().await;
    let asked: Vec<Asked<'_>> = names[..2].iter().zip(0..).map(|(n, o)| (o, 1, n.as_str(), n.as_str())).collect();
    let items = bench.prepared(writer, CHAT, 0, &asked).await;
    assert_eq!(outcomes(&items), [(Outcome::Stored, 1), (Outcome::Stored, 2)]);
    let saved = bench.save(vec![(2, record(1, batch[2..].to_vec()))]).await;
    assert_eq!((saved.saved, saved.parked), (2, 8), "no place is taken twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_claims_are_known_over_the_turn_of_a_period() {
    let bench = Bench::new().await;
    bench.save(vec![(0, record(1, vec![message(10, 1, "a", "one")]))]).await;
    bench.clock.advance(Duration::from_secs(31 * 24 * 3600));
    let saved = bench.save(vec![(1, record(1, vec![message(11, 2, "a", "one"), message(12, 3, "b", "two")]))]).await;
    assert_eq!((saved.saved, saved.voided), (1, 1));
    let writer = bench.draw().await;
    let items = bench.prepared(writer, CHAT, 0, &[(0, 1, "a", "one"), (1, 1, "b", "two")]).await;
    assert_eq!(outcomes(&items), [(Outcome::Stored, 1), (Outcome::Stored, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_are_woken_by_the_save_that_passes_them() {
    let bench = Bench::new().await;
    let wait = |offset, timeout_ms| {
        let mut client = bench.pipeline();
        let positions = vec![Position { partition: PARTITION, offset }];
        async move {
            let request = AwaitPositionsRequest { positions, timeout_ms };
            client.await_positions(ask(request)).await.unwrap().into_inner().passed
        }
    };
    assert!(wait(0, 0).await, "nothing to wait for");
    assert!(!wait(1, 0).await);
    let waiting = tokio::spawn(wait(2, 20_000));
    bench.save(vec![(0, record(1, vec![]))]).await;
    assert!(!wait(2, 1).await);
    bench.save(vec![(1, record(1, vec![]))]).await;
    assert!(waiting.await.unwrap());
}

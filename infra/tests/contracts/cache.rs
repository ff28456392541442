//! What every `Cache` must do, whichever it is. Each case makes its own keys from `name`.

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use gochat_infra::cache::{Cache, CacheError, Claim, ClaimRequest, Entry, Reservation, SequenceReply, SequenceRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A cache under test and how its time passes and how it is made to lose everything.
pub(crate) struct Subject {
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) advance: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
    pub(crate) lose_everything: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

const MINUTE: Duration = Duration::from_secs(60);

/// Runs every case.
pub(crate) async fn run(subject: &Subject) {
    values(subject).await;
    races(subject).await;
    hashes(subject).await;
    sorted_sets(subject).await;
    sorted_races(subject).await;
    kinds(subject).await;
    sequences(subject).await;
    renumbering(subject).await;
    reservations(subject).await;
    sequence_races(subject).await;
    claim_lifetimes(subject).await;
    incarnations(subject).await;
}

fn key(name: &str) -> String {
    format!("contract:{name}")
}

fn entry(name: &str, value: &'static str, ttl: Option<Duration>) -> Entry {
    Entry { key: key(name), value: Bytes::from_static(value.as_bytes()), ttl }
}

async fn values(subject: &Subject) {
    let cache = &subject.cache;
    let keys = [key("a"), key("empty"), key("missing"), key("short")];
    cache.set(vec![entry("a", "1", None), entry("empty", "", None), entry("short", "x", Some(MINUTE))]).await.unwrap();
    let expected = [Some(Bytes::from("1")), Some(Bytes::new()), None, Some(Bytes::from("x"))];
    assert_eq!(cache.get(&keys).await.unwrap(), expected, "a miss is not an empty value");
    (subject.advance)(2 * MINUTE).await;
    assert_eq!(cache.get(&keys[3..]).await.unwrap(), [None], "its time is over");
    cache.set(vec![entry("a", "2", Some(MINUTE))]).await.unwrap();
    assert_eq!(cache.expire(&[key("a"), key("missing")], 5 * MINUTE).await.unwrap(), [true, false]);
    (subject.advance)(2 * MINUTE).await;
    assert_eq!(cache.get(&keys[..1]).await.unwrap(), [Some(Bytes::from("2"))], "its time was renewed");
    cache.delete(&[key("a"), key("missing")]).await.unwrap();
    assert_eq!(cache.get(&keys[..1]).await.unwrap(), [None]);
    assert_eq!(cache.get(&[]).await.unwrap(), []);
}

async fn races(subject: &Subject) {
    let tries = (0..50).map(|_| {
        let cache = subject.cache.clone();
        tokio::spawn(async move { cache.set_if_absent(entry("race", "me", Some(MINUTE))).await.unwrap() })
    });
    let winners = join_all(tries).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!(winners, 1);
    (subject.advance)(2 * MINUTE).await;
    assert!(subject.cache.set_if_absent(entry("race", "next", None)).await.unwrap(), "absent again after its time");
    assert!(!subject.cache.set_if_absent(entry("race", "third", None)).await.unwrap());
    assert_eq!(subject.cache.get(&[key("race")]).await.unwrap(), [Some(Bytes::from("next"))]);
}

async fn hashes(subject: &Subject) {
    let cache = &subject.cache;
    let set = |name: &str, field: &str, value: &'static str| (key(name), field.to_owned(), Bytes::from(value));
    cache.hash_set(vec![set("h1", "x", "1"), set("h2", "y", "2"), set("h1", "z", "3")], MINUTE).await.unwrap();
    let got = cache.hash_get(&[key("h1"), key("none"), key("h2")]).await.unwrap();
    let sorted = |hash: &[(String, Bytes)]| hash.iter().cloned().collect::<BTreeMap<_, _>>();
    assert_eq!(sorted(&got[0]), BTreeMap::from([("x".into(), "1".into()), ("z".into(), "3".into())]));
    assert!(got[1].is_empty());
    assert_eq!(got[2].len(), 1);
    (subject.advance)(Duration::from_secs(40)).await;
    cache.hash_set(vec![set("h1", "x", "4")], MINUTE).await.unwrap();
    (subject.advance)(Duration::from_secs(40)).await;
    let got = cache.hash_get(&[key("h1"), key("h2")]).await.unwrap();
    assert_eq!(sorted(&got[0]).len(), 2, "one field renewed the whole hash");
    assert_eq!(sorted(&got[0])["x"], "4");
    assert!(got[1].is_empty(), "its time is over");
    let pair = |name: &str, field: &str| (key(name), field.to_owned());
    let left =
        cache.hash_delete(&[pair("h1", "x"), pair("h1", "nope"), pair("h1", "z"), pair("h1", "z")]).await.unwrap();
    assert_eq!(left, [true, true, false, false]);
    assert_eq!(cache.expire(&[key("h1")], MINUTE).await.unwrap(), [false], "a hash without fields is no key");
}

async fn sorted_sets(subject: &Subject) {
    let cache = &subject.cache;
    let set = key("sorted");
    let member = |name: &str, score: i64| (name.to_owned(), score);
    assert_eq!(cache.sorted_take(&set, i64::MAX, 9).await.unwrap(), [], "an absent one is empty");
    cache.sorted_add(&set, vec![member("c", 3), member("a", 1), member("b", 2), member("d", -4)]).await.unwrap();
    cache.sorted_add(&set, vec![member("b", 30), member("e", 3)]).await.unwrap();
    (subject.advance)(60 * MINUTE).await;
    assert_eq!(cache.sorted_take(&set, 3, 2).await.unwrap(), [member("d", -4), member("a", 1)], "lowest first");
    assert_eq!(cache.sorted_take(&set, 2, 9).await.unwrap(), [], "another score moved a member");
    let names = ["a", "c", "b"].map(str::to_owned);
    assert_eq!(cache.sorted_remove(&set, &names).await.unwrap(), [false, true, true]);
    assert_eq!(cache.sorted_take(&set, 3, 9).await.unwrap(), [member("e", 3)], "its bound is inclusive");
    assert_eq!(cache.sorted_remove(&set, &names[..1]).await.unwrap(), [false]);
    cache.sorted_add(&set, vec![member("a", 1), member("a", 5)]).await.unwrap();
    assert_eq!(cache.sorted_take(&set, i64::MAX, 9).await.unwrap(), [member("a", 5)], "a member stands once");
}

async fn sorted_races(subject: &Subject) {
    let set = key("sorted race");
    let members = (0..500).map(|i| (i.to_string(), i)).collect();
    subject.cache.sorted_add(&set, members).await.unwrap();
    let takers = (0..10).map(|_| {
        let (cache, set) = (subject.cache.clone(), set.clone());
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let taken = cache.sorted_take(&set, 499, 7).await.unwrap();
                if taken.is_empty() {
                    return mine;
                }
                mine.extend(taken);
                tokio::task::yield_now().await;
            }
        })
    });
    let mut taken: Vec<i64> = Vec::new();
    for mine in join_all(takers).await {
        taken.extend(mine.unwrap().into_iter().map(|(_, score)| score));
    }
    taken.sort_unstable();
    assert_eq!(taken, (0..500).collect::<Vec<_>>(), "each goes to one");
}

async fn kinds(subject: &Subject) {
    let cache = &subject.cache;
    cache.set(vec![entry("plain", "1", None)]).await.unwrap();
    cache.hash_set(vec![(key("hash"), "f".into(), Bytes::new())], MINUTE).await.unwrap();
    assert!(matches!(cache.get(&[key("hash")]).await, Err(CacheError::WrongKind(_))));
    assert!(matches!(cache.hash_get(&[key("plain")]).await, Err(CacheError::WrongKind(_))));
    let set = cache.hash_set(vec![(key("plain"), "f".into(), Bytes::new())], MINUTE).await;
    assert!(matches!(set, Err(CacheError::WrongKind(_))));
    assert!(matches!(cache.sorted_add(&key("hash"), vec![("m".into(), 1)]).await, Err(CacheError::WrongKind(_))));
    assert!(matches!(cache.sorted_take(&key("plain"), 1, 1).await, Err(CacheError::WrongKind(_))));
    cache.set(vec![entry("hash", "2", None)]).await.unwrap();
    assert_eq!(cache.get(&[key("hash")]).await.unwrap(), [Some(Bytes::from("2"))], "a set replaces any kind");
}

fn ask(name: &'static str, content: u128, offset: i64) -> ClaimRequest {
    ClaimRequest {
        key: Bytes::from(name),
        content_hash: content,
        message_id: 1000 + offset,
        created_at_ms: offset * 10,
        offset,
    }
}

/// Claims in one conversation under the current incarnation.
async fn claim(subject: &Subject, name: &str, epoch: i64, floor: i64, claims: Vec<ClaimRequest>) -> SequenceReply {
    let incarnation = subject.cache.incarnation().await.unwrap();
    let request = SequenceRequest { conversation: key(name), epoch, floor, claims };
    let mut replies = subject.cache.claim_sequences(incarnation, vec![request]).await.unwrap().unwrap();
    assert_eq!(replies.len(), 1);
    replies.remove(0)
}

/// Number and freshness of each claim of a reply.
fn numbers(reply: SequenceReply) -> Vec<(i64, bool)> {
    match reply {
        SequenceReply::Claimed(claimed) => claimed.into_iter().map(|c| (c.claim.seq, c.fresh)).collect(),
        other => panic!("expected claims, got {other:?}"),
    }
}

async fn reserve(subject: &Subject, name: &str, start: i64, bound: i64) {
    let incarnation = subject.cache.incarnation().await.unwrap();
    let reservation = Reservation { conversation: key(name), start, bound };
    subject.cache.reserve(incarnation, vec![reservation]).await.unwrap();
}

async fn assigned(subject: &Subject, name: &str) -> Option<i64> {
    subject.cache.assigned(&[key(name)]).await.unwrap()[0]
}

async fn sequences(subject: &Subject) {
    assert_eq!(claim(subject, "s", 1, 0, vec![ask("a", 7, 0)]).await, SequenceReply::NeedsReservation);
    assert_eq!(assigned(subject, "s").await, None);
    reserve(subject, "s", 0, 100).await;
    let SequenceReply::Claimed(made) = claim(subject, "s", 1, 0, vec![ask("a", 7, 0), ask("b", 8, 1)]).await else {
        panic!("reserved")
    };
    let expected = Claim { message_id: 1000, seq: 1, created_at_ms: 0, offset: 0, content_hash: 7 };
    assert_eq!(made[0].claim, expected);
    assert!(made[0].fresh && made[1].fresh && made[1].claim.seq == 2);
    // A redelivery of the same record, and a resend at a later offset: both get the claim that stands.
    assert_eq!(numbers(claim(subject, "s", 1, 0, vec![ask("a", 7, 0)]).await), [(1, false)]);
    let SequenceReply::Claimed(again) = claim(subject, "s", 1, 2, vec![ask("a", 7, 50)]).await else {
        panic!("claimed")
    };
    assert_eq!(again[0].claim, expected, "the standing claim, not the candidate");
    // The same key with other content: the standing claim tells by its hash.
    let SequenceReply::Claimed(reuse) = claim(subject, "s", 1, 2, vec![ask("a", 9, 51)]).await else {
        panic!("claimed")
    };
    assert_eq!((reuse[0].claim.content_hash, reuse[0].fresh), (7, false));
    // Twice in one call.
    assert_eq!(
        numbers(claim(subject, "s", 1, 2, vec![ask("c", 1, 60), ask("c", 1, 61)]).await),
        [(3, true), (3, false)]
    );
    assert_eq!(assigned(subject, "s").await, Some(3));
    // Epochs only rise.
    assert_eq!(numbers(claim(subject, "s", 3, 0, vec![ask("d", 1, 62)]).await), [(4, true)]);
    assert_eq!(claim(subject, "s", 2, 0, vec![ask("e", 1, 63)]).await, SequenceReply::StaleWriter);
    assert_eq!(claim(subject, "s", 2, 0, vec![ask("a", 7, 0)]).await, SequenceReply::StaleWriter);
    assert_eq!(assigned(subject, "s").await, Some(4), "a stale writer changes nothing");
    // Conversations do not touch each other: keys are the conversation's own.
    reserve(subject, "s2", 500, 600).await;
    assert_eq!(numbers(claim(subject, "s2", 1, 0, vec![ask("a", 7, 0)]).await), [(501, true)]);
}

async fn renumbering(subject: &Subject) {
    reserve(subject, "r", 0, 100).await;
    let three = || vec![ask("a", 1, 10), ask("b", 2, 11), ask("c", 3, 12)];
    assert_eq!(numbers(claim(subject, "r", 1, 0, three()).await), [(1, true), (2, true), (3, true)]);
    // Produced again in order, nothing above them used: as they are.
    assert_eq!(numbers(claim(subject, "r", 2, 0, three()).await), [(1, false), (2, false), (3, false)]);
    assert_eq!(
        numbers(claim(subject, "r", 2, 2, vec![ask("b", 2, 11)]).await),
        [(2, false)],
        "its own number is no bar"
    );
    // Produced again below a number in use: a new number and the new candidate's id.
    let SequenceReply::Claimed(renumbered) = claim(subject, "r", 2, 3, vec![ask("a", 1, 9)]).await else {
        panic!("reserved")
    };
    assert_eq!((renumbered[0].claim.seq, renumbered[0].fresh, renumbered[0].claim.message_id), (4, true, 1009));
    // A later resend is only acknowledged: its number stays, however low. Other content: returned as it stands.
    assert_eq!(
        numbers(claim(subject, "r", 2, 4, vec![ask("b", 2, 20), ask("c", 9, 12)]).await),
        [(2, false), (3, false)]
    );
    // Inside one call a fresh number is in use for what follows it.
    assert_eq!(numbers(claim(subject, "r", 2, 0, vec![ask("d", 4, 8), ask("b", 2, 11)]).await), [(5, true), (6, true)]);
    // And so is the number of a claim produced again.
    reserve(subject, "r3", 0, 100).await;
    assert_eq!(
        numbers(claim(subject, "r3", 1, 0, vec![ask("a", 1, 10), ask("b", 2, 11)]).await),
        [(1, true), (2, true)]
    );
    let swapped = vec![ask("b", 2, 11), ask("a", 1, 10)];
    assert_eq!(numbers(claim(subject, "r3", 1, 0, swapped).await), [(2, false), (3, true)]);
}

async fn reservations(subject: &Subject) {
    reserve(subject, "v", 10, 12).await;
    let batch = || vec![ask("a", 1, 0), ask("b", 1, 1), ask("c", 1, 2)];
    assert_eq!(claim(subject, "v", 1, 0, batch()).await, SequenceReply::NeedsReservation, "three do not fit under 12");
    assert_eq!(assigned(subject, "v").await, Some(10), "nothing was changed");
    assert_eq!(
        numbers(claim(subject, "v", 1, 0, vec![ask("c", 1, 2)]).await),
        [(11, true)],
        "no claim was left behind"
    );
    reserve(subject, "v", 12, 20).await;
    assert_eq!(numbers(claim(subject, "v", 1, 0, vec![ask("a", 1, 3)]).await), [(12, true)], "a known counter goes on");
    reserve(subject, "v", 0, 5).await;
    assert_eq!(
        numbers(claim(subject, "v", 1, 0, vec![ask("b", 1, 4)]).await),
        [(13, true)],
        "a bound is never lowered"
    );
    // A failed renumbering puts the standing claim back.
    reserve(subject, "v2", 0, 2).await;
    assert_eq!(numbers(claim(subject, "v2", 1, 0, vec![ask("a", 1, 5)]).await), [(1, true)]);
    let too_many = vec![ask("x", 1, 3), ask("a", 1, 5)];
    assert_eq!(claim(subject, "v2", 1, 0, too_many).await, SequenceReply::NeedsReservation);
    assert_eq!(numbers(claim(subject, "v2", 1, 0, vec![ask("a", 1, 5)]).await), [(1, false)]);
    // A counter below a number in use has been lost: it goes on above what was reserved, once that is told.
    assert_eq!(claim(subject, "v2", 1, 70, vec![ask("y", 1, 6)]).await, SequenceReply::NeedsReservation);
    reserve(subject, "v2", 100, 200).await;
    assert_eq!(numbers(claim(subject, "v2", 1, 70, vec![ask("y", 1, 6)]).await), [(101, true)]);
    // What needs no number needs no counter bound either.
    reserve(subject, "v3", 0, 1).await;
    assert_eq!(numbers(claim(subject, "v3", 1, 0, vec![ask("a", 1, 0)]).await), [(1, true)]);
    assert_eq!(numbers(claim(subject, "v3", 1, 0, vec![ask("a", 1, 0)]).await), [(1, false)]);
    assert_eq!(claim(subject, "v3", 1, 0, vec![ask("b", 1, 1)]).await, SequenceReply::NeedsReservation);
}

async fn sequence_races(subject: &Subject) {
    reserve(subject, "race", 0, 10_000).await;
    let incarnation = subject.cache.incarnation().await.unwrap();
    let tasks = (0..20).map(|task| {
        let cache = subject.cache.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for i in 0..50 {
                let claims = (0..3).map(|j| ClaimRequest {
                    // Every second claim is one that all tasks fight for.
                    key: if j == 1 { format!("shared {i}") } else { format!("{task} {i} {j}") }.into(),
                    content_hash: 1,
                    message_id: 1,
                    created_at_ms: 0,
                    offset: i,
                });
                let request =
                    SequenceRequest { conversation: key("race"), epoch: 1, floor: 0, claims: claims.collect() };
                let reply = cache.claim_sequences(incarnation, vec![request]).await.unwrap().unwrap().remove(0);
                let SequenceReply::Claimed(claimed) = reply else { panic!("reserved") };
                mine.extend(claimed.into_iter().filter(|c| c.fresh).map(|c| c.claim.seq));
                tokio::task::yield_now().await;
            }
            mine
        })
    });
    let mut all = BTreeSet::new();
    let mut handed_out = 0;
    for task in join_all(tasks).await {
        let mine = task.unwrap();
        assert!(mine.is_sorted_by(|a, b| a < b), "a caller's numbers increase");
        handed_out += mine.len();
        all.extend(mine);
    }
    assert_eq!(all.len(), handed_out, "no number twice");
    assert_eq!(assigned(subject, "race").await, Some(all.len() as i64), "and none is skipped");
}

async fn claim_lifetimes(subject: &Subject) {
    reserve(subject, "t", 0, 100).await;
    let both = || vec![ask("kept", 1, 5), ask("released", 1, 6)];
    assert_eq!(numbers(claim(subject, "t", 1, 0, both()).await), [(1, true), (2, true)]);
    let released = vec![(key("t"), Bytes::from("released")), (key("t"), Bytes::from("unknown"))];
    subject.cache.release_claims(released, 2 * MINUTE).await.unwrap();
    (subject.advance)(MINUTE).await;
    assert_eq!(numbers(claim(subject, "t", 1, 2, vec![ask("released", 1, 7)]).await), [(2, false)], "kept for a while");
    (subject.advance)(60 * MINUTE).await;
    let after = vec![ask("kept", 1, 8), ask("released", 1, 9)];
    assert_eq!(numbers(claim(subject, "t", 1, 2, after).await), [(1, false), (3, true)]);
    reserve(subject, "void", 0, 100).await;
    assert_eq!(
        numbers(claim(subject, "void", 1, 0, vec![ask("a", 1, 5), ask("b", 1, 6)]).await),
        [(1, true), (2, true)]
    );
    subject.cache.release_claims(vec![(key("void"), Bytes::from("a"))], Duration::ZERO).await.unwrap();
    let again = vec![ask("b", 1, 7), ask("a", 1, 8)];
    assert_eq!(numbers(claim(subject, "void", 1, 2, again).await), [(2, false), (3, true)], "gone at once");
    subject.cache.release_claims(vec![(key("t"), Bytes::from("kept"))], 48 * 60 * MINUTE).await.unwrap();
    (subject.advance)(25 * 60 * MINUTE).await;
    let standing = claim(subject, "t", 1, 3, vec![ask("kept", 1, 10)]).await;
    assert!(
        standing == SequenceReply::NeedsReservation || numbers(standing)[0].1,
        "a claim is kept 24 h at most: releasing never makes it longer"
    );
}

async fn incarnations(subject: &Subject) {
    let cache = &subject.cache;
    let before = cache.incarnation().await.unwrap();
    assert_ne!(before, 0);
    reserve(subject, "i", 0, 100).await;
    assert_eq!(numbers(claim(subject, "i", 9, 0, vec![ask("a", 1, 0)]).await), [(1, true)]);
    cache.set(vec![entry("gone", "1", None)]).await.unwrap();
    (subject.lose_everything)().await;
    let after = cache.incarnation().await.unwrap();
    assert!(after != before && after != 0);
    assert_eq!(cache.get(&[key("gone")]).await.unwrap(), [None]);
    let request = || SequenceRequest { conversation: key("i"), epoch: 1, floor: 0, claims: vec![ask("a", 1, 0)] };
    assert_eq!(cache.claim_sequences(before, vec![request()]).await.unwrap(), Err(after), "refused with the new one");
    let late = Reservation { conversation: key("i"), start: 0, bound: 100 };
    cache.reserve(before, vec![late]).await.unwrap();
    assert_eq!(assigned(subject, "i").await, None, "a reservation for the old space is void");
    let reply = cache.claim_sequences(after, vec![request()]).await.unwrap();
    assert_eq!(reply, Ok(vec![SequenceReply::NeedsReservation]));
    reserve(subject, "i", 100, 200).await;
    assert_eq!(numbers(claim(subject, "i", 1, 0, vec![ask("a", 1, 0)]).await), [(101, true)], "epochs were lost too");
}

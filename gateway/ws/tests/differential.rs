//! The decoder against tungstenite, on random valid and damaged streams. A failure names the seed that replays it.

#![allow(clippy::print_stderr, reason = "a failing seed is printed to be replayed")]

mod support;

use gochat_ws::Role;
use support::{Owned, Random, decode_cut, mutate, random_stream, reference};

const STREAMS: u64 = 3_000;

fn cuts(random: &mut Random, len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..random.below(6)).map(|_| random.below(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// Names the seed when a check panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed: {}", self.0);
        }
    }
}

fn role(seed: u64) -> Role {
    if seed.is_multiple_of(2) { Role::Server } else { Role::Client }
}

#[test]
fn valid_streams_agree() {
    for seed in 0..STREAMS {
        let _seed = Seed(seed);
        let mut random = Random(seed);
        let stream = random_stream(&mut random, role(seed), 6);
        let cuts = cuts(&mut random, stream.len());
        let events = decode_cut(role(seed), 1 << 16, &stream, &cuts);
        assert!(!events.iter().any(|event| matches!(event, Owned::Failed(_))), "a valid stream failed: {events:?}");
        reference::assert_agreement(role(seed), 1 << 16, &stream, &cuts);
    }
}

#[test]
fn damaged_streams_agree() {
    let mut failed = 0;
    for seed in 0..4 * STREAMS {
        let _seed = Seed(seed);
        let mut random = Random(seed ^ 0xdead_beef);
        let mut stream = random_stream(&mut random, role(seed), 4);
        mutate(&mut random, &mut stream);
        let cuts = cuts(&mut random, stream.len());
        reference::assert_agreement(role(seed), 300, &stream, &cuts);
        let events = decode_cut(role(seed), 300, &stream, &cuts);
        failed += u64::from(matches!(events.last(), Some(Owned::Failed(_))));
    }
    assert!(failed > STREAMS, "only {failed} of the damaged streams failed: the damage tests nothing");
}

//! `kill -9` at random moments under load: what was acknowledged is in history under the same numbers, exactly once;
//! what was resent appears once; first deliveries are in order; `complete: true` never lacks a message. In groups, no
//! removed member receives and no added member misses what was said, what was recalled stays recalled, counts are right.
//! Short in the normal run; `cargo xtask test --kills 50` is the long form, `--seed` replays.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

#[test]
fn nothing_acknowledged_is_lost_by_kill_nine() {
    let kills = std::env::var("GOCHAT_KILLS").map_or(5, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    support::load::run_with_deaths(dir.path(), &["--limits", "off"], kills, 4, support::seed(), || {});
}

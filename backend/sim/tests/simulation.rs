//! Seeds of the simulation: hundreds in the normal run. `GOCHAT_SIM_SEEDS=N` runs N of them, `GOCHAT_SIM_SEED=S` one.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may fail by panicking, and prints the failing seed"
)]

use gochat_sim::{Broken, OmittedRules, run};

const SEEDS: u64 = 300;
/// Seeds in which a run without a rule must have failed.
const SEEDS_WITHOUT: u64 = 20_000;

fn simulate(seed: u64, without: OmittedRules) -> Result<Vec<String>, Vec<String>> {
    simulate_with(seed, without, None)
}

fn simulate_with(seed: u64, without: OmittedRules, broken: Option<Broken>) -> Result<Vec<String>, Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(seed, without, broken))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_acknowledged_is_lost_whatever_fails() {
    let seeds = match number("GOCHAT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("GOCHAT_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(violations) = simulate(seed, OmittedRules::default()) {
            panic!("replay with GOCHAT_SIM_SEED={seed}:\n{}", violations.join("\n"));
        }
    }
}

#[test]
fn a_seed_replays() {
    for seed in 0..30 {
        let first = simulate(seed, OmittedRules::default());
        assert_eq!(first, simulate(seed, OmittedRules::default()), "seed {seed}");
    }
}

fn notices(without: OmittedRules) {
    let found = (0..SEEDS_WITHOUT).find_map(|seed| simulate(seed, without).err().map(|v| (seed, v)));
    let (seed, violations) = found.unwrap_or_else(|| panic!("no seed notices that {without:?} are missing"));
    eprintln!("without {without:?}, seed {seed}: {}", violations.join("; "));
}

#[test]
fn the_look_at_the_epoch_after_the_append_is_needed() {
    notices(OmittedRules { epoch_check: true, ..OmittedRules::default() });
}

#[test]
fn the_wait_behind_a_marker_is_needed() {
    notices(OmittedRules { marker_wait: true, ..OmittedRules::default() });
}

#[test]
fn producing_a_known_redelivery_again_is_needed() {
    notices(OmittedRules { known_again: true, ..OmittedRules::default() });
}

#[test]
fn the_wait_until_what_a_recall_names_is_stored_is_needed() {
    notices(OmittedRules { target_wait: true, ..OmittedRules::default() });
}

/// Some seed notices it, by the violation of this number.
fn notices_broken(broken: Broken, number: &str) {
    let found = (0..SEEDS_WITHOUT).find_map(|seed| {
        let violations = simulate_with(seed, OmittedRules::default(), Some(broken)).err()?;
        violations.iter().any(|violation| violation.contains(number)).then_some((seed, violations))
    });
    let (seed, violations) = found.unwrap_or_else(|| panic!("no seed notices {broken:?}"));
    eprintln!("{broken:?}, seed {seed}: {}", violations.join("; "));
}

#[test]
fn a_recall_that_is_not_applied_is_noticed() {
    notices_broken(Broken::RecallsForgotten, "9: ");
}

#[test]
fn a_client_that_does_not_read_recalls_is_noticed() {
    notices_broken(Broken::RecallsUnread, "10: ");
}

#[test]
fn a_push_to_a_removed_member_is_noticed() {
    notices_broken(Broken::RostersOfBefore, "11: ");
}

#[test]
fn a_push_to_the_members_of_before_is_noticed() {
    notices_broken(Broken::RoomsOfBefore, "11: ");
}

#[test]
fn an_event_that_nobody_relays_is_noticed() {
    notices_broken(Broken::EventsForgotten, "12: ");
}

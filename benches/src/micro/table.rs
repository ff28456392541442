//! What the command prints: names, times, and the table of everything in Markdown.

#![allow(clippy::print_stdout, reason = "this is a command")]

use std::fmt::Write as _;

use super::baseline::Baseline;
use super::case::Case;
use super::count::Count;
use super::time::Timed;

pub(super) fn line(text: &str) {
    println!("{text}");
}

pub(super) fn names(cases: &[Case]) {
    for case in cases {
        println!("{}", case.name());
    }
}

pub(super) fn times(timed: &[Timed]) {
    for one in timed {
        let ratio = one.to_ours.map(|ratio| format!("  {ratio} of ours")).unwrap_or_default();
        println!("{:<32} {:>26} ns{ratio}", one.name, one.ns.to_string());
    }
}

/// One row for each case.
pub(super) fn whole(timed: &[Timed], counts: &[Count], baseline: Option<&Baseline>) -> String {
    let mut text = "| step | who | instructions | to the baseline | allocations | ns | time to ours |\n\
        |---|---|---|---|---|---|---|\n"
        .to_owned();
    for one in timed {
        let count = counts.iter().find(|count| count.name == one.name);
        let change = count.and_then(|count| baseline?.judge(count).change());
        let row = [
            one.step.clone(),
            one.who.to_owned(),
            count.map(|count| format!("{:.0}", count.instructions)).unwrap_or_default(),
            change.map(|change| format!("{:+.1} %", 100.0 * change)).unwrap_or_default(),
            format!("{:.2}", one.allocations).trim_end_matches(".00").to_owned(),
            one.ns.to_string(),
            one.to_ours.map(|ratio| ratio.to_string()).unwrap_or_default(),
        ];
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

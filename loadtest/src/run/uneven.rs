//! Runs in which some clients misbehave: `slow-reader` and `greedy`. The figures of the whole are those of the clients that
//! behave; parts hold both and the time before. Owns the preparation and the judgement, no measuring.

use std::collections::BTreeMap;

use gochat_ws::Opcode;

use crate::api;
use crate::cli::{GreedyArgs, GreedyProtocol, LoadArgs, RoomProtocol, SlowReaderArgs, check_size};
use crate::contrast::Contrast;
use crate::driver::Plan;
use crate::engine::Outcome;
use crate::error::LoadError;
use crate::ledger::Messages;
use crate::observer::say;
use crate::percentiles::Latencies;
use crate::report::{Label, Part, Report, Treatment, Verdict};
use crate::scenario::{
    Chat, ChatSetup, ECHO_SIZE_MIN, Echo, Greedy, Publish, PublishSetup, RAW_SIZE_MIN, ROOM, Side, Sides, Slow,
    SlowReader, Speech,
};
use crate::schedule::Load;
use crate::tokens;
use crate::traffic::Measured;

use super::gochat::users_of;
use super::{CHAT_SIZE_MAX, ECHO_SIZE_MAX, NEEDS_TOKENS, chat_path, drive, label, plan, report};

/// A room some of whose receivers stop reading.
pub(super) fn slow_reader(args: &SlowReaderArgs) -> Result<Report, LoadError> {
    let clients = args.connections;
    let slow = (u64::from(clients) * u64::from(args.slow_percent)).div_ceil(100) as u32;
    let healthy = clients - slow;
    if args.publishers == 0 || args.publishers > healthy {
        let why = format!("--publishers must be 1 to {healthy}, the clients that keep reading");
        return Err(LoadError::Arguments(why));
    }
    let with_baseline = LoadArgs { warmup: args.load.warmup + args.baseline, ..args.load.clone() };
    let load = open(&with_baseline)?;
    let mut plan = plan(&args.common, clients, with_baseline.warmup, args.load.measured())?;
    let (protocol, speech) = match (args.protocol, &args.tokens) {
        (RoomProtocol::RawPublish, _) => {
            check_size(&args.size, RAW_SIZE_MIN..=ECHO_SIZE_MAX)?;
            ("raw-publish", Speech::Raw)
        }
        (RoomProtocol::Gochat, None) => return Err(LoadError::Arguments(NEEDS_TOKENS.to_owned())),
        (RoomProtocol::Gochat, Some(path)) => {
            check_size(&args.size, 1..=CHAT_SIZE_MAX)?;
            let users = tokens::read(path, clients as usize)?;
            say(&format!("{} users join the room {ROOM}", users.len()));
            api::join_world(&plan.url, &users)?;
            plan.url.target = chat_path(&plan.url);
            let run = plan.seed as u32;
            ("gochat", Speech::Gochat { users: users.into(), rooms: vec![ROOM.to_owned()], run })
        }
    };
    let label = label("slow-reader", protocol, Some(&load), Some(&args.size));
    let (publishers, sizes) = (args.publishers, args.size.clone());
    let setup = PublishSetup { speech, clients: healthy, room_size: healthy, publishers, load, sizes };
    let publish = Publish::new(setup).against(Contrast::new(healthy, args.load.warmup, args.baseline));
    let mut driver = SlowReader::new(publish, healthy, clients, args.stall);
    let ran = drive(&args.common, &plan, &mut driver, args.size.max())?;
    let (measured, slow) = driver.finish();
    Ok(report_slow(label, &plan, ran, measured, slow))
}

fn report_slow(label: Label, plan: &Plan, ran: (&'static str, Outcome), mut measured: Measured, slow: Slow) -> Report {
    let contrast = measured.contrast.take();
    let mut healthy = Part::of("healthy", &measured, "deliver");
    healthy.treatment.p99_times_before = contrast.as_ref().and_then(|before| p99_ratio(&measured.last, &before.last));
    let closed = slow.closed.values().sum();
    let fates = [("caught_up", slow.caught_up), ("behind", slow.behind), ("closed", closed)];
    let lagging = Part {
        name: "slow",
        sent: slow.messages.sent,
        done: slow.messages.delivered,
        messages: Some(slow.messages),
        latency_us: slow.catch_up.percentiles().map(|row| ("catch_up", row)).into_iter().collect(),
        treatment: Treatment { fates: some(fates), ..Treatment::default() },
        errors: slow.closed,
    };
    let before = contrast.filter(|it| it.sent > 0).map(|it| Part::before(&it, "deliver"));
    let mut report = report(label, plan, ran, Some(measured));
    // What slow readers miss is a fate; what reaches them must be right.
    blame(&mut report, &lagging, Messages { lost: 0, ..slow.messages });
    report.detail.parts = before.into_iter().chain([healthy, lagging]).collect();
    report
}

/// Greedy clients among polite ones.
pub(super) fn greedy(args: &GreedyArgs) -> Result<Report, LoadError> {
    let (polite, clients) = (args.connections, args.connections.saturating_add(args.greedy));
    if polite == 0 {
        return Err(LoadError::Arguments("--connections must be at least 1: the polite clients".to_owned()));
    }
    let with_baseline = LoadArgs { warmup: args.load.warmup + args.baseline, ..args.load.clone() };
    let load = open(&with_baseline)?;
    let mut plan = plan(&args.common, clients, with_baseline.warmup, args.load.measured())?;
    let rush = args.greedy_rate.map_or_else(|| Load::closed(args.greedy_in_flight), Load::at);
    let contrast = Contrast::new(polite, args.load.warmup, args.baseline);
    match args.protocol {
        GreedyProtocol::RawEcho => {
            check_size(&args.size, ECHO_SIZE_MIN..=ECHO_SIZE_MAX)?;
            let label = label("greedy", "raw-echo", Some(&load), Some(&args.size));
            let side = |clients, load| Echo::new(clients, load, &args.size, Opcode::Text);
            let sides = (side(0..polite, load).against(contrast), side(polite..clients, rush));
            run_greedy(args, &plan, label, sides)
        }
        GreedyProtocol::Gochat => {
            check_size(&args.size, 1..=CHAT_SIZE_MAX)?;
            if !polite.is_multiple_of(2) || !args.greedy.is_multiple_of(2) {
                let why = "users write to each other in pairs: --connections and --greedy must be even";
                return Err(LoadError::Arguments(why.to_owned()));
            }
            let users = users_of(&args.users, &plan, clients)?;
            say(&format!("opening {} chats", clients / 2));
            let conversations = api::open_chats(&plan.url, &users)?;
            plan.url.target = chat_path(&plan.url);
            let label = label("greedy", "gochat", Some(&load), Some(&args.size));
            let side = |at: u32, senders: std::ops::Range<u32>, load| {
                let (users, conversations) = (users.clone(), conversations.clone());
                let (sizes, run) = (args.size.clone(), (plan.seed as u32).wrapping_add(at));
                let senders = senders.collect();
                Chat::new(ChatSetup { users, conversations, load, senders, sizes, run, acked: None })
            };
            let sides = (side(0, 0..polite, load).against(contrast), side(1, polite..clients, rush));
            run_greedy(args, &plan, label, sides)
        }
    }
}

fn run_greedy<S: Side>(args: &GreedyArgs, plan: &Plan, label: Label, sides: (S, S)) -> Result<Report, LoadError> {
    let mut driver = Greedy::new(sides.0, sides.1, args.connections);
    let ran = drive(&args.common, plan, &mut driver, args.size.max())?;
    Ok(report_greedy(label, plan, ran, driver.finish(), u64::from(args.greedy)))
}

fn report_greedy(label: Label, plan: &Plan, ran: (&'static str, Outcome), sides: Sides, greedy: u64) -> Report {
    let Sides { mut polite, greedy: rushed, closed } = sides;
    let is_echo = label.protocol == "raw-echo";
    let arrivals = if is_echo { "rtt" } else { "deliver" };
    let contrast = polite.contrast.take();
    let done = [&polite, &rushed].map(|it| it.in_window.delivered);
    let all = done[0] + done[1];
    let share = |at: usize| (all > 0).then(|| done[at] as f64 / all as f64);
    let mut mannered = Part::of("polite", &polite, arrivals);
    mannered.treatment = Treatment {
        fairness: contrast.as_ref().and_then(|it| it.fairness()),
        share: share(0),
        p99_times_before: contrast.as_ref().and_then(|it| p99_ratio(&polite.deliver, &it.deliver)),
        fates: BTreeMap::new(),
    };
    let mut rushing = Part::of("greedy", &rushed, arrivals);
    let cut_off: u64 = closed.values().sum();
    let fates = some([("open", greedy.saturating_sub(cut_off)), ("closed", cut_off)]);
    rushing.treatment = Treatment { share: share(1), fates, ..Treatment::default() };
    rushing.errors.extend(closed);
    let before = contrast.filter(|it| it.sent > 0).map(|it| Part::before(&it, arrivals));
    let mut report = report(label, plan, ran, Some(polite));
    if is_echo {
        report.latency_us.rtt = report.latency_us.deliver.take();
        report.detail.service_us.rtt = report.detail.service_us.deliver.take();
    }
    // Costs are of all messages, and were divided by those of the polite.
    let of_all = |figure: Option<f64>| Some(figure? * share(0)?);
    for cost in [Some(&mut report.generator), report.server.as_mut()].into_iter().flatten() {
        cost.us_per_message = of_all(cost.us_per_message);
        cost.switches_per_message = of_all(cost.switches_per_message);
    }
    // The server may refuse the greedy and cut them off; what it took it owes them.
    let mut owed = Messages { refused: 0, ..rushed.messages };
    if cut_off > 0 {
        owed = Messages { lost: 0, unacked: 0, ..owed };
    }
    blame(&mut report, &rushing, owed);
    report.detail.parts = before.into_iter().chain([mannered, rushing]).collect();
    report
}

/// The load of clients that behave: it does not slow down with the server.
fn open(args: &LoadArgs) -> Result<Load, LoadError> {
    match args.load() {
        load @ Load::Open { .. } => Ok(load),
        Load::Closed { .. } => {
            Err(LoadError::Arguments("what others cost shows in an open loop only: give --rate or --phases".to_owned()))
        }
    }
}

/// The fates that somebody met.
fn some<const N: usize>(fates: [(&'static str, u64); N]) -> BTreeMap<&'static str, u64> {
    fates.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn p99_ratio(now: &Latencies, before: &Latencies) -> Option<f64> {
    let (now, before) = (now.percentiles()?.p99, before.percentiles()?.p99);
    (before > 0.0).then(|| (now / before * 1000.0).round() / 1000.0)
}

/// Fails the run for what is wrong even where clients misbehave, and says what became of them.
fn blame(report: &mut Report, part: &Part, owed: Messages) {
    if let Some(faults) = owed.faults() {
        report.verdict = Verdict::Failed;
        report.reasons.insert(0, format!("{}: {faults}", part.name));
    }
    report.reasons.extend(part.errors.iter().map(|(why, count)| format!("{}: {count} × {why}", part.name)));
}

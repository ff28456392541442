//! Runs in which connections are closed and opened again. Owns no closing: that is the scenarios'.

use std::time::Duration;

use gochat_ws::Opcode;

use crate::api;
use crate::cli::{ChurnArgs, HolderArgs, HolderProtocol, PresenceStormArgs, ReconnectStormArgs};
use crate::driver::Plan;
use crate::error::LoadError;
use crate::observer::say;
use crate::profile::Profile;
use crate::report::{Report, Verdict};
use crate::scenario::{
    Backoff, Churn, Cycles, Echo, GONE_NS, Idle, Loss, Pace, Presence, PresenceSetup, Reopened, Storm, Talk,
};
use crate::schedule::{ArrivalProcess, Load};
use crate::spread::Sizes;
use crate::{tokens, verdict};

use super::gochat::users_of;
use super::{NEEDS_TOKENS, chat_path, drive, label, plan, report};

/// Up to so long an absence is nobody's business.
const BLIP_NS_MAX: u64 = 25_000_000_000;
/// How users who could not connect try again.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
/// Bytes of a message.
const SIZE: usize = 64;

/// Connections are closed and opened at a rate.
pub(super) fn churn(args: &ChurnArgs) -> Result<Report, LoadError> {
    let mut plan = plan(&args.common, args.holder.connections, args.warmup, args.duration)?;
    let cycles =
        Cycles { profile: Profile::constant(args.rate), arrivals: args.arrivals, backoff: backoff(&args.holder) };
    let load = Load::Open { profile: cycles.profile.clone(), arrivals: args.arrivals };
    // Messages are said when a connection is opened: their load is never asked what is due.
    let talk = talk(&args.holder, &mut plan, args.echo.then(|| load.clone()))?;
    let mut driver = Churn::new(talk, plan.clients, cycles, plan.seed);
    let ran = drive(&args.common, &plan, &mut driver, SIZE)?;
    let (measured, reopened) = driver.finish();
    let report = report(label("churn", protocol(&args.holder), Some(&load), None), &plan, ran, measured);
    Ok(with(report, reopened))
}

/// Many connections are lost at one moment.
pub(super) fn reconnect_storm(args: &ReconnectStormArgs) -> Result<Report, LoadError> {
    let mut plan = plan(&args.common, args.holder.connections, args.warmup, args.duration)?;
    let loss = match args.restart {
        true => Loss::Restart,
        false => Loss::Cut { percent: args.cut, after_ns: args.after.as_nanos() as u64 },
    };
    if !args.restart && args.after >= args.duration {
        return Err(LoadError::Arguments("--after must be shorter than --duration".to_owned()));
    }
    let open = |rate: f64| Load::Open { profile: Profile::constant(rate), arrivals: ArrivalProcess::Uniform };
    let load = args.rate.map(open);
    let talk = talk(&args.holder, &mut plan, load.clone())?;
    let mut driver = Storm::new(talk, plan.clients, loss, backoff(&args.holder), plan.seed);
    let ran = drive(&args.common, &plan, &mut driver, SIZE)?;
    let (measured, reopened) = driver.finish();
    let report = report(label("reconnect-storm", protocol(&args.holder), load.as_ref(), None), &plan, ran, measured);
    Ok(with(report, reopened))
}

/// Users come and go at one moment.
pub(super) fn presence_storm(args: &PresenceStormArgs) -> Result<Report, LoadError> {
    let clients = args.connections;
    let mut plan = plan(&args.common, clients, args.warmup, args.duration)?;
    let flappers = (u64::from(clients) * u64::from(args.flapping) / 100).max(1) as u32;
    if args.watchers > clients.saturating_sub(flappers) {
        let why = "--watchers must be at most those of --connections who do not come and go: lower it or --flapping";
        return Err(LoadError::Arguments(why.to_owned()));
    }
    let nanos = |time: Duration| time.as_nanos() as u64;
    let pace = Pace { spread_ns: nanos(args.spread), stay_ns: args.stay.map(nanos), away_ns: args.away.map(nanos) };
    if pace.away_ns.is_some_and(|away_ns| (BLIP_NS_MAX + 1..GONE_NS).contains(&away_ns)) {
        let why = "--away between 25s and 40s leaves open whether anybody is told: give at most 25s or at least 40s";
        return Err(LoadError::Arguments(why.to_owned()));
    }
    let users = users_of(&args.users, &plan, clients)?;
    let setup = PresenceSetup { users, flappers, watchers: args.watchers, pace, backoff: BACKOFF };
    let pairs = setup.pairs();
    say(&format!("opening {} single chats", pairs.len() / 2));
    api::open_chats(&plan.url, &pairs)?;
    plan.url.target = chat_path(&plan.url);
    (plan.late, plan.messages) = (flappers, false);
    let mut driver = Presence::new(setup, plan.seed);
    let ran = drive(&args.common, &plan, &mut driver, SIZE)?;
    let (told, reopened) = driver.finish();
    let mut report = report(label("presence-storm", "gochat", None, None), &plan, ran, None);
    report.detail.parts.push(told);
    Ok(with(report, reopened))
}

fn backoff(holder: &HolderArgs) -> Backoff {
    Backoff { first: holder.backoff, longest: holder.backoff_max }
}

fn protocol(holder: &HolderArgs) -> &'static str {
    match holder.protocol {
        HolderProtocol::RawEcho => "raw-echo",
        HolderProtocol::Gochat => "gochat",
    }
}

/// What clients say, with messages where there is a load of them.
fn talk(holder: &HolderArgs, plan: &mut Plan, messages: Option<Load>) -> Result<Talk, LoadError> {
    plan.messages = messages.is_some();
    match (holder.protocol, &holder.tokens, messages) {
        (HolderProtocol::RawEcho, Some(_), _) => {
            Err(LoadError::Arguments("--tokens is of --protocol gochat: leave it out".to_owned()))
        }
        (HolderProtocol::RawEcho, None, None) => Ok(Talk::Idle(Box::new(Idle::new(None)))),
        (HolderProtocol::RawEcho, None, Some(load)) => {
            Ok(Talk::Echo(Box::new(Echo::new(0..plan.clients, load, &Sizes::from(SIZE), Opcode::Text))))
        }
        (HolderProtocol::Gochat, _, Some(_)) => {
            Err(LoadError::Arguments("messages need --protocol raw-echo here: leave them out".to_owned()))
        }
        (HolderProtocol::Gochat, None, None) => Err(LoadError::Arguments(NEEDS_TOKENS.to_owned())),
        (HolderProtocol::Gochat, Some(path), None) => {
            plan.url.target = chat_path(&plan.url);
            let users = tokens::read(path, plan.clients as usize)?;
            Ok(Talk::Idle(Box::new(Idle::new(Some(users.into_iter().map(|user| user.access_token).collect())))))
        }
    }
}

/// The report with what became of the connections.
fn with(mut report: Report, reopened: Reopened) -> Report {
    let Reopened { part, failures, remarks, lag } = reopened;
    if !failures.is_empty() {
        report.verdict = Verdict::Failed;
    }
    report.reasons.splice(0..0, failures);
    if let Some(late) = lag.as_ref().and_then(verdict::late) {
        report.verdict = if report.verdict == Verdict::Ok { Verdict::Invalid } else { report.verdict };
        report.reasons.push(late);
    }
    report.lag_us = lag.or(report.lag_us);
    report.reasons.extend(remarks);
    report.detail.parts.push(part);
    report
}

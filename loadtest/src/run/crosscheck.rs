//! Runs with the second generator, whose figures the engine's can be compared to. Owns no measuring.

use gochat_ring::{ReactorChoice, pin_current_thread};

use crate::audience::Reach;
use crate::cli::{Common, EchoArgs, Payload, PublishArgs, PublishProtocol, check_size};
use crate::crosscheck::{self, CONNECTIONS_MAX, Judge, Talk};
use crate::driver::Plan;
use crate::error::LoadError;
use crate::ledger::{Ledger, Route};
use crate::observer::{Observer, Progress};
use crate::report::{Label, Report};
use crate::rooms::Rooms;
use crate::scenario::RAW_SIZE_MIN;
use crate::seat::Seat;
use crate::traffic::Traffic;

use super::{ECHO_SIZE_MAX, label, report};

/// What reports name in place of a reactor.
const NAME: &str = "tungstenite";

pub(super) fn echo(args: &EchoArgs, plan: &Plan) -> Result<Report, LoadError> {
    let (clients, load) = (args.connections, args.load.load());
    let traffic = Traffic::new(Ledger::new(Route::Echo, clients), load, (0..clients).collect());
    let talk = Talk::new(traffic, &args.size, args.payload == Payload::Binary);
    drive(&args.common, plan, talk, label("echo", "raw-echo", Some(&args.load.load()), Some(&args.size)))
}

pub(super) fn publish(args: &PublishArgs, plan: &Plan) -> Result<Report, LoadError> {
    if args.protocol != PublishProtocol::RawPublish {
        return Err(LoadError::Arguments("--client tungstenite speaks raw-publish only".to_owned()));
    }
    check_size(&args.size, RAW_SIZE_MIN..=ECHO_SIZE_MAX)?;
    let (clients, load) = (args.connections, args.load.load());
    let rooms = Rooms::new(Reach::ALL, clients, clients, args.publishers);
    let traffic = Traffic::new(rooms, load, Rooms::writers(clients, clients, args.publishers));
    let talk = Talk::new(traffic, &args.size, false);
    drive(&args.common, plan, talk, label("publish", "raw-publish", Some(&args.load.load()), Some(&args.size)))
}

fn drive<A: Judge>(common: &Common, plan: &Plan, mut talk: Talk<A>, label: Label) -> Result<Report, LoadError> {
    if plan.clients > CONNECTIONS_MAX {
        return Err(LoadError::Arguments(format!(
            "--client tungstenite holds at most {CONNECTIONS_MAX} connections: ask for fewer, or use --client engine"
        )));
    }
    if common.reactor != ReactorChoice::Auto {
        return Err(LoadError::Arguments("--client tungstenite has no reactor: leave --reactor out".to_owned()));
    }
    super::raise_descriptors(plan.clients, gochat_ring::ReactorKind::Epoll)?;
    let mut progress = Progress::new(common.watch.hlog.as_deref())?.with_view(super::view(common, plan));
    if let Some(cpu) = common.cpu {
        pin_current_thread(cpu)?;
    }
    let mut watcher = common.seat.as_ref().map(Seat::watcher);
    let observer: &mut dyn Observer = match &mut watcher {
        Some(watcher) => &mut **watcher,
        None => &mut progress,
    };
    let outcome = crosscheck::run(plan, &mut talk, observer)?;
    progress.finish()?;
    Ok(report(label, plan, (NAME, outcome), Some(talk.finish())))
}

//! One run from its arguments to its report: preparation over HTTP, the reactor, the scenario, the verdict.

use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gochat_ring::{Epoll, ReactorKind, Rings, Uring, pin_current_thread, probe};
use gochat_ws::Opcode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::acked::AckedLog;
use crate::api;
use crate::cli::{
    Client, Common, ConnectArgs, ConnectProtocol, EchoArgs, EchoProtocol, Payload, PublishArgs, PublishProtocol,
    Scenario, SingleArgs, check_size,
};
use crate::driver::{Driver, Place, Plan};
use crate::engine::{self, Outcome, Usage};
use crate::error::LoadError;
use crate::message::{CLIENTS_MAX, mix};
use crate::observer::{Observer, Progress, say};
use crate::report::{
    Cost, Curves, Detail, Distributions, Environment, Exact, Label, LatencyMicros, Rates, Report, SCHEMA,
    ServiceMicros, Shape, Verdict,
};
use crate::sample;
use crate::scenario::{
    Chat, ChatSetup, ECHO_SIZE_MIN, Echo, Heartbeat, Idle, Publish, PublishSetup, RAW_SIZE_MIN, ROOM, Speech,
};
use crate::schedule::{ArrivalProcess, Load};
use crate::seat::Seat;
use crate::spread::{Sizes, Think};
use crate::threshold;
use crate::tokens::{self, User};
use crate::traffic::Measured;
use crate::url::Url;
use crate::verdict::{self, Busy};
use crate::view::View;

mod crosscheck;
mod gochat;
mod history;
mod reopen;
mod script;
mod storm;
mod uneven;

/// Descriptors the tool needs beside its connections.
const SPARE_DESCRIPTORS: u64 = 64;
/// Descriptors of the process with which several rings are made: each has a table of so many sockets.
pub(crate) const DESCRIPTORS_MIN: u64 = 1024;
const ECHO_SIZE_MAX: usize = 16 << 20;
const NEEDS_TOKENS: &str =
    "--protocol gochat needs --tokens FILE: make one with `gochat user mint --count N --out FILE`";
/// Characters of a message that GoChat accepts.
const CHAT_SIZE_MAX: usize = 5000;

/// Runs a scenario.
///
/// # Errors
/// What keeps the run from taking place. What the server does wrong is in the report.
pub fn run(scenario: Scenario) -> Result<Report, LoadError> {
    let thresholds = scenario.common().threshold.clone();
    let mut report = match scenario {
        Scenario::Echo(args) => echo(&args),
        Scenario::Connect(args) => connect(&args),
        Scenario::Single(args) => single(&args),
        Scenario::Publish(args) => publish(&args),
        Scenario::Group(args) => gochat::group(&args),
        Scenario::Mixed(args) => gochat::mixed(&args),
        Scenario::History(args) => history::history(&args),
        Scenario::LoginStorm(args) => storm::login_storm(&args),
        Scenario::SlowReader(args) => uneven::slow_reader(&args),
        Scenario::Greedy(args) => uneven::greedy(&args),
        Scenario::Churn(args) => reopen::churn(&args),
        Scenario::ReconnectStorm(args) => reopen::reconnect_storm(&args),
        Scenario::PresenceStorm(args) => reopen::presence_storm(&args),
    }?;
    threshold::judge(&mut report, &thresholds);
    Ok(report)
}

fn echo(args: &EchoArgs) -> Result<Report, LoadError> {
    script::check(&args.script, args.protocol == EchoProtocol::Script)?;
    if args.protocol == EchoProtocol::Script {
        return script::echo(args);
    }
    check_size(&args.size, ECHO_SIZE_MIN..=ECHO_SIZE_MAX)?;
    let plan = plan(&args.common, args.connections, args.load.warmup, args.load.measured())?;
    if args.client == Client::Tungstenite {
        return crosscheck::echo(args, &plan);
    }
    let opcode = match args.payload {
        Payload::Text => Opcode::Text,
        Payload::Binary => Opcode::Binary,
    };
    let mut driver = Echo::new(0..args.connections, args.load.load(), &args.size, opcode);
    let ran = drive(&args.common, &plan, &mut driver, args.size.max())?;
    Ok(report(label("echo", "raw-echo", Some(&args.load.load()), Some(&args.size)), &plan, ran, Some(driver.finish())))
}

fn connect(args: &ConnectArgs) -> Result<Report, LoadError> {
    let mut plan = Plan { messages: false, ..plan(&args.common, args.connections, Duration::ZERO, args.hold)? };
    script::check(&args.script, args.protocol == ConnectProtocol::Script)?;
    let (protocol, tokens) = match (args.protocol, &args.tokens) {
        (ConnectProtocol::Script, _) => return script::connect(args, plan),
        (ConnectProtocol::RawEcho, _) => ("raw-echo", None),
        (ConnectProtocol::Gochat, None) => {
            return Err(LoadError::Arguments(NEEDS_TOKENS.to_owned()));
        }
        (ConnectProtocol::Gochat, Some(path)) => {
            plan.url.target = chat_path(&plan.url);
            let users = tokens::read(path, args.connections as usize)?;
            ("gochat", Some(users.into_iter().map(|user| user.access_token).collect()))
        }
    };
    let heartbeat = args.heartbeat.map(|every| Heartbeat::new(plan.clients, every.as_nanos() as u64));
    let mut driver = Idle::new(tokens).beating(heartbeat);
    let ran = drive(&args.common, &plan, &mut driver, 0)?;
    Ok(report(label("connect", protocol, None, None), &plan, ran, driver.finish()))
}

fn single(args: &SingleArgs) -> Result<Report, LoadError> {
    check_size(&args.size, 1..=CHAT_SIZE_MAX)?;
    let clients = args.pairs.saturating_mul(2);
    let mut plan = plan(&args.common, clients, args.load.warmup, args.load.measured())?;
    let run = plan.seed as u32;
    let users = users(args.tokens.as_deref(), args.tokens_out.as_deref(), &plan.url, run, clients as usize)?;
    say(&format!("opening {} chats", args.pairs));
    let conversations = api::open_chats(&plan.url, &users)?;
    plan.url.target = chat_path(&plan.url);
    let acked = args.acked.as_deref().map(AckedLog::create).transpose()?;
    let (load, sizes) = (args.load.load(), args.size.clone());
    let senders = (0..clients).step_by(if args.one_way { 2 } else { 1 }).collect();
    let setup = ChatSetup { users, conversations, load, senders, sizes, run, acked };
    let mut driver = Chat::new(setup);
    let ran = drive(&args.common, &plan, &mut driver, args.size.max())?;
    Ok(report(label("single", "gochat", Some(&args.load.load()), Some(&args.size)), &plan, ran, Some(driver.finish())))
}

fn publish(args: &PublishArgs) -> Result<Report, LoadError> {
    // An agent may be one whose clients only listen.
    let publishers_min = u32::from(args.common.seat.is_none());
    if args.publishers < publishers_min || args.publishers > args.connections {
        return Err(LoadError::Arguments("--publishers must be 1 to --connections".to_owned()));
    }
    let mut plan = plan(&args.common, args.connections, args.load.warmup, args.load.measured())?;
    script::check(&args.script, args.protocol == PublishProtocol::Script)?;
    if args.client == Client::Tungstenite {
        return crosscheck::publish(args, &plan);
    }
    let (protocol, speech) = match (args.protocol, &args.tokens) {
        (PublishProtocol::Script, _) => return script::publish(args, plan),
        (PublishProtocol::RawPublish, _) => {
            check_size(&args.size, RAW_SIZE_MIN..=ECHO_SIZE_MAX)?;
            ("raw-publish", Speech::Raw)
        }
        (PublishProtocol::Gochat, None) => return Err(LoadError::Arguments(NEEDS_TOKENS.to_owned())),
        (PublishProtocol::Gochat, Some(path)) => {
            check_size(&args.size, 1..=CHAT_SIZE_MAX)?;
            let users = tokens::read(path, args.connections as usize)?;
            say(&format!("{} users join the room {ROOM}", users.len()));
            api::join_world(&plan.url, &users)?;
            plan.url.target = chat_path(&plan.url);
            let (users, rooms) = (users.into(), vec![ROOM.to_owned()]);
            ("gochat", Speech::Gochat { users, rooms, run: plan.place.shared_run.unwrap_or(plan.seed as u32) })
        }
    };
    let (load, sizes) = (args.load.load(), args.size.clone());
    let (clients, publishers) = (args.connections, args.publishers);
    let setup = PublishSetup { speech, clients, room_size: clients, publishers, load, sizes };
    let mut driver = Publish::new(setup).among(plan.place);
    let ran = drive(&args.common, &plan, &mut driver, args.size.max())?;
    Ok(report(label("publish", protocol, Some(&args.load.load()), Some(&args.size)), &plan, ran, Some(driver.finish())))
}

/// The users of a file, or as many that are registered for the run and kept in another.
fn users(from: Option<&Path>, to: Option<&Path>, url: &Url, run: u32, count: usize) -> Result<Vec<User>, LoadError> {
    if let Some(path) = from {
        return tokens::read(path, count);
    }
    say(&format!("registering {count} users"));
    let users = api::create_users(url, run, count)?;
    let write = |path: &Path| tokens::write(path, &users);
    to.map_or(Ok(()), write)?;
    Ok(users)
}

/// Where GoChat's WebSocket is unless the URL names a path.
fn chat_path(url: &Url) -> String {
    if url.target == "/" { "/ws".to_owned() } else { url.target.clone() }
}

fn plan(common: &Common, clients: u32, warmup: Duration, duration: Duration) -> Result<Plan, LoadError> {
    if clients == 0 || clients >= CLIENTS_MAX {
        return Err(LoadError::Arguments(format!("a run has 1 to {} connections", CLIENTS_MAX - 1)));
    }
    if duration.is_zero() {
        return Err(LoadError::Arguments("the measured phase must be longer than 0".to_owned()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Plan {
        url: Url::parse(&common.url)?,
        clients,
        late: 0,
        ramp: common.ramp,
        warmup,
        duration,
        drain_max: common.drain,
        messages: true,
        server_pid: common.server_pid,
        seed: mix(now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32),
        place: common.seat.as_ref().map_or(Place { first_client: 0, clients, shared_run: None }, |seat| seat.place),
    })
}

/// Runs the driver on the reactor asked for; the reactor's name comes with the outcome.
fn drive<D: Driver>(
    common: &Common,
    plan: &Plan,
    driver: &mut D,
    size: usize,
) -> Result<(&'static str, Outcome), LoadError> {
    let kind = probe(common.reactor)?.kind;
    let one_ring = raise_descriptors(plan.clients, kind)?;
    // Its thread is begun first, so that it is not pinned with this one.
    let mut progress = Progress::new(common.watch.hlog.as_deref())?.with_view(view(common, plan));
    if let Some(cpu) = common.cpu {
        pin_current_thread(cpu)?;
    }
    let config = engine::ring_config(plan.clients, size);
    let mut watcher = common.seat.as_ref().map(Seat::watcher);
    let observer: &mut dyn Observer = match &mut watcher {
        Some(watcher) => &mut **watcher,
        None => &mut progress,
    };
    let outcome = match kind {
        ReactorKind::Uring if !one_ring => {
            let config = engine::rings_config(plan.clients, size);
            engine::run(Rings::new(&config)?, &config, plan, driver, observer)?
        }
        ReactorKind::Uring => engine::run(Uring::new(&config)?, &config, plan, driver, observer)?,
        ReactorKind::Epoll | ReactorKind::Sim => engine::run(Epoll::new(&config)?, &config, plan, driver, observer)?,
    };
    progress.finish()?;
    Ok((kind.name(), outcome))
}

/// The live view, unless it is not wanted; of a share of a run the coordinator is told.
fn view(common: &Common, plan: &Plan) -> Option<View> {
    let is_wanted = !common.watch.no_tui && common.seat.is_none();
    is_wanted.then(|| View::begin(plan)).flatten()
}

/// Raises the soft limit as far as it helps. Whether one ring, or epoll, has room for all clients; io_uring has room
/// for more in several rings, whose sockets are not counted.
pub(crate) fn raise_descriptors(clients: u32, kind: ReactorKind) -> Result<bool, LoadError> {
    let needed = u64::from(clients) + SPARE_DESCRIPTORS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|limit| limit >= needed) {
        return Ok(true);
    }
    let limit = maximum.unwrap_or(needed);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(needed.min(limit)), maximum }).is_ok();
    match kind {
        _ if raised && limit >= needed => Ok(true),
        ReactorKind::Uring if limit >= DESCRIPTORS_MIN => Ok(false),
        _ => Err(LoadError::Descriptors { wanted: clients, needed, limit }),
    }
}

/// What a scenario that agents share is called in its report.
pub(crate) fn label_of(scenario: &Scenario) -> Option<Label> {
    match scenario {
        Scenario::Echo(args) => {
            let protocol = script::protocol(&args.script).unwrap_or("raw-echo".into());
            Some(label("echo", protocol, Some(&args.load.load()), Some(&args.size)))
        }
        Scenario::Connect(ConnectArgs { protocol: ConnectProtocol::Script, script, .. }) => {
            Some(label("connect", script::protocol(script)?, None, None))
        }
        Scenario::Connect(ConnectArgs { protocol: ConnectProtocol::RawEcho, .. }) => {
            Some(label("connect", "raw-echo", None, None))
        }
        Scenario::Connect(_) => Some(label("connect", "gochat", None, None)),
        Scenario::Single(args) => Some(label("single", "gochat", Some(&args.load.load()), Some(&args.size))),
        Scenario::Publish(args) => {
            let protocol = if args.protocol == PublishProtocol::Gochat { "gochat" } else { "raw-publish" };
            Some(label("publish", protocol, Some(&args.load.load()), Some(&args.size)))
        }
        Scenario::Group(args) => Some(label("group", "gochat", Some(&args.load.load()), Some(&args.size))),
        _ => None,
    }
}

fn label(
    scenario: &'static str,
    protocol: impl Into<Cow<'static, str>>,
    load: Option<&Load>,
    sizes: Option<&Sizes>,
) -> Label {
    let (mut rate, mut in_flight, mut shape) = (None, None, Shape::default());
    match load {
        Some(Load::Open { profile, arrivals }) => {
            rate = Some(profile.mean());
            shape.phases = profile.phases().map(str::to_owned);
            shape.arrivals = (*arrivals == ArrivalProcess::Poisson).then_some("poisson");
        }
        Some(Load::Closed { in_flight: unanswered, think }) => {
            in_flight = Some(*unanswered);
            shape.think = think.as_ref().map(Think::to_string);
        }
        None => {}
    }
    shape.sizes = sizes.and_then(Sizes::text).map(str::to_owned);
    let (load, size) = (load.map(Load::label), sizes.map(Sizes::mean));
    let protocol = protocol.into();
    Label { schema: SCHEMA, scenario, protocol, load, rate, in_flight, size, shape, duration_s: 0.0 }
}

/// The judgement of a run that may have been ended early: it says how much there was of it, and what was not measured cannot
/// have been good.
fn of_what_there_was(outcome: &Outcome, plan: &Plan, judged: (Verdict, Vec<String>)) -> (Verdict, Vec<String>) {
    let (mut verdict, mut reasons) = judged;
    if !outcome.interrupted {
        return (verdict, reasons);
    }
    let (measured_s, planned_s) = (outcome.steady_s, plan.duration.as_secs_f64());
    if measured_s > 0.0 {
        let why = format!("interrupted after {measured_s:.1} of {planned_s:.1} s: all figures are of that time");
        reasons.insert(0, why);
    } else {
        reasons.insert(0, "interrupted in the warm-up: nothing was measured".to_owned());
        verdict = if verdict == Verdict::Ok { Verdict::Invalid } else { verdict };
    }
    (verdict, reasons)
}

/// Whether what a client sends comes back to itself: echoes, and the pongs of a heartbeat.
fn comes_back(label: &Label) -> bool {
    matches!(label.scenario, "echo" | "connect" | "churn" | "reconnect-storm")
}

/// Whether messages are due whatever the server does: at a rate, or as a heartbeat.
fn is_open(label: &Label) -> bool {
    label.rate.is_some() || label.scenario == "connect"
}

fn distributions<'a>(label: &Label, measured: &'a Measured) -> Distributions<'a> {
    Distributions {
        ack: &measured.ack,
        arrivals: &measured.deliver,
        last: &measured.last,
        service_ack: &measured.service.ack,
        service_arrivals: &measured.service.deliver,
        is_echo: comes_back(label),
        is_open: is_open(label),
    }
}

fn report(label: Label, plan: &Plan, ran: (&'static str, Outcome), measured: Option<Measured>) -> Report {
    let (reactor, outcome) = ran;
    let seconds = outcome.steady_s.max(1e-9);
    let (is_echo, is_single) = (comes_back(&label), label.scenario == "single");
    let done = measured.as_ref().map(|it| if is_single { it.in_window.acked } else { it.in_window.delivered });
    let per_message = |amount: f64| done.filter(|count| *count > 0).map(|count| amount / count as f64);
    let cost = |usage: Usage| Cost {
        cpu_s: usage.cpu_s,
        cpu_cores: usage.cpu_s / seconds,
        rss_bytes: usage.rss_bytes,
        wait_cores: None,
        bytes_per_connection: usage.bytes_per_connection,
        us_per_message: per_message(usage.cpu_s * 1e6),
        switches: usage.switches,
        switches_per_message: usage.switches.and_then(|switches| per_message(switches.all() as f64)),
        tcp_bytes: usage.tcp_bytes,
        tcp_bytes_per_connection: usage.tcp_bytes_per_connection,
    };
    let wait = outcome.generator.wait_s / seconds;
    let generator = Cost { wait_cores: Some(wait), ..cost(outcome.generator) };
    let server = outcome.server.map(cost);
    let mut latency_us = LatencyMicros { connect: outcome.census.latency.percentiles(), ..LatencyMicros::default() };
    let (mut lag_us, mut rates, mut remarks) = (None, None, Vec::new());
    let (mut service_us, mut curves) = (ServiceMicros::default(), Curves::new());
    if let Some(measured) = &measured {
        let per_s = |count: u64| count as f64 / seconds;
        let seen = measured.in_window;
        let [sent_per_s, acked_per_s, delivered_per_s] = [seen.sent, seen.acked, seen.delivered].map(per_s);
        rates = Some(Rates { sent_per_s, acked_per_s, delivered_per_s });
        latency_us.ack = measured.ack.percentiles();
        let arrivals = measured.deliver.percentiles();
        if is_echo {
            latency_us.rtt = arrivals
        } else {
            latency_us.deliver = arrivals
        }
        latency_us.fanout_last = measured.last.percentiles();
        let all = distributions(&label, measured);
        (service_us, curves) = (all.service(), all.curves());
        lag_us = measured.lag.percentiles().filter(|_| is_open(&label));
        remarks.clone_from(&measured.remarks);
    }
    let messages = measured.as_ref().map(|it| it.messages);
    let allowed = plan.server_pid.and_then(sample::server_cpus);
    let busy = messages.map(|_| Busy {
        generator: generator.cpu_cores,
        generator_wait: wait,
        server: server.and_then(|server| Some((server.cpu_cores, allowed?))),
    });
    let judged = verdict::judge(&outcome.census, messages.as_ref(), lag_us.as_ref(), busy, remarks);
    let (verdict, reasons) = of_what_there_was(&outcome, plan, judged);
    let connections = outcome.census.connections;
    let interrupted = outcome.interrupted;
    let exact = Some(Box::new(Exact { census: outcome.census, measured }));
    Report {
        label: Label { duration_s: seconds, ..label },
        verdict,
        reasons,
        connections,
        messages,
        rates,
        latency_us,
        lag_us,
        detail: Detail { parts: Vec::new(), interrupted, service_us, curves, timeline: outcome.timeline, exact },
        generator,
        server,
        environment: Environment::here(reactor),
    }
}

//! The result of a run: its JSON form, which is stable and described in docs/loadtest.md, and its summary for people.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::engine::Census;
pub use crate::engine::Connections;
use crate::ledger::Messages;
use crate::percentiles::{Latencies, Percentiles};
pub use crate::sample::Switches;
use crate::timeline::Point;
use crate::traffic::Measured;

mod part;

pub use part::Treatment;

/// Version of the JSON form; a field that changes its meaning or goes away raises it.
pub const SCHEMA: u32 = 1;

/// Whether the run can be believed, and whether the server passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The figures stand and nothing was wrong.
    Ok,
    /// The server did something wrong.
    Failed,
    /// The generator was the bottleneck: the figures say nothing about the server.
    Invalid,
}

impl Verdict {
    /// As people read it.
    pub fn text(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAILED",
            Verdict::Invalid => "INVALID",
        }
    }
}

/// A whole result.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was run.
    #[serde(flatten)]
    pub label: Label,
    /// See [`Verdict`].
    pub verdict: Verdict,
    /// Why it is not ok, and remarks.
    pub reasons: Vec<String>,
    /// Of the whole run.
    pub connections: Connections,
    /// Of the whole run; absent in scenarios without messages.
    pub messages: Option<Messages>,
    /// Of the measured phase.
    pub rates: Option<Rates>,
    /// Of messages meant to be sent in the measured phase.
    pub latency_us: LatencyMicros,
    /// How late the generator sent (open loop).
    pub lag_us: Option<Percentiles>,
    /// The run taken apart.
    #[serde(flatten)]
    pub detail: Detail,
    /// This tool's cost.
    pub generator: Cost,
    /// The server's cost, with --server-pid.
    pub server: Option<Cost>,
    /// Where it ran.
    pub environment: Environment,
}

/// A run by kinds and by seconds.
#[derive(Debug, Default, Serialize)]
pub struct Detail {
    /// What is measured apart in a run with several kinds of requests or conversations; left out where there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// It was ended early, by Ctrl-C.
    pub interrupted: bool,
    /// Of the same messages as `latency_us`, from the time they were sent at.
    pub service_us: ServiceMicros,
    /// Second by second, warm-up included.
    pub timeline: Vec<Point>,
    /// Whole distributions, to be drawn; no part of the JSON form.
    #[serde(skip)]
    pub(crate) curves: Curves,
    /// What the figures were made of, to be merged with those of other agents; no part of the JSON form.
    #[serde(skip)]
    pub(crate) exact: Option<Box<Exact>>,
}

/// The accounts and histograms of a run.
#[derive(Debug)]
pub(crate) struct Exact {
    pub(crate) census: Census,
    pub(crate) measured: Option<Measured>,
}

/// What was run.
#[derive(Debug, Clone, Serialize)]
pub struct Label {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The name of the command, as in `run single`.
    pub scenario: &'static str,
    /// As on the command line; `script:NAME` where a file describes it.
    pub protocol: Cow<'static, str>,
    /// `open`, `closed` or nothing.
    #[serde(rename = "loop")]
    pub load: Option<&'static str>,
    /// Messages per second asked for (open loop), on average over the phases.
    pub rate: Option<f64>,
    /// Messages in flight per sender (closed loop).
    pub in_flight: Option<u32>,
    /// Bytes or characters of a message, on average.
    pub size: Option<usize>,
    /// What is not the same over the whole run.
    #[serde(flatten)]
    pub shape: Shape,
    /// Length of the measured phase as it was.
    pub duration_s: f64,
}

/// What of a load is not the same over the whole run, as on the command line; each is left out where it is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Shape {
    /// Rates over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<String>,
    /// `poisson`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<&'static str>,
    /// Sizes of messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<String>,
    /// Think time of a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<String>,
}

/// One kind of requests or conversations.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Requests or messages sent in the whole run.
    pub sent: u64,
    /// Requests answered as they should be, or deliveries.
    pub done: u64,
    /// Failures with counts.
    pub errors: BTreeMap<String, u64>,
    /// The account of its messages, where it has any.
    pub messages: Option<Messages>,
    /// Of the measured phase, from intended times.
    pub latency_us: BTreeMap<&'static str, Percentiles>,
    /// How it fared beside the others.
    #[serde(flatten)]
    pub treatment: Treatment,
}

/// Per second of the measured phase.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rates {
    /// Messages sent.
    pub sent_per_s: f64,
    /// Messages acknowledged.
    pub acked_per_s: f64,
    /// Messages delivered, counted at receivers.
    pub delivered_per_s: f64,
}

/// Microseconds, from intended times.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LatencyMicros {
    /// To the sender's acknowledgement.
    pub ack: Option<Percentiles>,
    /// To the receiver's delivery.
    pub deliver: Option<Percentiles>,
    /// To the last receiver of a message for many.
    pub fanout_last: Option<Percentiles>,
    /// To the echo.
    pub rtt: Option<Percentiles>,
    /// From the beginning of a connection to its readiness.
    pub connect: Option<Percentiles>,
}

/// Microseconds from the time that a message was given to its connection: without what it waited for the generator.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ServiceMicros {
    /// To the sender's acknowledgement.
    pub ack: Option<Percentiles>,
    /// To the receiver's delivery.
    pub deliver: Option<Percentiles>,
    /// To the echo.
    pub rtt: Option<Percentiles>,
}

/// Names of distributions, with quantiles and their microseconds.
pub(crate) type Curves = Vec<(&'static str, Vec<(f64, f64)>)>;

/// What distributions are drawn of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Distributions<'a> {
    pub(crate) ack: &'a Latencies,
    pub(crate) arrivals: &'a Latencies,
    pub(crate) last: &'a Latencies,
    pub(crate) service_ack: &'a Latencies,
    pub(crate) service_arrivals: &'a Latencies,
    /// Arrivals are echoes.
    pub(crate) is_echo: bool,
    /// Messages had intended times, so that service times are not latencies.
    pub(crate) is_open: bool,
}

impl Distributions<'_> {
    /// Those that have any values.
    pub(crate) fn curves(&self) -> Curves {
        let (arrival, service) = if self.is_echo { ("rtt", "rtt, service") } else { ("deliver", "deliver, service") };
        let latencies = [("ack", self.ack), (arrival, self.arrivals), ("fan-out, last", self.last)];
        let services = [("ack, service", self.service_ack), (service, self.service_arrivals)];
        let rows = latencies.into_iter().chain(services.into_iter().filter(|_| self.is_open));
        rows.filter(|(_, values)| values.count() > 0).map(|(name, values)| (name, values.curve())).collect()
    }

    /// Percentiles of the service times.
    pub(crate) fn service(&self) -> ServiceMicros {
        let (ack, arrivals) = (self.service_ack.percentiles(), self.service_arrivals.percentiles());
        let (rtt, deliver) = if self.is_echo { (arrivals, None) } else { (None, arrivals) };
        ServiceMicros { ack, deliver, rtt }
    }
}

/// What one side used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Cost {
    /// CPU seconds in the measured phase: of the generator's thread, of the server's whole process.
    pub cpu_s: f64,
    /// CPU seconds per second of the measured phase.
    pub cpu_cores: f64,
    /// Resident memory at the end of the measured phase.
    pub rss_bytes: u64,
    /// Share of the measured phase in which the generator could have run but had no CPU; absent of the server.
    pub wait_cores: Option<f64>,
    /// Growth of resident memory by the connections, before any message, per connection.
    pub bytes_per_connection: f64,
    /// CPU microseconds per message of the measured phase (echo: echoed; single: acknowledged; publish: delivered).
    pub us_per_message: Option<f64>,
    /// Context switches in the measured phase: of the generator's thread, of all threads that the server has at its end.
    pub switches: Option<Switches>,
    /// Both kinds together, per message as in `us_per_message`.
    pub switches_per_message: Option<f64>,
    /// What the kernel holds in TCP buffers at the end of the measured phase, of all sockets of the machine; with the server.
    pub tcp_bytes: Option<u64>,
    /// Growth of that by the connections, before any message, per connection.
    pub tcp_bytes_per_connection: Option<f64>,
}

/// Where it ran.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Environment {
    /// Kernel release.
    pub kernel: String,
    /// Online CPUs.
    pub cpus: usize,
    /// Memory of the machine in bytes.
    pub mem: u64,
    /// Commit of the working directory, `-dirty` when it was changed; nothing outside a repository.
    pub git: Option<String>,
    /// The generator's reactor.
    pub reactor: String,
}

impl Environment {
    pub(crate) fn here(reactor: &str) -> Environment {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
        let git = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=10"]).output();
        Environment {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cpus: fs::read_to_string("/proc/cpuinfo").unwrap_or_default().matches("processor\t").count(),
            mem: kib.unwrap_or(0_u64) * 1024,
            git: git
                .ok()
                .filter(|it| it.status.success())
                .map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()),
            reactor: reactor.to_owned(),
        }
    }
}

impl Report {
    /// A result that has every figure a result can have, all of them 0.
    pub(crate) fn with_every_figure() -> Report {
        let latency = || Some(Percentiles::default());
        let zero = Some(0.0);
        let cost = Cost {
            wait_cores: zero,
            us_per_message: zero,
            switches: Some(Switches::default()),
            switches_per_message: zero,
            tcp_bytes: Some(0),
            tcp_bytes_per_connection: zero,
            ..Cost::default()
        };
        let shape = Shape::default();
        let label = Label {
            schema: SCHEMA,
            scenario: "",
            protocol: "".into(),
            load: None,
            rate: Some(0.0),
            in_flight: Some(0),
            size: Some(0),
            shape,
            duration_s: 0.0,
        };
        Report {
            label,
            verdict: Verdict::Ok,
            reasons: Vec::new(),
            connections: Connections::default(),
            messages: Some(Messages::default()),
            rates: Some(Rates { sent_per_s: 0.0, acked_per_s: 0.0, delivered_per_s: 0.0 }),
            latency_us: LatencyMicros {
                ack: latency(),
                deliver: latency(),
                fanout_last: latency(),
                rtt: latency(),
                connect: latency(),
            },
            lag_us: latency(),
            detail: Detail {
                service_us: ServiceMicros { ack: latency(), deliver: latency(), rtt: latency() },
                ..Detail::default()
            },
            generator: cost,
            server: Some(cost),
            environment: Environment::default(),
        }
    }

    /// The JSON form.
    ///
    /// # Errors
    /// A figure is not a number.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|json| json + "\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = &self.label;
        write!(f, "{}: {} ({}), {:.1} s", self.verdict.text(), label.scenario, label.protocol, label.duration_s)?;
        match (label.rate, label.in_flight) {
            (Some(rate), _) => write!(f, ", open loop at {rate}/s")?,
            (_, Some(in_flight)) => write!(f, ", closed loop, {in_flight} in flight each")?,
            _ => {}
        }
        let Shape { phases, arrivals, sizes, think } = &label.shape;
        let named = [
            ("phases", phases.as_deref()),
            ("arrivals", *arrivals),
            ("sizes", sizes.as_deref()),
            ("think", think.as_deref()),
        ];
        named
            .iter()
            .filter_map(|(name, text)| Some((name, (*text)?)))
            .try_for_each(|(name, text)| write!(f, ", {name} {text}"))?;
        writeln!(f)?;
        for reason in &self.reasons {
            writeln!(f, "  - {reason}")?;
        }
        let Connections { target, established, refused, dropped } = self.connections;
        writeln!(f, "connections  {established} of {target} established, {refused} refused, {dropped} dropped")?;
        if let Some(m) = &self.messages {
            let Messages { sent, acked, delivered, .. } = m;
            writeln!(f, "messages     {sent} sent, {acked} acknowledged, {delivered} delivered")?;
            writeln!(
                f,
                "             {} lost, {} unacked, {} refused, {} duplicated, {} reordered, {} corrupted, {} foreign",
                m.lost, m.unacked, m.refused, m.duplicated, m.reordered, m.corrupted, m.foreign
            )?;
        }
        if let Some(rates) = &self.rates {
            let Rates { sent_per_s, acked_per_s, delivered_per_s } = rates;
            writeln!(
                f,
                "rates        {sent_per_s:.0} sent/s, {acked_per_s:.0} acknowledged/s, {delivered_per_s:.0} delivered/s"
            )?;
        }
        self.show_latencies(f)?;
        for part in &self.detail.parts {
            writeln!(f, "{:<12} {} sent, {} done", part.name, part.sent, part.done)?;
            part.latency_us.iter().try_for_each(|(name, row)| show_latency(f, &format!("  {name}"), row))?;
            if part.treatment != Treatment::default() {
                writeln!(f, "  {}", part.treatment)?;
            }
        }
        show_cost(f, "generator", &self.generator)?;
        self.server.as_ref().map_or(Ok(()), |server| show_cost(f, "server", server))
    }
}

impl Report {
    fn show_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = &self.latency_us;
        let service = &self.detail.service_us;
        let rows = [
            ("ack", &latency.ack, &service.ack),
            ("deliver", &latency.deliver, &service.deliver),
            ("fan-out", &latency.fanout_last, &None),
            ("rtt", &latency.rtt, &service.rtt),
            ("connect", &latency.connect, &None),
            ("lag", &self.lag_us, &None),
        ];
        for (name, row, service) in rows {
            row.as_ref().map_or(Ok(()), |row| show_latency(f, name, row))?;
            // A closed loop sends when a message is due: both are the same.
            service
                .as_ref()
                .filter(|it| row.as_ref() != Some(it))
                .map_or(Ok(()), |it| show_latency(f, "  service", it))?;
        }
        Ok(())
    }
}

fn show_latency(f: &mut fmt::Formatter<'_>, name: &str, p: &Percentiles) -> fmt::Result {
    writeln!(
        f,
        "{name:<9} µs p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  mean {}",
        p.p50, p.p90, p.p99, p.p999, p.max, p.mean
    )
}

fn show_cost(f: &mut fmt::Formatter<'_>, name: &str, cost: &Cost) -> fmt::Result {
    write!(
        f,
        "{name:<12} {:.2} cores, {:.1} MB resident, {:.0} B a connection",
        cost.cpu_cores,
        cost.rss_bytes as f64 / 1e6,
        cost.bytes_per_connection
    )?;
    cost.us_per_message.map_or(Ok(()), |us| write!(f, ", {us:.2} µs CPU a message"))?;
    if let Some(Switches { voluntary, involuntary }) = cost.switches {
        write!(f, "\n             {voluntary} voluntary, {involuntary} involuntary context switches")?;
        cost.switches_per_message.map_or(Ok(()), |switches| write!(f, ", {switches:.2} a message"))?;
    }
    cost.tcp_bytes.map_or(Ok(()), |bytes| {
        write!(f, "\n             {:.2} MB in TCP buffers of the machine", bytes as f64 / 1e6)
    })?;
    writeln!(f)
}

//! What agents measured becomes one result: counts and histograms are added, nothing is averaged that can be added. Knows no
//! sockets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::packed::Packed;
use crate::engine::{Census, Connections};
use crate::ledger::Messages;
use crate::percentiles::{Latencies, Percentiles};
use crate::report::{Cost, Detail, Distributions, Environment, Exact, Label, LatencyMicros, Rates, Report, Verdict};
use crate::sample::Switches;
use crate::timeline::{Interval, Point};
use crate::traffic::{InWindow, Measured};
use crate::verdict::{self, Busy};

/// One second of one agent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Second {
    point: Point,
    ack: Packed,
    deliver: Packed,
}

impl Second {
    pub(super) fn new(point: &Point, seen: &Interval) -> Second {
        Second { point: point.clone(), ack: Packed::of(&seen.ack), deliver: Packed::of(&seen.deliver) }
    }
}

/// The same second of several agents, and the histograms that its percentiles come from.
pub(super) fn second(of_agents: &[&Second]) -> Option<(Point, Interval)> {
    let points = || of_agents.iter().map(|second| &second.point);
    let sum = |figure: fn(&Point) -> f64| points().map(figure).sum();
    let mut seen = Interval::default();
    for second in of_agents {
        seen.ack.add(&second.ack.0);
        seen.deliver.add(&second.deliver.0);
    }
    let point = Point {
        at_s: points().map(|point| point.at_s).reduce(f64::max)?,
        steady: points().all(|point| point.steady),
        connections: points().map(|point| point.connections).sum(),
        sent_per_s: sum(|point| point.sent_per_s),
        acked_per_s: sum(|point| point.acked_per_s),
        delivered_per_s: sum(|point| point.delivered_per_s),
        ack: seen.ack.percentiles(),
        deliver: seen.deliver.percentiles(),
        generator_cores: sum(|point| point.generator_cores),
        server_cores: points().find_map(|point| point.server_cores),
        server_rss_bytes: points().find_map(|point| point.server_rss_bytes),
        tcp_bytes: points().find_map(|point| point.tcp_bytes),
    };
    Some((point, seen))
}

/// What an agent's messages came to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Heard {
    messages: Messages,
    /// Of messages that other agents sent into a shared room.
    guests: Option<Messages>,
    in_window: InWindow,
    ack: Packed,
    deliver: Packed,
    lag: Packed,
    last: Packed,
    service_ack: Packed,
    service_deliver: Packed,
    remarks: Vec<String>,
}

/// The result of one agent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Share {
    connections: Connections,
    connect: Packed,
    endings: BTreeMap<String, u64>,
    heard: Option<Heard>,
    duration_s: f64,
    generator: Cost,
    server: Option<Cost>,
    /// CPUs that the server may use.
    server_cpus: Option<u32>,
    reactor: String,
}

impl Share {
    /// Takes a report apart; `None` when it has no accounts.
    pub(super) fn new(report: Report, server_cpus: Option<u32>) -> Option<Share> {
        let Exact { census, measured } = *report.detail.exact?;
        let heard = measured.map(|it| {
            let Measured { messages, guests, in_window, ack, deliver, lag, last, service, remarks, .. } = it;
            let [ack, deliver, lag, last] = [ack, deliver, lag, last].map(Packed);
            let [service_ack, service_deliver] = [service.ack, service.deliver].map(Packed);
            Heard { messages, guests, in_window, ack, deliver, lag, last, service_ack, service_deliver, remarks }
        });
        Some(Share {
            connections: report.connections,
            connect: Packed(census.latency),
            endings: census.endings,
            heard,
            duration_s: report.label.duration_s,
            generator: report.generator,
            server: report.server,
            server_cpus,
            reactor: report.environment.reactor,
        })
    }
}

/// All that is known of a run that is over.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) label: Label,
    /// Agents by name, with what they came to.
    pub(super) shares: Vec<(String, Share)>,
    /// What happened to agents that were lost.
    pub(super) lost: Vec<String>,
    pub(super) timeline: Vec<Point>,
}

impl Whole {
    /// One result; an agent that was lost makes it invalid.
    pub(super) fn report(self) -> Report {
        let Whole { label, shares, lost, timeline } = self;
        let census = census(&shares);
        let heard = heard(&shares);
        let open = label.rate.is_some();
        let lag_us = heard.as_ref().filter(|_| open).and_then(|it| it.lag.0.percentiles());
        let messages = heard.as_ref().map(|it| with_guests(it, &shares));
        let remarks = heard.as_ref().map(|it| it.remarks.clone()).unwrap_or_default();
        let (mut verdict, mut reasons) = verdict::judge(&census, messages.as_ref(), None, None, remarks);
        let bottlenecks = bottlenecks(&shares, open);
        if !lost.is_empty() || (verdict == Verdict::Ok && !bottlenecks.is_empty()) {
            verdict = Verdict::Invalid;
        }
        reasons.extend(bottlenecks);
        reasons.splice(0..0, lost);
        let seconds = shares.iter().map(|(_, share)| share.duration_s).fold(0.0, f64::max);
        let by_acks = label.scenario == "single";
        let done = heard.as_ref().map(|it| if by_acks { it.in_window.acked } else { it.in_window.delivered });
        let reactors: Vec<&str> = shares.iter().map(|(_, share)| share.reactor.as_str()).collect();
        let (service_us, curves) = heard
            .as_ref()
            .map(|it| {
                let all = distributions(&label, it);
                (all.service(), all.curves())
            })
            .unwrap_or_default();
        Report {
            verdict,
            reasons,
            connections: census.connections,
            messages,
            rates: heard.as_ref().map(|it| rates(it.in_window, seconds)),
            latency_us: latencies(&label, &census.latency, heard.as_ref()),
            lag_us,
            detail: Detail { service_us, curves, timeline, ..Detail::default() },
            generator: generator(&shares, done),
            server: server(&shares, census.connections.established, done),
            environment: Environment::here(&format!("{} agents: {}", shares.len(), reactors.join(", "))),
            label: Label { duration_s: seconds, ..label },
        }
    }
}

fn census(shares: &[(String, Share)]) -> Census {
    let mut census = Census::default();
    for (_, share) in shares {
        let (all, one) = (&mut census.connections, share.connections);
        all.target += one.target;
        all.established += one.established;
        all.refused += one.refused;
        all.dropped += one.dropped;
        census.latency.add(&share.connect.0);
        for (why, count) in &share.endings {
            *census.endings.entry(why.clone()).or_default() += count;
        }
    }
    census
}

fn heard(shares: &[(String, Share)]) -> Option<Heard> {
    shares.iter().filter_map(|(agent, share)| Some((agent, share.heard.as_ref()?))).fold(None, |sum, (agent, one)| {
        let mut sum: Heard = sum.unwrap_or_default();
        sum.messages = sum.messages.plus(&one.messages);
        if let Some(guests) = &one.guests {
            sum.guests = Some(sum.guests.unwrap_or_default().plus(guests));
        }
        sum.in_window.sent += one.in_window.sent;
        sum.in_window.acked += one.in_window.acked;
        sum.in_window.delivered += one.in_window.delivered;
        sum.ack.0.add(&one.ack.0);
        sum.deliver.0.add(&one.deliver.0);
        sum.lag.0.add(&one.lag.0);
        sum.last.0.add(&one.last.0);
        sum.service_ack.0.add(&one.service_ack.0);
        sum.service_deliver.0.add(&one.service_deliver.0);
        sum.remarks.extend(one.remarks.iter().map(|remark| format!("agent {agent}: {remark}")));
        Some(sum)
    })
}

/// The account of all, and in a shared room what is missing of it: each message that its server took on is due to every client of
/// the other agents.
fn with_guests(heard: &Heard, shares: &[(String, Share)]) -> Messages {
    let Some(guests) = heard.guests else { return heard.messages };
    let clients = |share: &Share| u64::from(share.connections.target);
    let all: u64 = shares.iter().map(|(_, share)| clients(share)).sum();
    let due = |share: &Share| {
        let Messages { sent, refused, unacked, .. } = share.heard.as_ref().map(|it| it.messages).unwrap_or_default();
        sent.saturating_sub(refused + unacked) * (all - clients(share))
    };
    let due: u64 = shares.iter().map(|(_, share)| due(share)).sum();
    let lost = due.saturating_sub(guests.delivered + guests.corrupted);
    heard.messages.plus(&Messages { lost, ..guests })
}

/// Where a generator was the bottleneck: each agent is judged by itself, since one that is late hides among the others.
fn bottlenecks(shares: &[(String, Share)], open: bool) -> Vec<String> {
    let server = shares.iter().find_map(|(_, share)| Some((share.server?.cpu_cores, share.server_cpus?)));
    let judge = |(agent, share): &(String, Share)| {
        let heard = share.heard.as_ref()?;
        let lag = Some(&heard.lag.0).filter(|_| open).and_then(Latencies::percentiles);
        let wait = share.generator.wait_cores.unwrap_or_default();
        let busy = Busy { generator: share.generator.cpu_cores, generator_wait: wait, server };
        let (_, reasons) = verdict::judge(&Census::default(), None, lag.as_ref(), Some(busy), Vec::new());
        Some(reasons.into_iter().map(|reason| format!("agent {agent}: {reason}")).collect::<Vec<_>>())
    };
    shares.iter().filter_map(judge).flatten().collect()
}

fn rates(seen: InWindow, seconds: f64) -> Rates {
    let per_s = |count: u64| count as f64 / seconds.max(1e-9);
    Rates { sent_per_s: per_s(seen.sent), acked_per_s: per_s(seen.acked), delivered_per_s: per_s(seen.delivered) }
}

fn latencies(label: &Label, connect: &Latencies, heard: Option<&Heard>) -> LatencyMicros {
    let row = |row: fn(&Heard) -> &Packed| -> Option<Percentiles> { row(heard?).0.percentiles() };
    let arrivals = row(|it| &it.deliver);
    let (rtt, deliver) = if label.scenario == "echo" { (arrivals, None) } else { (None, arrivals) };
    let (ack, fanout_last) = (row(|it| &it.ack), row(|it| &it.last));
    LatencyMicros { ack, deliver, fanout_last, rtt, connect: connect.percentiles() }
}

fn distributions<'a>(label: &Label, heard: &'a Heard) -> Distributions<'a> {
    Distributions {
        ack: &heard.ack.0,
        arrivals: &heard.deliver.0,
        last: &heard.last.0,
        service_ack: &heard.service_ack.0,
        service_arrivals: &heard.service_deliver.0,
        is_echo: label.scenario == "echo",
        is_open: label.rate.is_some(),
    }
}

/// All generators together; the one that waited most for a CPU stands for all.
fn generator(shares: &[(String, Share)], done: Option<u64>) -> Cost {
    let costs = || shares.iter().map(|(_, share)| (share.generator, f64::from(share.connections.established)));
    let connections: f64 = costs().map(|(_, established)| established).sum();
    let cpu_s = costs().map(|(cost, _)| cost.cpu_s).sum();
    let switches = costs().filter_map(|(cost, _)| cost.switches).reduce(Switches::plus);
    Cost {
        cpu_s,
        cpu_cores: costs().map(|(cost, _)| cost.cpu_cores).sum(),
        rss_bytes: costs().map(|(cost, _)| cost.rss_bytes).sum(),
        wait_cores: costs().filter_map(|(cost, _)| cost.wait_cores).reduce(f64::max),
        bytes_per_connection: costs().map(|(cost, n)| cost.bytes_per_connection * n).sum::<f64>()
            / connections.max(1.0),
        us_per_message: per_message(cpu_s * 1e6, done),
        switches,
        switches_per_message: switches.and_then(|it| per_message(it.all() as f64, done)),
        ..Cost::default()
    }
}

/// One agent observes the server; what it saw is of the connections and messages of all.
fn server(shares: &[(String, Share)], established: u32, done: Option<u64>) -> Option<Cost> {
    let (cost, own) = shares.iter().find_map(|(_, share)| Some((share.server?, share.connections.established)))?;
    let share = f64::from(own.max(1)) / f64::from(established.max(1));
    Some(Cost {
        bytes_per_connection: cost.bytes_per_connection * share,
        tcp_bytes_per_connection: cost.tcp_bytes_per_connection.map(|bytes| bytes * share),
        us_per_message: per_message(cost.cpu_s * 1e6, done),
        switches_per_message: cost.switches.and_then(|it| per_message(it.all() as f64, done)),
        ..cost
    })
}

fn per_message(amount: f64, done: Option<u64>) -> Option<f64> {
    done.filter(|count| *count > 0).map(|count| amount / count as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::report::{SCHEMA, Shape};

    fn share(latency_ns: u64, lag_ns: u64, messages: Messages) -> Share {
        let one = |nanos| {
            let mut latencies = Latencies::new();
            latencies.record(nanos);
            Packed(latencies)
        };
        let in_window = InWindow { sent: messages.sent, acked: 0, delivered: messages.delivered };
        let remarks = vec!["seen".to_owned()];
        Share {
            connections: Connections { target: 5, established: 5, refused: 0, dropped: 0 },
            connect: one(1000),
            endings: BTreeMap::new(),
            heard: Some(Heard {
                messages,
                in_window,
                deliver: one(latency_ns),
                lag: one(lag_ns),
                remarks,
                ..Heard::default()
            }),
            duration_s: 2.0,
            generator: Cost { cpu_s: 1.2, cpu_cores: 0.6, wait_cores: Some(0.01), ..Cost::default() },
            server: None,
            server_cpus: None,
            reactor: "epoll".to_owned(),
        }
    }

    fn whole(shares: Vec<Share>, lost: Vec<String>) -> Report {
        let label = Label {
            schema: SCHEMA,
            scenario: "echo",
            protocol: "raw-echo".into(),
            load: Some("open"),
            rate: Some(10.0),
            in_flight: None,
            size: Some(64),
            shape: Shape::default(),
            duration_s: 0.0,
        };
        let shares = shares.into_iter().zip(["a", "b"]).map(|(share, agent)| (agent.to_owned(), share)).collect();
        Whole { label, shares, lost, timeline: Vec::new() }.report()
    }

    #[test]
    fn counts_are_added_and_two_half_busy_generators_are_no_bottleneck() {
        let good = Messages { sent: 10, delivered: 10, ..Messages::default() };
        let mut first = share(1_000_000, 10, good);
        first.server = Some(Cost { cpu_s: 0.4, bytes_per_connection: 100.0, ..Cost::default() });
        let report = whole(vec![first, share(3_000_000, 10, good)], Vec::new());
        assert_eq!((report.verdict, report.reasons.len()), (Verdict::Ok, 2), "{report}");
        assert_eq!(report.messages, Some(Messages { sent: 20, delivered: 20, ..Messages::default() }));
        assert_eq!(report.connections, Connections { target: 10, established: 10, refused: 0, dropped: 0 });
        let rtt = report.latency_us.rtt.unwrap();
        assert_eq!((rtt.count, rtt.p50.round() as u64, rtt.max.round() as u64), (2, 1000, 3000));
        assert_eq!((report.generator.cpu_s, report.generator.us_per_message), (2.4, Some(120_000.0)));
        let server = report.server.unwrap();
        assert_eq!((server.us_per_message, server.bytes_per_connection), (Some(20_000.0), 50.0));
        assert_eq!(report.rates.unwrap().sent_per_s, 10.0);
    }

    #[test]
    fn what_a_shared_room_lacks_is_lost() {
        // 10 messages of each agent for 5 clients here and 5 there; 3 of the deliveries there never came, 1 was damaged.
        let own = Messages { sent: 10, delivered: 50, ..Messages::default() };
        let of_others = [
            Messages { delivered: 50, ..Messages::default() },
            Messages { delivered: 46, corrupted: 1, ..Messages::default() },
        ];
        let shares = of_others.map(|guests| {
            let mut share = share(1, 10, own);
            share.heard.as_mut().unwrap().guests = Some(guests);
            share
        });
        let report = whole(shares.into(), Vec::new());
        let wanted = Messages { sent: 20, delivered: 196, lost: 3, corrupted: 1, ..Messages::default() };
        assert_eq!((report.messages, report.verdict), (Some(wanted), Verdict::Failed), "{report}");
    }

    #[test]
    fn one_late_agent_a_lost_one_and_a_lost_message_are_told_apart() {
        let good = Messages { sent: 10, delivered: 10, ..Messages::default() };
        let late = whole(vec![share(1, 10, good), share(1, 5_000_000, good)], Vec::new());
        assert_eq!(late.verdict, Verdict::Invalid);
        assert!(late.reasons.iter().any(|reason| reason.starts_with("agent b: the generator sent late")), "{late}");
        let bad = Messages { lost: 1, delivered: 9, ..good };
        assert_eq!(whole(vec![share(1, 10, good), share(1, 10, bad)], Vec::new()).verdict, Verdict::Failed);
        let lost = whole(vec![share(1, 10, bad)], vec!["agent b was lost".to_owned()]);
        assert_eq!((lost.verdict, lost.reasons[0].as_str()), (Verdict::Invalid, "agent b was lost"));
    }
}

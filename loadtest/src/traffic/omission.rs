//! Coordinated omission on a clock of its own: a server that stops for a second shows it in an open loop's tail, and
//! neither in a closed loop's nor in the time that the server spends on a message. Times are computed, nothing is timed.

use std::collections::VecDeque;

use super::{Measured, Traffic, Window};
use crate::ledger::{Delivery, Ledger, Messages, Route};
use crate::message::Key;
use crate::percentiles::{Latencies, Percentiles};
use crate::schedule::Load;

const SECOND: u64 = 1_000_000_000;
const SERVICE_NS: u64 = 100_000;
const WINDOW: Window = Window { begin_ns: 0, start_ns: 0, end_ns: 10 * SECOND };

/// One message after another, each in 100 µs, and nothing begun in the sixth second.
#[derive(Default)]
struct Server {
    free_ns: u64,
    /// What was asked, and when it is answered.
    answers: VecDeque<(Key, u64)>,
    service: Latencies,
}

impl Server {
    fn ask(&mut self, key: Key, now_ns: u64) {
        let start_ns = self.free_ns.max(now_ns);
        let start_ns = if (5 * SECOND..6 * SECOND).contains(&start_ns) { 6 * SECOND } else { start_ns };
        self.free_ns = start_ns + SERVICE_NS;
        self.service.record(self.free_ns - start_ns);
        self.answers.push_back((key, self.free_ns));
    }

    fn next_ns(&self) -> u64 {
        self.answers.front().map_or(u64::MAX, |(_, at_ns)| *at_ns)
    }
}

/// Ten seconds of `load` from one client: what it measured, and the server's time a message.
fn ten_seconds(load: Load) -> (Measured, Latencies) {
    let mut server = Server::default();
    let mut traffic = Traffic::new(Ledger::new(Route::Echo, 1), load, vec![0]);
    traffic.begin(WINDOW);
    let mut now_ns = 0;
    loop {
        if now_ns >= WINDOW.end_ns {
            traffic.end();
        }
        while let Some((client, intended_ns)) = traffic.take_due(now_ns) {
            server.ask(traffic.sending(client, intended_ns, now_ns), now_ns);
        }
        while let Some((key, _)) = server.answers.pop_front_if(|(_, at_ns)| *at_ns <= now_ns) {
            let delivery = Delivery { client: 0, key, seq: None, intact: true, redelivered: false };
            if let Some(first) = traffic.ledger.delivered(delivery) {
                traffic.delivered(first, now_ns);
            }
            traffic.pause(0, now_ns);
        }
        now_ns = match server.next_ns().min(traffic.next_due_ns().unwrap_or(u64::MAX)) {
            u64::MAX => return (traffic.finish(Vec::new()), server.service),
            next_ns => next_ns,
        };
    }
}

fn of(latencies: &Latencies) -> Percentiles {
    let none = Percentiles { p50: 0.0, p90: 0.0, p99: 0.0, p999: 0.0, max: 0.0, mean: 0.0, count: 0 };
    latencies.percentiles().unwrap_or(none)
}

fn is_about(seen_us: f64, wanted_us: f64) -> bool {
    (seen_us - wanted_us).abs() <= wanted_us / 100.0
}

#[test]
fn an_open_loop_shows_a_stop_in_its_tail_and_the_service_time_does_not() {
    let (measured, service) = ten_seconds(Load::at(1000.0));
    assert_eq!(measured.messages, Messages { sent: 10_000, delivered: 10_000, ..Messages::default() });
    let (seen, service) = (of(&measured.deliver), of(&service));
    assert_eq!((seen.count, service.count), (10_000, 10_000));
    assert!(is_about(seen.p50, 100.0), "{seen:?}");
    assert!(is_about(seen.p999, 1e6) && is_about(seen.max, 1e6), "{seen:?}");
    assert!(is_about(service.p999, 100.0) && is_about(service.max, 100.0), "{service:?}");
    assert_eq!(of(&measured.lag).max, 0.0, "the generator itself was never late");
}

#[test]
fn a_closed_loop_hides_the_same_stop_behind_one_message() {
    let (measured, _) = ten_seconds(Load::closed(1));
    let seen = of(&measured.deliver);
    assert_eq!((measured.messages.sent, measured.messages.lost), (90_000, 0));
    assert!(is_about(seen.p999, 100.0) && is_about(seen.max, 1e6), "{seen:?}");
}

//! HTTP requests at a rate: blocking keep-alive connections, one thread each, that share one schedule of intended times.
//! Owns the open loop and its figures; what is asked and what a good answer is are the [`Questions`]'.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::LoadError;
use crate::http::{Answer, HttpClient};
use crate::percentiles::Latencies;
use crate::profile::Profile;
use crate::report::Part;
use crate::sample;
use crate::url::Url;

/// Different failures told apart.
const FAILURES_MAX: usize = 16;

/// One request.
#[derive(Debug)]
pub(crate) struct Question {
    /// Which part of the run it belongs to.
    pub(crate) part: usize,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    pub(crate) body: Option<String>,
}

/// What is asked.
pub(crate) trait Questions: Sync {
    /// The names of the parts.
    fn parts(&self) -> &'static [&'static str];

    /// The request `number` of the run.
    fn question(&self, number: u64) -> Question;

    /// What is wrong with the body of a success.
    fn check(&self, number: u64, body: &[u8]) -> Result<(), String>;
}

/// How requests are sent.
#[derive(Debug)]
pub(crate) struct RequestPlan {
    pub(crate) url: Url,
    pub(crate) connections: u32,
    /// When requests are due, over all connections.
    pub(crate) profile: Profile,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
}

/// What came of the requests.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    tallies: Vec<Tally>,
    /// How late a connection that was free sent.
    pub(crate) lag: Latencies,
    /// Connections that got an answer.
    pub(crate) connected: u32,
    /// CPU seconds of all threads, and of the busiest.
    pub(crate) cpu_s: f64,
    pub(crate) cpu_most_s: f64,
    /// Seconds that the thread which waited most for a CPU did so.
    pub(crate) wait_s: f64,
}

/// The figures of one part.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    good: u64,
    latency: Latencies,
    /// Waited for a free connection.
    queued: Latencies,
    failures: BTreeMap<String, u64>,
}

/// Sends requests until the end of the measured phase and waits for their answers.
pub(crate) fn run<Q: Questions>(plan: &RequestPlan, questions: &Q) -> Result<Answers, LoadError> {
    let epoch = Instant::now();
    let next = AtomicU64::new(0);
    let mut all = Answers { tallies: tallies(questions.parts().len()), ..Answers::default() };
    let threads: Vec<Option<Answers>> = thread::scope(|scope| {
        let one = || scope.spawn(|| connection(plan, questions, &next, epoch));
        let threads: Vec<_> = (0..plan.connections).map(|_| one()).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect()
    });
    for answers in threads {
        let Some(answers) = answers else { return Err(LoadError::Arguments("a thread failed".to_owned())) };
        all.add(answers);
    }
    Ok(all)
}

/// One connection: takes the next intended time, waits for it, asks.
fn connection<Q: Questions>(plan: &RequestPlan, questions: &Q, next: &AtomicU64, epoch: Instant) -> Answers {
    let start_ns = plan.warmup.as_nanos() as u64;
    let end_ns = start_ns + plan.duration.as_nanos() as u64;
    let now_ns = || epoch.elapsed().as_nanos() as u64;
    let mut http = HttpClient::new(&plan.url);
    let mut answers = Answers { tallies: tallies(questions.parts().len()), ..Answers::default() };
    let before = sample::own();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let intended_ns = plan.profile.due_ns(number as f64);
        if intended_ns >= end_ns {
            break;
        }
        let question = questions.question(number);
        let free_ns = now_ns();
        thread::sleep(Duration::from_nanos(intended_ns.saturating_sub(free_ns)));
        let measured = intended_ns >= start_ns;
        let sent_ns = now_ns();
        let Question { part, method, path, token, body } = question;
        let answer = http.exchange(method, &path, token.as_deref(), body.as_deref());
        let took_ns = now_ns().saturating_sub(intended_ns);
        answers.connected = answers.connected.max(u32::from(answer.is_ok()));
        let found = answer.map_err(|e| e.to_string()).and_then(|answer| judge(questions, number, &answer));
        let Some(tally) = answers.tallies.get_mut(part) else { continue };
        tally.count(found, took_ns, measured);
        if measured && free_ns > intended_ns {
            tally.queued.record(free_ns - intended_ns);
        } else if measured {
            answers.lag.record(sent_ns.saturating_sub(intended_ns));
        }
    }
    let after = sample::own();
    answers.cpu_s = after.cpu_s - before.cpu_s;
    answers.cpu_most_s = answers.cpu_s;
    answers.wait_s = after.wait_s - before.wait_s;
    answers
}

fn tallies(parts: usize) -> Vec<Tally> {
    (0..parts).map(|_| Tally::default()).collect()
}

fn judge<Q: Questions>(questions: &Q, number: u64, answer: &Answer) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Refusal {
        code: String,
    }
    match answer.status {
        200..=299 => questions.check(number, &answer.body),
        status => {
            let code = serde_json::from_slice::<Refusal>(&answer.body).map(|it| it.code).unwrap_or_default();
            let hint = if status == 429 { " (for load runs start the server with --limits off)" } else { "" };
            Err(format!("HTTP {status} {code}{hint}"))
        }
    }
}

impl Tally {
    fn count(&mut self, found: Result<(), String>, took_ns: u64, measured: bool) {
        self.sent += 1;
        match found {
            Ok(()) => {
                self.good += 1;
                if measured {
                    self.latency.record(took_ns);
                }
            }
            Err(why) => {
                let known = self.failures.len() < FAILURES_MAX || self.failures.contains_key(&why);
                *self.failures.entry(if known { why } else { "other failures".to_owned() }).or_default() += 1;
            }
        }
    }
}

impl Answers {
    fn add(&mut self, other: Answers) {
        for (mine, theirs) in self.tallies.iter_mut().zip(other.tallies) {
            mine.sent += theirs.sent;
            mine.good += theirs.good;
            mine.latency.add(&theirs.latency);
            mine.queued.add(&theirs.queued);
            theirs.failures.into_iter().for_each(|(why, count)| *mine.failures.entry(why).or_default() += count);
        }
        self.lag.add(&other.lag);
        self.connected += other.connected;
        self.cpu_s += other.cpu_s;
        self.cpu_most_s = self.cpu_most_s.max(other.cpu_most_s);
        self.wait_s = self.wait_s.max(other.wait_s);
    }

    /// The parts of the report, and what makes the run fail.
    pub(crate) fn parts(&self, names: &[&'static str]) -> (Vec<Part>, Vec<String>) {
        let mut reasons = Vec::new();
        let part = |(tally, name): (&Tally, &&'static str)| {
            reasons.extend(tally.failures.iter().map(|(why, count)| format!("{count} × {name}: {why}")));
            if tally.good == 0 {
                reasons.push(format!("{name}: no request was answered well"));
            }
            let rows = [("request", &tally.latency), ("queued", &tally.queued)];
            let latency_us = rows.into_iter().filter_map(|(row, it)| Some((row, it.percentiles()?))).collect();
            let (sent, done, errors) = (tally.sent, tally.good, tally.failures.clone());
            Part { name, sent, done, errors, latency_us, ..Part::default() }
        };
        let parts = self.tallies.iter().zip(names).map(part).collect();
        (parts, reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_and_only_the_measured_phase_is_timed() {
        let mut answers = Answers { tallies: tallies(2), ..Answers::default() };
        let mut more = Answers { tallies: tallies(2), ..Answers::default() };
        answers.tallies[0].count(Ok(()), 1000, false);
        more.tallies[0].count(Ok(()), 2000, true);
        more.tallies[0].count(Err("HTTP 500 X".to_owned()), 9000, true);
        answers.add(more);
        let (parts, reasons) = answers.parts(&["hot", "cold"]);
        assert_eq!(reasons, ["1 × hot: HTTP 500 X", "cold: no request was answered well"]);
        assert_eq!((parts[0].sent, parts[0].done, parts[1].sent), (3, 2, 0));
        assert_eq!(parts[0].latency_us.get("request").map(|it| (it.count, it.max)), Some((1, 2.0)));
    }
}

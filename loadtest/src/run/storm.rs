//! `run login-storm`, and the report of runs that are made of HTTP requests. Owns no open loop: that is [`requests`]'s.

use crate::api;
use crate::cli::LoginStormArgs;
use crate::driver::Plan;
use crate::engine::{Census, Connections};
use crate::error::LoadError;
use crate::observer::say;
use crate::report::{Cost, Detail, Environment, Label, LatencyMicros, Report, Verdict};
use crate::requests::{self, Answers, Question, Questions, RequestPlan};
use crate::sample;
use crate::schedule::{ArrivalProcess, Load};
use crate::tokens::User;
use crate::verdict::{self, Busy};

use super::gochat::users_of;
use super::{label, plan};

const PARTS: &[&str] = &["login"];

/// What is asked: logins of these users in turn.
#[derive(Debug)]
struct Logins {
    users: Vec<User>,
    password: String,
}

impl Questions for Logins {
    fn parts(&self) -> &'static [&'static str] {
        PARTS
    }

    fn question(&self, number: u64) -> Question {
        let at = (number % self.users.len().max(1) as u64) as usize;
        let name = self.users.get(at).map_or("", |user| user.name.as_str());
        let body = Some(api::credentials(name, &self.password));
        Question { part: 0, method: "POST", path: "/api/auth/login".to_owned(), token: None, body }
    }

    fn check(&self, _number: u64, body: &[u8]) -> Result<(), String> {
        api::has_access_token(body).then_some(()).ok_or_else(|| "an answer without an access token".to_owned())
    }
}

/// Users log in at a rate; every login hashes a password.
pub(super) fn login_storm(args: &LoginStormArgs) -> Result<Report, LoadError> {
    let http = &args.http;
    let plan = plan(&args.common, http.connections, http.warmup, http.measured())?;
    let users = users_of(&args.users, &plan, args.accounts)?;
    let of_run = || api::PASSWORD.to_owned();
    let logins = Logins { users, password: args.password.clone().unwrap_or_else(of_run) };
    let requests = RequestPlan {
        url: plan.url.clone(),
        connections: http.connections,
        profile: http.profile(),
        warmup: http.warmup,
        duration: http.measured(),
    };
    report_requests("login-storm", &plan, &requests, || requests::run(&requests, &logins), PARTS)
}

/// Lets `ask` send the requests of a run and reports on them.
pub(super) fn report_requests(
    scenario: &'static str,
    plan: &Plan,
    requests: &RequestPlan,
    ask: impl FnOnce() -> Result<Answers, LoadError>,
    parts: &[&'static str],
) -> Result<Report, LoadError> {
    say(&format!("{} requests a second over {} connections", requests.profile.mean(), requests.connections));
    let server_cpu = || plan.server_pid.map(sample::server).transpose();
    let (begin, before) = (std::time::Instant::now(), server_cpu()?);
    let answers = ask()?;
    let (seconds, whole_s, after) = (requests.duration.as_secs_f64(), begin.elapsed().as_secs_f64(), server_cpu()?);
    let (parts, failures) = answers.parts(parts);
    let done = parts.iter().map(|part| part.done).sum::<u64>().max(1) as f64;
    let cost = |cpu_s: f64, seconds: f64, rss_bytes: u64| Cost {
        cpu_s,
        cpu_cores: cpu_s / seconds,
        rss_bytes,
        us_per_message: Some(cpu_s * 1e6 / done),
        ..Cost::default()
    };
    let server = before.zip(after).map(|(from, to)| {
        let switches = to.switches.zip(from.switches).map(|(to, from)| to.since(from));
        let switches_per_message = switches.map(|it| it.all() as f64 / done);
        let cost = cost(to.cpu_s - from.cpu_s, whole_s, to.rss_bytes);
        Cost { switches, switches_per_message, tcp_bytes: to.tcp_bytes, ..cost }
    });
    let wait = answers.wait_s / whole_s;
    let generator = Cost { wait_cores: Some(wait), ..cost(answers.cpu_s, whole_s, sample::own().rss_bytes) };
    let busy = Busy { generator: answers.cpu_most_s / whole_s, generator_wait: wait, server: None };
    let lag_us = answers.lag.percentiles();
    let (judged, mut reasons) = verdict::judge(&Census::default(), None, lag_us.as_ref(), Some(busy), Vec::new());
    let verdict = if failures.is_empty() { judged } else { Verdict::Failed };
    reasons.splice(0..0, failures);
    let load = Load::Open { profile: requests.profile.clone(), arrivals: ArrivalProcess::Uniform };
    let (target, established) = (requests.connections, answers.connected);
    Ok(Report {
        label: Label { duration_s: seconds, ..label(scenario, "gochat", Some(&load), None) },
        verdict,
        reasons,
        connections: Connections { target, established, ..Connections::default() },
        messages: None,
        rates: None,
        latency_us: LatencyMicros::default(),
        lag_us,
        detail: Detail { parts, ..Detail::default() },
        generator,
        server,
        environment: Environment::here("threads"),
    })
}

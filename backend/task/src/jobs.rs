//! Jobs: what has to be done now and then, by one leader each (spec 06 §12).
//!
//! Owns the periods and the counting. Never deletes itself what it cleans.

use std::time::{Duration, Instant};

use gochat_infra::backoff::pause;
use gochat_infra::rpc;
use gochat_infra::telemetry::metrics;
use gochat_proto::im::repo::v1::CleanupGuestsRequest;
use gochat_proto::im::repo::v1::user_service_client::UserServiceClient;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{JobsConfig, TaskDeps};
use crate::error::JobError;
use crate::leader::Leader;
use crate::presence::Sweeper;

/// Deadline of one call to repo.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// From the start to the first daily clean-up, and to the next attempt of one that failed.
const DAILY_RETRY: Duration = Duration::from_secs(60);
/// Guests of one call.
const GUESTS_MAX: i32 = 500;

/// All jobs of one task process.
pub(crate) struct Jobs {
    deps: TaskDeps,
    config: JobsConfig,
}

impl Jobs {
    pub(crate) fn new(deps: &TaskDeps, config: &JobsConfig) -> Jobs {
        Jobs { deps: deps.clone(), config: config.clone() }
    }

    /// Starts each job; they end when the process shuts down.
    pub(crate) fn spawn(self, parts: &mut JoinSet<()>, shutdown: &watch::Receiver<bool>) {
        parts.spawn(trim(self.deps.clone(), self.config.trim_period, shutdown.clone()));
        parts.spawn(sweep(self.deps.clone(), self.config.clone(), shutdown.clone()));
        parts.spawn(daily(self.deps, self.config, shutdown.clone()));
    }
}

/// The bus's retention. Without a leader: each process trims what it holds.
async fn trim(deps: TaskDeps, period: Duration, mut shutdown: watch::Receiver<bool>) {
    while pause(period, &mut shutdown).await {
        if let Err(error) = deps.bus.trim().await {
            tracing::warn!(%error, "the bus was not trimmed");
        }
    }
}

async fn sweep(deps: TaskDeps, config: JobsConfig, mut shutdown: watch::Receiver<bool>) {
    let mut leader = Leader::new(deps.coord.clone(), "task.presence");
    let mut sweeper = Sweeper::new(deps);
    let mut expired_at = tokio::time::Instant::now();
    while pause(config.sweep_period, &mut shutdown).await && leader.lead(&mut shutdown).await {
        done("offline_confirmations", Instant::now(), sweeper.sweep_due().await);
        if expired_at.elapsed() >= config.expire_period {
            expired_at = tokio::time::Instant::now();
            done("expired_presence", Instant::now(), sweeper.sweep_expired(config.session_age_max).await);
        }
    }
}

async fn daily(deps: TaskDeps, config: JobsConfig, mut shutdown: watch::Receiver<bool>) {
    let mut leader = Leader::new(deps.coord.clone(), "task.daily");
    let mut wait = DAILY_RETRY.min(config.daily_period);
    while pause(wait, &mut shutdown).await && leader.lead(&mut shutdown).await {
        let cleaned = clean_guests(&deps, config.guest_idle_max).await;
        wait = if done("guests", Instant::now(), cleaned) { config.daily_period } else { DAILY_RETRY };
    }
}

async fn clean_guests(deps: &TaskDeps, idle_max: Duration) -> Result<(), JobError> {
    let now = deps.clock.unix_ms().div_euclid(1000);
    let inactive_before = now - i64::try_from(idle_max.as_secs()).unwrap_or(i64::MAX);
    let mut users = UserServiceClient::new(deps.repo.clone());
    loop {
        let request = CleanupGuestsRequest { inactive_before, batch_size: GUESTS_MAX };
        let answer = users.cleanup_guests(rpc::request(request, CALL_DEADLINE)).await?;
        if answer.into_inner().cleaned_count < i64::from(GUESTS_MAX) {
            return Ok(());
        }
    }
}

/// Counts a run; true when it finished.
fn done(job: &'static str, began: Instant, result: Result<(), JobError>) -> bool {
    let labels = |result| [("job", job), ("result", result)];
    let name = if result.is_ok() { "ok" } else { "failed" };
    metrics::counter("gochat_job_runs_total", "Runs of jobs.", &labels(name)).inc();
    metrics::histogram("gochat_job_duration_seconds", "Time a job took.", &[("job", job)]).observe(began.elapsed());
    if let Err(error) = &result {
        tracing::warn!(job, %error, "a job did not finish, trying again");
    }
    result.is_ok()
}

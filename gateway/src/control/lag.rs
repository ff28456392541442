//! How far persistence is behind the log, and when senders are slowed down for it (pipeline.md E3).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gochat_infra::bus::{Bus, BusError};
use gochat_infra::rpc::{self, Channel};
use gochat_infra::telemetry::metrics::{Gauge, gauge};
use gochat_proto::im::repo::v1::GetPositionsRequest;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::topics;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

/// Records behind which senders are slowed.
const RECORDS_MAX: i64 = 100_000;
/// Age behind which senders are slowed.
const AGE_MAX: Duration = Duration::from_secs(5);
/// What senders are told to wait, seconds.
const RETRY_AFTER_S: u32 = 2;
const EVERY: Duration = Duration::from_millis(100);
const CALL_DEADLINE: Duration = Duration::from_secs(1);
const SNAPSHOTS_MAX: usize = 1024;

/// Follows the persist topic and the store's positions in it.
#[derive(Default)]
struct Lag {
    positions: Vec<i64>,
    /// Ends that persistence has not passed yet, and when they were seen; oldest first.
    ends: VecDeque<(Instant, Vec<i64>)>,
    slowed: bool,
}

impl Lag {
    fn saw_ends(&mut self, at: Instant, ends: Vec<i64>) {
        self.positions.resize(ends.len(), 0);
        let is_known = self.ends.back().is_some_and(|(_, known)| *known == ends);
        if !is_known && !self.has_passed(&ends) {
            if self.ends.len() == SNAPSHOTS_MAX {
                // The oldest one tells the age; the newest the distance.
                self.ends.pop_back();
            }
            self.ends.push_back((at, ends));
        }
    }

    fn saw_positions(&mut self, positions: Vec<i64>) {
        self.positions = positions;
        while self.ends.front().is_some_and(|(_, ends)| self.has_passed(ends)) {
            self.ends.pop_front();
        }
    }

    fn has_passed(&self, ends: &[i64]) -> bool {
        self.positions.iter().zip(ends).all(|(position, end)| position >= end)
    }

    fn records(&self) -> i64 {
        let Some((_, ends)) = self.ends.back() else { return 0 };
        ends.iter().zip(&self.positions).map(|(end, position)| (end - position).max(0)).sum()
    }

    /// Whether senders are to be slowed now; once slowed, until half of the bounds.
    fn judge(&mut self, now: Instant) -> bool {
        let age = self.ends.front().map_or(Duration::ZERO, |(seen, _)| now.saturating_duration_since(*seen));
        let divisor = if self.slowed { 2 } else { 1 };
        self.slowed = self.records() > RECORDS_MAX / divisor || age > AGE_MAX / divisor as u32;
        self.slowed
    }
}

/// Watches for ever; `slow_down` holds the seconds senders are asked to wait, 0 while persistence keeps up.
pub(crate) async fn watch_lag(bus: Arc<dyn Bus>, repo: Channel, slow_down: watch::Sender<u32>) {
    let mut pipeline = PipelineServiceClient::new(repo);
    let behind: Gauge = gauge("gochat_persist_lag_records", "Persist records that are not in the store yet.", &[]);
    let mut lag = Lag::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ends(&*bus).await {
            Ok(ends) => lag.saw_ends(Instant::now(), ends),
            Err(error) => tracing::debug!(%error, "the end of the persist topic is unknown"),
        }
        if !lag.ends.is_empty() {
            let partitions = lag.positions.len();
            match pipeline.get_positions(rpc::request(GetPositionsRequest {}, CALL_DEADLINE)).await {
                Ok(answer) => {
                    let mut positions = vec![0; partitions];
                    for position in answer.into_inner().positions {
                        if let Some(known) = positions.get_mut(position.partition as usize) {
                            *known = position.offset;
                        }
                    }
                    lag.saw_positions(positions);
                }
                Err(status) => tracing::debug!(%status, "the store's positions are unknown"),
            }
        }
        behind.set(lag.records());
        let seconds = if lag.judge(Instant::now()) { RETRY_AFTER_S } else { 0 };
        slow_down.send_if_modified(|known| {
            let changed = *known != seconds;
            if changed {
                tracing::warn!(lagging = seconds > 0, records = lag.records(), "persistence lag: senders are told");
            }
            *known = seconds;
            changed
        });
    }
}

async fn ends(bus: &dyn Bus) -> Result<Vec<i64>, BusError> {
    let partitions = bus.partitions(topics::MESSAGES_PERSIST).await?;
    let mut ends = Vec::with_capacity(partitions as usize);
    for partition in 0..partitions {
        ends.push(bus.end_offset(topics::MESSAGES_PERSIST, partition).await?);
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slows_at_either_bound_and_recovers_at_half() {
        let start = Instant::now();
        let mut lag = Lag::default();
        lag.saw_ends(start, vec![10, 10]);
        assert!(!lag.judge(start + AGE_MAX));
        assert!(lag.judge(start + AGE_MAX + EVERY), "too old");
        lag.saw_positions(vec![10, 9]);
        assert!(lag.judge(start + AGE_MAX + EVERY), "one partition still behind");
        lag.saw_positions(vec![10, 10]);
        assert!(!lag.judge(start + AGE_MAX * 2));

        lag.saw_ends(start, vec![10 + RECORDS_MAX, 11]);
        assert_eq!(lag.records(), RECORDS_MAX + 1);
        assert!(lag.judge(start), "too many");
        lag.saw_positions(vec![RECORDS_MAX / 2, 11]);
        assert_eq!(lag.records(), RECORDS_MAX / 2 + 10);
        assert!(lag.judge(start), "not yet half");
        lag.saw_positions(vec![10 + RECORDS_MAX / 2, 11]);
        assert!(!lag.judge(start));
    }

    #[test]
    fn the_age_is_that_of_the_oldest_end_not_passed() {
        let start = Instant::now();
        let mut lag = Lag::default();
        for n in 0..2 * SNAPSHOTS_MAX as i64 {
            lag.saw_ends(start + EVERY * n as u32, vec![n + 1]);
        }
        assert!(lag.ends.len() <= SNAPSHOTS_MAX);
        assert_eq!(lag.records(), 2 * SNAPSHOTS_MAX as i64);
        lag.saw_positions(vec![1]);
        assert_eq!(lag.ends.front().map(|(seen, _)| *seen), Some(start + EVERY));
        lag.saw_positions(vec![i64::MAX]);
        assert!(lag.ends.is_empty());
    }
}

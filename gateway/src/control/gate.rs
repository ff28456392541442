//! The gate: whether shards accept handshakes, whether senders are slowed, when draining begins. The one place that
//! combines these and the one that tells shards about them.

use tokio::sync::watch;

use super::shards::Shards;
use super::status::{Phase, Status};
use crate::bridge::Downlink;

/// What the gate looks at.
pub(crate) struct Gate {
    pub(crate) bus_healthy: watch::Receiver<bool>,
    pub(crate) slow_down: watch::Receiver<u32>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) shards: Shards,
    pub(crate) drain_percent_per_s: u8,
    pub(crate) status: watch::Sender<Status>,
}

impl Gate {
    /// Runs until nothing changes any more.
    pub(crate) async fn run(mut self) {
        let mut told = Status::default();
        loop {
            let now = Status {
                bus_healthy: *self.bus_healthy.borrow_and_update(),
                slow_down_s: *self.slow_down.borrow_and_update(),
                phase: *self.phase.borrow_and_update(),
            };
            self.tell(told, now).await;
            told = now;
            self.status.send_replace(now);
            tokio::select! {
                Ok(()) = self.bus_healthy.changed() => {}
                Ok(()) = self.slow_down.changed() => {}
                Ok(()) = self.phase.changed() => {}
                else => return,
            }
        }
    }

    async fn tell(&self, before: Status, now: Status) {
        if before.is_accepting() != now.is_accepting() {
            tracing::info!(accepting = now.is_accepting(), bus_healthy = now.bus_healthy, "handshakes");
            self.shards.tell_all(|| Downlink::Accepting(now.is_accepting())).await;
        }
        if before.slow_down_s != now.slow_down_s {
            self.shards.tell_all(|| Downlink::SlowDown { retry_after_s: now.slow_down_s }).await;
        }
        if before.phase == Phase::Running && now.phase != Phase::Running {
            self.shards.tell_all(|| Downlink::Drain { percent_per_s: self.drain_percent_per_s }).await;
        }
    }
}

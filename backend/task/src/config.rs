//! What task is given to work with, and its settings.
//!
//! Owns the values and their units. Never reads files or the environment.

use std::sync::Arc;
use std::time::Duration;

use gochat_infra::bus::Bus;
use gochat_infra::clock::Clock;
use gochat_infra::rpc::Channel;

/// Everything task works with. Cheap to clone.
#[derive(Clone)]
pub struct TaskDeps {
    /// To the repo service.
    pub repo: Channel,
    /// The bus with the persist and downstream topics.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Settings of task.
#[derive(Clone, Debug)]
pub struct TaskConfig {
    /// Persist records of one transaction at most; each holds up to 2,000 messages.
    pub records_max: usize,
    /// Bytes of persist records of one transaction. Above 3 MiB it is taken as 3 MiB, which one gRPC message holds.
    pub bytes_max: usize,
    /// Time from one transaction of a partition to the next, unless there is enough for a full one: fewer and larger
    /// transactions take less of the processor and of the disk that messages wait for.
    pub save_period: Duration,
    /// How often consumed offsets are committed to the bus, which needs them for retention only.
    pub commit_period: Duration,
    /// How often the outbox is looked at without being told.
    pub outbox_period: Duration,
    /// How often the bus may delete what nobody needs any more.
    pub trim_period: Duration,
}

impl Default for TaskConfig {
    fn default() -> TaskConfig {
        TaskConfig {
            records_max: 512,
            bytes_max: 2 << 20,
            save_period: Duration::from_millis(20),
            commit_period: Duration::from_secs(1),
            outbox_period: Duration::from_secs(30),
            trim_period: Duration::from_secs(60),
        }
    }
}

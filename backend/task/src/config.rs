//! What task is given to work with, and its settings.
//!
//! Owns the values and their units. Never reads files or the environment.

use std::sync::Arc;
use std::time::Duration;

use gochat_infra::bus::Bus;
use gochat_infra::clock::Clock;
use gochat_infra::coord::Coord;
use gochat_infra::lanes::HeldLimits;
use gochat_infra::rpc::Channel;
use gochat_proto::ids::GatewayId;
use tokio::sync::watch;

/// Everything task works with. Cheap to clone.
#[derive(Clone)]
pub struct TaskDeps {
    /// To the repo service.
    pub repo: Channel,
    /// The bus with all topics.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Locks: each job has one leader.
    pub coord: Arc<dyn Coord>,
    /// The gateways that are alive.
    pub gateways: watch::Receiver<Vec<GatewayId>>,
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
    /// How long one look at an empty outbox waits for something to come.
    pub outbox_wait: Duration,
    /// What large fan-outs may hold back for a gateway that cannot be reached.
    pub held: HeldLimits,
    /// The jobs.
    pub jobs: JobsConfig,
}

/// When jobs run, and what they find too old.
#[derive(Clone, Debug)]
pub struct JobsConfig {
    /// How often the bus may delete what nobody needs any more.
    pub trim_period: Duration,
    /// How often users whose time to come back is over are told to be offline.
    pub sweep_period: Duration,
    /// How often sessions that nobody renews are looked for.
    pub expire_period: Duration,
    /// Age at which such a session is one.
    pub session_age_max: Duration,
    /// From one daily clean-up to the next.
    pub daily_period: Duration,
    /// Guests who did nothing for so long lose their account.
    pub guest_idle_max: Duration,
}

impl Default for TaskConfig {
    fn default() -> TaskConfig {
        TaskConfig {
            records_max: 512,
            bytes_max: 2 << 20,
            save_period: Duration::from_millis(20),
            commit_period: Duration::from_secs(1),
            outbox_wait: Duration::from_secs(5),
            held: HeldLimits { bytes_max: 8 << 20, age_max: Duration::from_secs(60) },
            jobs: JobsConfig::default(),
        }
    }
}

impl Default for JobsConfig {
    fn default() -> JobsConfig {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        JobsConfig {
            trim_period: Duration::from_secs(60),
            sweep_period: Duration::from_secs(1),
            expire_period: Duration::from_secs(60),
            session_age_max: Duration::from_secs(300),
            daily_period: DAY,
            guest_idle_max: DAY * 7,
        }
    }
}

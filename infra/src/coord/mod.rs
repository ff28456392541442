//! The seam to coordination: instance ids and locks.
//!
//! Owns the [`Coord`] trait. Never holds business data. Implementations: [`local::LocalCoord`] (one process on one
//! data directory) and, in a cluster, etcd.

use async_trait::async_trait;

pub mod local;

/// What can go wrong in coordination.
#[derive(Debug, thiserror::Error)]
pub enum CoordError {
    /// Every id of the range is taken.
    #[error("no free instance id for {service} in 1..={max}")]
    NoFreeId {
        /// Service asked for.
        service: String,
        /// Highest id.
        max: u16,
    },
    /// Coordination could not be reached in time.
    #[error("coordination unavailable: {0}")]
    Unavailable(String),
}

/// A leased instance id; given back when dropped.
pub trait InstanceId: Send + Sync {
    /// The id, 1..=1023.
    fn id(&self) -> u16;
    /// Whether the lease still holds by this holder's monotonic clock (pipeline.md G2).
    fn is_valid(&self) -> bool;
}

/// A held lock; released when dropped.
pub trait LockGuard: Send + Sync {
    /// Grows with every holder of the same lock.
    fn fencing_token(&self) -> u64;
    /// Whether it is still held.
    fn is_held(&self) -> bool;
}

/// Coordination between the processes of one installation.
#[async_trait]
pub trait Coord: Send + Sync + 'static {
    /// Leases a free id in 1..=max (max at most 1023) for a service.
    async fn lease_instance_id(&self, service: &str, max: u16) -> Result<Box<dyn InstanceId>, CoordError>;

    /// Takes a lock, or `None` when another holder has it.
    async fn try_lock(&self, name: &str) -> Result<Option<Box<dyn LockGuard>>, CoordError>;
}

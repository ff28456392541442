//! What an operator asks of the store: a copy while it is in use, what is waiting, room between numbers after a restore.
//! Never on the path of a message.

use super::error::Result;
use async_trait::async_trait;
use std::path::Path;

/// Upkeep.
#[async_trait]
pub trait UpkeepStore: Send + Sync + 'static {
    /// Holds back all writing, and fixes what a copy will show: everything committed before, nothing of what comes after.
    async fn freeze(&self) -> Result<Box<dyn Frozen>>;

    /// What is waiting for somebody.
    async fn backlog(&self) -> Result<Backlog>;

    /// Leaves out this many numbers of every conversation, from the highest that was used, stored or reserved on. After a
    /// restore: clients may hold messages under numbers that the store no longer knows to be used.
    async fn leap(&self, numbers: i64) -> Result<()>;
}

/// A store at one moment. Dropped, it goes on as before.
#[async_trait]
pub trait Frozen: Send {
    /// Lets writing go on; the moment stays fixed. Keep the time before it short.
    async fn thaw(&mut self) -> Result<()>;

    /// Writes the moment's content to a file of its own, which does not exist yet, and syncs it. Thaws first.
    async fn copy_to(self: Box<Self>, path: &Path) -> Result<()>;
}

/// What is waiting for somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records that could not be stored.
    pub parked: i64,
    /// Acknowledgements and events that were not relayed yet.
    pub outbox: i64,
}

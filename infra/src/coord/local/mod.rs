//! Coordination inside one process: instance ids and locks from a table, and the lock on the data directory.
//!
//! Never spans processes but for [`DataDirLock`], which makes sure that there is only one.

mod data_dir;

use super::{Coord, CoordError, InstanceId, LockGuard};
use crate::clock::Clock;
use async_trait::async_trait;
pub use data_dir::{DataDirError, DataDirLock, Holder};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The embedded [`Coord`]; clones share one table.
#[derive(Clone)]
pub struct LocalCoord {
    table: Arc<Table>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Table {
    leases: Mutex<HashMap<String, BTreeSet<u16>>>,
    locks: Mutex<Locks>,
}

#[derive(Default)]
struct Locks {
    held: HashSet<String>,
    last_token: u64,
}

impl LocalCoord {
    /// A coordinator with nothing leased. Fencing tokens begin at the clock's Unix milliseconds, so that they also
    /// grow over restarts.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        LocalCoord { table: Arc::default(), clock }
    }
}

#[async_trait]
impl Coord for LocalCoord {
    async fn lease_instance_id(&self, service: &str, max: u16) -> Result<Box<dyn InstanceId>, CoordError> {
        let mut leases = lock(&self.table.leases);
        let taken = leases.entry(service.to_owned()).or_default();
        let free = (1..=max.min(1023)).find(|id| !taken.contains(id));
        let Some(id) = free else { return Err(CoordError::NoFreeId { service: service.to_owned(), max }) };
        taken.insert(id);
        Ok(Box::new(Lease { table: self.table.clone(), service: service.to_owned(), id }))
    }

    async fn try_lock(&self, name: &str) -> Result<Option<Box<dyn LockGuard>>, CoordError> {
        let mut locks = lock(&self.table.locks);
        if !locks.held.insert(name.to_owned()) {
            return Ok(None);
        }
        locks.last_token = u64::try_from(self.clock.unix_ms()).unwrap_or(0).max(locks.last_token + 1);
        Ok(Some(Box::new(Held { table: self.table.clone(), name: name.to_owned(), token: locks.last_token })))
    }
}

struct Lease {
    table: Arc<Table>,
    service: String,
    id: u16,
}

impl InstanceId for Lease {
    fn id(&self) -> u16 {
        self.id
    }

    fn is_valid(&self) -> bool {
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(taken) = lock(&self.table.leases).get_mut(&self.service) {
            taken.remove(&self.id);
        }
    }
}

struct Held {
    table: Arc<Table>,
    name: String,
    token: u64,
}

impl LockGuard for Held {
    fn fencing_token(&self) -> u64 {
        self.token
    }

    fn is_held(&self) -> bool {
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.table.locks).held.remove(&self.name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

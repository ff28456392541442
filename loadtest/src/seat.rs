//! A run's seat among those of other agents: which clients it has, and who looks on and says when it begins. Does nothing itself.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::Place;
use crate::observer::Observer;

/// Where a share of a distributed run is carried out.
#[derive(Clone)]
pub struct Seat {
    pub(crate) place: Place,
    watcher: Arc<Mutex<dyn Observer + Send>>,
}

impl Seat {
    pub(crate) fn new(place: Place, watcher: impl Observer + Send + 'static) -> Seat {
        Seat { place, watcher: Arc::new(Mutex::new(watcher)) }
    }

    /// Who is told of the run. One run holds it at a time.
    pub(crate) fn watcher(&self) -> MutexGuard<'_, dyn Observer + Send + 'static> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("place", &self.place).finish_non_exhaustive()
    }
}

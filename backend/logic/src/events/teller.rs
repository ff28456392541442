//! What telling of events needs.
//!
//! Owns the bundle only.

use crate::friendship::Views;
use crate::repo::Repo;
use crate::signals::Signals;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) repo: Repo,
    pub(super) signals: Signals,
    pub(super) views: Views,
}

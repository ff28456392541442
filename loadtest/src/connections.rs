//! What became of a run's connections, in numbers. Counts nothing itself.

use serde::{Deserialize, Serialize};

/// Connections over the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Asked for.
    pub target: u32,
    /// Became ready for messages.
    pub established: u32,
    /// Never became ready: connect failed, upgrade refused, no greeting.
    pub refused: u32,
    /// Were ready and ended before the run did.
    pub dropped: u32,
}

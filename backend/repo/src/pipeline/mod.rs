//! The rules of the message pipeline that stand between the contracts and the store (pipeline.md A-E).
//!
//! Nothing here knows SQL, and nothing here talks to a bus: `task` and `logic` carry records to and from it.

pub(crate) mod hash;
pub(crate) mod positions;
pub(crate) mod prepare;
pub(crate) mod save;
mod settle;

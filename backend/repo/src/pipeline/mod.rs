//! The rules of the message pipeline that stand between the contracts and the store (pipeline.md A-E).
//!
//! Nothing here knows SQL, and nothing here talks to a bus: `task` and `logic` carry records to and from it.

mod batch;
pub(crate) mod hash;
mod people;
pub(crate) mod positions;
pub(crate) mod prepare;
mod rules;
pub(crate) mod save;
mod settle;

pub(crate) use batch::PrepareError;

//! Deterministic simulation of the message pipeline: the real code of logic, repo and task over a bus, a cache and a
//! store that fail, in virtual time on one thread.
//!
//! Owns faults and checks. Never decides anything of the pipeline itself. For tests only.
#![forbid(unsafe_code)]

mod aftermath;
mod book;
mod bus;
mod cache;
mod chaos;
mod clients;
mod crowd;
mod persist_tx;
mod scenario;
mod services;
mod store;
mod tables;
mod world;

pub use gochat_logic::OmittedRules;
pub use scenario::run;

/// Parts around the pipeline that do not what they should, to see that a run notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The store keeps what is recalled as it was.
    RecallsForgotten,
    /// Clients that were away do not read recalls.
    RecallsUnread,
    /// Membership is read as if nobody had ever gone.
    RostersOfBefore,
    /// The gateway never asks again who is in a room.
    RoomsOfBefore,
    /// What is in the outbox goes with what was relayed.
    EventsForgotten,
}

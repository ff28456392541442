//! Deterministic simulation of the message pipeline: the real code of logic, repo and task over a bus, a cache and a
//! store that fail, in virtual time on one thread.
//!
//! Owns faults and checks. Never decides anything of the pipeline itself. For tests only.
#![forbid(unsafe_code)]

mod book;
mod bus;
mod cache;
mod chaos;
mod persist_tx;
mod scenario;
mod services;
mod store;
mod tables;
mod world;

pub use gochat_logic::OmittedRules;
pub use scenario::run;

//! The load-test tool: one thread, one reactor, many client connections, and an account of every message.
//!
//! `main` parses the command line and prints; everything else is here so that tests can run whole scenarios against
//! servers of their own. It stands on the gateway's engine ([`gochat_ring`], [`gochat_ws`]) and never on the gateway.

#![forbid(unsafe_code)]

mod acked;
mod api;
mod audience;
pub mod audit;
pub mod cli;
pub mod compare;
mod connections;
mod contrast;
mod crosscheck;
pub mod distributed;
pub mod doctor;
mod driver;
mod engine;
mod error;
mod guests;
pub mod html;
mod http;
pub mod interrupt;
pub mod ledger;
mod message;
pub mod million;
mod mix;
mod observer;
mod outbound;
pub mod output;
pub mod percentiles;
mod plot;
pub mod profile;
pub mod report;
mod requests;
mod rooms;
mod run;
mod sample;
mod scenario;
pub mod scenario_file;
pub mod schedule;
mod script;
mod seat;
pub mod serve;
pub mod spread;
mod suggest;
pub mod threshold;
pub mod timeline;
mod tokens;
mod traffic;
mod url;
mod verdict;
mod view;

pub use error::LoadError;
pub use run::run;

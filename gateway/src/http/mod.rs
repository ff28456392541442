//! The HTTP API (spec 01): thin handlers that read a request, call logic, and shape the answer.
//!
//! Owns everything between a handed-over socket and a call. Never decides what a user may do, and never stores anything.

mod accounts;
mod api;
mod auth;
mod contract;
mod conversations;
mod credentials;
mod describe;
mod edge;
mod envelope;
mod extract;
mod friends;
mod groups;
mod health;
mod idempotency;
mod limits;
mod members;
mod messages;
mod objects;
mod page;
mod paths;
mod presence;
mod recall;
mod replay;
mod requests;
mod routes;
mod serve;
mod sessions;
mod stream;
mod users;
mod verified;

pub(crate) use self::api::{Api, ApiParts};
pub(crate) use self::edge::Edge;
pub(crate) use self::routes::router;
pub(crate) use self::serve::Server;

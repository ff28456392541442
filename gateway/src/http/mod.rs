//! The HTTP API (spec 01): thin handlers that read a request, call logic, and shape the answer.
//!
//! Owns everything between a handed-over socket and a call. Never decides what a user may do, and never stores anything.

mod accounts;
mod api;
mod auth;
mod conversations;
mod edge;
mod envelope;
mod extract;
mod limits;
mod messages;
mod objects;
mod replay;
mod root;
mod routes;
mod serve;
mod users;
mod verified;

pub(crate) use self::api::{Api, ApiParts};
pub(crate) use self::edge::Edge;
pub(crate) use self::routes::router;
pub(crate) use self::serve::Server;

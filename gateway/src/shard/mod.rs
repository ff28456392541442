//! Chat sessions on a shard: who may connect, what their frames become, what they are sent. Decides nothing that needs
//! the store: membership, rights and order are logic's.

mod admission;
mod app;
mod chat;
mod gcra;
mod inbox;
mod marks;
mod members;
mod outlet;
mod record;
mod rooms;
mod session;
mod typing;
mod users;
mod world;

pub(crate) use chat::Chat;

//! What clients say in each scenario.

mod chat;
mod echo;
mod frames;
mod idle;

pub(crate) use chat::{Chat, ChatSetup};
pub(crate) use echo::{Echo, SIZE_MIN as ECHO_SIZE_MIN};
pub(crate) use idle::Idle;

//! What clients say in each scenario.

mod chat;
mod echo;
mod frames;
mod idle;
mod mixed;
mod publish;
mod scripted;

pub(crate) use chat::{Chat, ChatSetup};
pub(crate) use echo::{Echo, SIZE_MIN as ECHO_SIZE_MIN};
pub(crate) use idle::Idle;
pub(crate) use mixed::Mixed;
pub(crate) use publish::{Publish, PublishSetup, RAW_SIZE_MIN, ROOM, Speech};
pub(crate) use scripted::{Scripted, ScriptedSetup};

/// What helps against an error code.
fn hint(code: &str) -> &'static str {
    match code {
        "RATE_LIMITED" => " (for load runs start the server with --limits off)",
        _ => "",
    }
}

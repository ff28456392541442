//! What clients say in each scenario.

mod chat;
mod churn;
mod echo;
mod frames;
mod greedy;
mod heartbeat;
mod idle;
mod mixed;
mod presence;
mod publish;
mod reopening;
mod scripted;
mod slow_reader;
mod storm;
mod talk;

pub(crate) use chat::{Chat, ChatSetup};
pub(crate) use churn::{Churn, Cycles};
pub(crate) use echo::{Echo, SIZE_MIN as ECHO_SIZE_MIN};
pub(crate) use greedy::{Greedy, Side, Sides};
pub(crate) use heartbeat::Heartbeat;
pub(crate) use idle::Idle;
pub(crate) use mixed::Mixed;
pub(crate) use presence::{GONE_NS, Pace, Presence, PresenceSetup};
pub(crate) use publish::{Publish, PublishSetup, RAW_SIZE_MIN, ROOM, Speech};
pub(crate) use reopening::{Backoff, Reopened};
pub(crate) use scripted::{Scripted, ScriptedSetup};
pub(crate) use slow_reader::{Slow, SlowReader};
pub(crate) use storm::{Loss, Storm};
pub(crate) use talk::Talk;

/// What helps against an error code.
fn hint(code: &str) -> &'static str {
    match code {
        "RATE_LIMITED" => " (for load runs start the server with --limits off)",
        _ => "",
    }
}

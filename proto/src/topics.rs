//! Names of topics and consumer groups (spec 04 §1, §3).
//!
//! Owns the names only; partitions and retention are configuration.

use crate::ids::GatewayId;

/// Client messages on their way to logic; key = conversation id.
pub const MESSAGES_UPSTREAM: &str = "gochat.messages.upstream";
/// Prepared messages; the durable append here is the commit point. Partition = upstream partition.
pub const MESSAGES_PERSIST: &str = "gochat.messages.persist";
/// Large fan-outs; key = conversation id.
pub const TASKS_FANOUT: &str = "gochat.tasks.fanout";
/// Background work; key = task id.
pub const TASKS_BACKGROUND: &str = "gochat.tasks.background";
/// Presence, profile and registration events; key = user id.
pub const USER_EVENTS: &str = "gochat.user-events";
/// Conversation and membership events; key = conversation id.
pub const CONVERSATION_EVENTS: &str = "gochat.conversation-events";
/// Read and recall events; key = conversation id.
pub const MESSAGE_EVENTS: &str = "gochat.message-events";
/// Friend events; key = user id.
pub const FRIEND_EVENTS: &str = "gochat.friend-events";
/// Notices for app push, SMS and e-mail; key = target user id.
pub const NOTIFICATIONS: &str = "gochat.notifications";
/// Tells every repo instance what to drop from its local cache; key = first cache key.
pub const CACHE_INVALIDATION: &str = "gochat.cache-invalidation";
/// Token revocations, compacted (pipeline rule H2).
pub const REVOCATIONS: &str = "gochat.revocations";

const DOWNSTREAM_PREFIX: &str = "gochat.messages.downstream.";

/// What one gateway has to send; only that gateway reads it, by assignment from the end, never as a group.
pub fn downstream(gateway: GatewayId) -> String {
    format!("{DOWNSTREAM_PREFIX}{gateway}")
}

/// The gateway a downstream topic belongs to; `None` for every other topic.
pub fn downstream_gateway(topic: &str) -> Option<GatewayId> {
    topic.strip_prefix(DOWNSTREAM_PREFIX)?.parse().ok()
}

/// Where a consumer puts what it gave up on.
pub fn dead_letter(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// Consumer groups: members of one share the load, different ones each see everything.
pub mod groups {
    /// All logic instances, on the upstream topic.
    pub const LOGIC_UPSTREAM: &str = "logic.upstream.group";
    /// All task instances, on the persist topic.
    pub const TASK_PERSIST: &str = "task.persist.group";
    /// All task instances, on large fan-outs.
    pub const TASK_FANOUT: &str = "task.fanout.group";
    /// All task instances, on background work.
    pub const TASK_BACKGROUND: &str = "task.background.group";
    /// All task instances, for the search index.
    pub const TASK_INDEX: &str = "task.index.group";
    /// All logic instances, on user, conversation and friend events: what they mean to clients.
    pub const LOGIC_EVENTS: &str = "logic.events.group";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn downstream_names_round_trip() {
        let gateway = "gateway-7".parse().unwrap();
        assert_eq!(downstream(gateway), "gochat.messages.downstream.gateway-7");
        assert_eq!(downstream_gateway("gochat.messages.downstream.gateway-7"), Some(gateway));
        for other in [MESSAGES_UPSTREAM, "gochat.messages.downstream.gateway-0", "gochat.messages.downstream.7"] {
            assert_eq!(downstream_gateway(other), None, "{other}");
        }
        assert_eq!(dead_letter(MESSAGES_PERSIST), "gochat.messages.persist.dlq");
    }
}

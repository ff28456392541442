//! Notices for whoever sends app pushes, SMS or e-mail (spec 04 §6, SystemNotificationEvent).
//!
//! Owns their form. Best effort: nobody waits for one.

use gochat_infra::uid::uuid_v7;
use gochat_proto::topics;
use serde_json::{Value, json};

use crate::signals::Signals;

/// Publishes one notice for each of these users.
pub(super) async fn publish(signals: &Signals, user_ids: &[String], event_type: &str, payload: &Value) {
    let timestamp = signals.clock.unix_ms() / 1_000;
    for user_id in user_ids {
        let notice = json!({
            "event_id": uuid_v7(),
            "event_type": event_type,
            "timestamp": timestamp,
            "target_user_id": user_id,
            "payload": payload,
        });
        if let Err(error) = signals.publish(topics::NOTIFICATIONS, user_id, notice.to_string().into_bytes()).await {
            return tracing::warn!(%error, event_type, "notices not published");
        }
    }
}

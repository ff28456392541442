//! What must hold of recalls, of events and of clients that were away, once everything has come to rest.
//!
//! Owns these checks, 8 to 12 of a run's violations. Looks only, never disturbs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gochat_proto::bus::v1::StreamKind;
use gochat_proto::events::{Event, EventBody};

use crate::tables::{Row, StoredConversation, Tables};

/// One entry of a conversation as a client keeps it: number, id, recalled.
type Line = (i64, i64, bool);

/// What a client had when an answer said that it was complete.
pub(crate) struct Snapshot {
    /// Failovers before it: one after it may take back what nobody was told of.
    pub(crate) term: u64,
    /// Everything at or below is final.
    pub(crate) through: i64,
    pub(crate) lines: Vec<Line>,
}

/// The message that a row recalls.
fn recalled_by(row: &Row) -> Option<i64> {
    let id = std::str::from_utf8(&row.identity.client_msg_id).ok()?;
    id.strip_prefix("\u{1}r")?.parse().ok()
}

/// 9: what is recalled is empty and has one row that says so; what has such a row is recalled.
pub(crate) fn check_recalls(tables: &Tables) -> Vec<String> {
    let mut violations = Vec::new();
    let recalls: BTreeMap<i64, &Row> = tables.rows.values().filter_map(|row| Some((recalled_by(row)?, row))).collect();
    if recalls.len() != tables.rows.values().filter_map(recalled_by).count() {
        violations.push("9: a message is recalled twice".to_owned());
    }
    for (target, recall) in &recalls {
        let Some(row) = tables.rows.get(target) else {
            violations.push(format!("9: what {} recalls is not stored", recall.identity.id));
            continue;
        };
        if !row.deleted || !row.content.is_empty() || !row.extra.is_empty() {
            violations.push(format!("9: {target} has a recall, yet stands as it was"));
        }
        let named = [format!("\"messageId\":\"{target}\""), format!("\"seqId\":{}", row.identity.seq)];
        if recall.kind != 4 || named.iter().any(|part| !recall.extra.contains(part)) {
            violations.push(format!("9: the recall of {target} says {:?}", recall.extra));
        }
    }
    let unnamed = tables.rows.values().filter(|row| row.deleted && !recalls.contains_key(&row.identity.id));
    violations.extend(unnamed.map(|row| format!("9: {} is recalled by nobody", row.identity.id)));
    violations
}

/// 10: who was complete once and reads on from there ends with what one sees who reads from the beginning.
pub(crate) fn check_sync(
    conversation: &StoredConversation,
    tables: &Tables,
    before: &Snapshot,
    blind: bool,
) -> Vec<String> {
    let key = conversation.head.key;
    let rows = || tables.places.range((key, 0)..=(key, i64::MAX)).filter_map(|(_, id)| tables.rows.get(id));
    let line = |row: &Row| (row.identity.seq, row.identity.id, row.deleted);
    let whole: Vec<Line> = rows().map(line).collect();
    let mut synced: Vec<Line> = before.lines.iter().copied().filter(|(seq, ..)| *seq <= before.through).collect();
    for row in rows().filter(|row| row.identity.seq > before.through) {
        synced.push(line(row));
        if let Some(target) = recalled_by(row).filter(|_| !blind) {
            synced.iter_mut().filter(|(_, id, _)| *id == target).for_each(|line| line.2 = true);
        }
    }
    if synced == whole {
        return Vec::new();
    }
    vec![format!("10: {} synced from {} is {synced:?}, whole {whole:?}", conversation.id, before.through)]
}

/// 12: every change of members, and every recall, is told at least once; changes in order.
pub(crate) fn check_events(tables: &Tables, members: Vec<Bytes>, messages: Vec<Bytes>) -> Vec<String> {
    let mut violations = Vec::new();
    let mut told: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut recalled: BTreeSet<String> = BTreeSet::new();
    for value in members.into_iter().chain(messages) {
        let Ok(event) = Event::from_json(&value) else {
            violations.push("12: an event cannot be read".to_owned());
            continue;
        };
        match event.body {
            EventBody::MembersAdded { version, .. } | EventBody::MemberRemoved { version, .. } => {
                let versions = told.entry(event.conversation_id).or_default();
                if !versions.contains(&version) {
                    versions.push(version);
                }
            }
            EventBody::MessageRecalled { message_id, .. } => drop(recalled.insert(message_id)),
            _ => {}
        }
    }
    for conversation in tables.conversations.values() {
        let expected: Vec<i64> = (2..=conversation.version).collect();
        let versions = told.remove(&conversation.id).unwrap_or_default();
        if versions != expected {
            violations.push(format!("12: changes of {} were told as {versions:?}, not {expected:?}", conversation.id));
        }
    }
    for target in tables.rows.values().filter_map(recalled_by).filter(|id| !recalled.contains(&id.to_string())) {
        violations.push(format!("12: nobody was told that {target} is recalled"));
    }
    violations
}

/// What a kind is called in a story.
pub(crate) fn kind_of(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Chat => "message",
        StreamKind::System => "system message",
        StreamKind::Recall => "recall",
    }
}

//! The tables of the store in memory, and how a transaction's outcome takes their place.
//!
//! Owns the rows of a run and what outlives a failover. Knows no verb of repo.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use gochat_proto::bus::v1::OutboxEvent;
use gochat_proto::events::{Event, EventBody};
use gochat_repo::store::conversation::Head;
use gochat_repo::store::pipeline::{LogState, OutboxRow, Parked, StoredRow};
use gochat_repo::store::{Result, StoreError};
use prost::Message as _;

use tokio::sync::watch;

use crate::Broken;
use crate::chaos::{Chaos, Fate, Place, locked};

/// What is stored.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    pub(crate) conversations: BTreeMap<i64, StoredConversation>,
    pub(crate) rows: BTreeMap<i64, Row>,
    /// (conversation, number) to message id.
    pub(crate) places: BTreeMap<(i64, i64), i64>,
    pub(crate) claims: HashMap<i64, i64>,
    pub(crate) logs: BTreeMap<u32, LogState>,
    pub(crate) outbox: BTreeMap<i64, OutboxRow>,
    pub(crate) parked: Vec<Parked>,
    pub(crate) outbox_next: i64,
}

#[derive(Clone)]
pub(crate) struct StoredConversation {
    pub(crate) id: String,
    /// Ascending.
    pub(crate) members: Vec<i64>,
    /// Members at the beginning.
    pub(crate) size: i64,
    /// Moves with every change of the members.
    pub(crate) version: i64,
    pub(crate) head: Head,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) identity: StoredRow,
    pub(crate) kind: i32,
    pub(crate) content: String,
    /// Content when it was stored, whatever became of it.
    pub(crate) was: String,
    pub(crate) extra: String,
    /// Recalled.
    pub(crate) deleted: bool,
}

/// What outlives a failover.
#[derive(Default)]
pub(crate) struct Survivors {
    pub(crate) epochs: HashMap<u32, i64>,
    pub(crate) reserved: HashMap<i64, i64>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) tables: Tables,
    pub(crate) before_last: Option<Tables>,
    pub(crate) survivors: Survivors,
    /// Moves with every failover: transactions of before cannot commit.
    pub(crate) term: u64,
    /// Moves when the machine dies: what a process of before still wants to write is lost with it.
    pub(crate) life: u64,
    pub(crate) broken: Option<Broken>,
    pub(crate) violations: Vec<String>,
}

/// The tables and their disturbance, shared by all who use the store.
pub(crate) struct Database {
    pub(crate) inner: Mutex<Inner>,
    pub(crate) chaos: Arc<Chaos>,
    /// Moves with every commit.
    pub(crate) commits: watch::Sender<u64>,
}

/// The error of a call that was disturbed.
pub(crate) fn lost() -> StoreError {
    StoreError::Unavailable("simulated".to_owned())
}

impl Database {
    /// Puts a transaction's outcome in place of the tables.
    pub(crate) async fn commit(&self, term: u64, tables: Tables, violations: Vec<String>) -> Result<()> {
        self.chaos.jitter().await;
        let fate = self.chaos.fate(Some(Place::Save));
        {
            let mut inner = locked(&self.inner);
            if fate == Fate::Refused || inner.term != term {
                return Err(lost());
            }
            inner.before_last = Some(std::mem::replace(&mut inner.tables, tables));
            inner.violations.extend(violations);
            self.commits.send_modify(|commits| *commits += 1);
        }
        self.chaos.jitter().await;
        if fate == Fate::AnswerLost { Err(lost()) } else { Ok(()) }
    }
}

impl StoredConversation {
    /// All who are in it or ever were: users of a group have the numbers from 1.
    pub(crate) fn everybody(&self) -> Vec<i64> {
        if self.kind() == 1 { self.members.clone() } else { (1..=self.size).collect() }
    }

    /// A group, or a single chat.
    pub(crate) fn kind(&self) -> i32 {
        if self.id.starts_with("single") { 1 } else { 2 }
    }
}

impl Tables {
    /// Changes a conversation's members, with the event, in one step.
    pub(crate) fn change_members(&mut self, key: i64, members: Vec<i64>, mut event: Event, id: i64) {
        let Some(conversation) = self.conversations.get_mut(&key) else { return };
        conversation.members = members;
        conversation.version += 1;
        if let EventBody::MembersAdded { version, .. } | EventBody::MemberRemoved { version, .. } = &mut event.body {
            *version = conversation.version;
        }
        let entry =
            OutboxEvent { topic: event.topic().to_owned(), key: event.key().to_owned(), value: event.to_json().into() };
        self.outbox_next = self.outbox_next.max(id);
        self.outbox.insert(id, OutboxRow::Event(entry.encode_to_vec().into()));
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&StoredConversation> {
        self.conversations.values().find(|c| c.id == id)
    }
}

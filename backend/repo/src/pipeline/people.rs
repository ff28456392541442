//! Who speaks in a batch, and which messages its recalls name: everything the rules ask about, looked up once a batch.
//!
//! Owns that a batch of ordinary messages asks nothing but what is kept in memory.

use super::rules::Speaker;
use crate::directory::Directory;
use crate::store::conversation::{Roster, Standing};
use crate::store::pipeline::RecallTarget;
use crate::store::user::User;
use crate::store::{Result, Store};
use gochat_proto::bus::v1::StreamKind;
use gochat_proto::im::repo::v1::PrepareMessagesRequest;
use std::collections::HashMap;
use std::sync::Arc;

/// What was looked up.
pub(super) struct People {
    users: HashMap<i64, Arc<User>>,
    /// In the world room.
    world: HashMap<i64, Standing>,
    targets: HashMap<i64, RecallTarget>,
}

impl People {
    pub(super) async fn of(
        request: &PrepareMessagesRequest,
        rosters: &HashMap<&str, Arc<Roster>>,
        directory: &Directory,
        store: &dyn Store,
    ) -> Result<People> {
        let items = || request.conversations.iter().flat_map(|c| &c.items);
        let users = directory.users(items().map(|i| i.sender_id)).await?;
        let recalls = items().filter(|i| i.kind() == StreamKind::Recall);
        let named: Vec<i64> = recalls.map(|i| i.recalled_message_id).collect();
        let targets: HashMap<i64, RecallTarget> = match named.is_empty() {
            true => HashMap::new(),
            false => store.recall_targets(&named).await?.into_iter().map(|t| (t.id, t)).collect(),
        };
        let mut world = HashMap::new();
        for asked in &request.conversations {
            let Some(room) = rosters.get(asked.conversation_id.as_str()).filter(|roster| roster.is_world()) else {
                continue;
            };
            let authors = targets.values().filter(|t| t.conversation == room.key).map(|t| t.sender_id);
            let speakers = asked.items.iter().map(|i| i.sender_id).chain(authors);
            world.extend(directory.world_standings(&room.id, speakers).await?);
        }
        Ok(People { users, world, targets })
    }

    pub(super) fn user(&self, id: i64) -> Option<&User> {
        self.users.get(&id).map(Arc::as_ref)
    }

    pub(super) fn speaker(&self, roster: &Roster, id: i64) -> Speaker<'_> {
        Speaker { id, standing: self.standing(roster, id), user: self.user(id) }
    }

    pub(super) fn standing(&self, roster: &Roster, user: i64) -> Option<Standing> {
        if roster.is_world() { self.world.get(&user).copied() } else { roster.standing(user) }
    }

    pub(super) fn target(&self, message: i64) -> Option<&RecallTarget> {
        self.targets.get(&message)
    }
}

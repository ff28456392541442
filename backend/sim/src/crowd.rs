//! Who is in a group while members come and go, and what its gateway believes of that.
//!
//! Owns the check that nobody who was removed is pushed what was sent after the removal was answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gochat_infra::rpc::Channel;
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::conversation_service_client::ConversationServiceClient;
use gochat_proto::im::repo::v1::{AddConversationMemberRequest, RemoveConversationMemberRequest};
use tokio::time::sleep;

use crate::Broken;
use crate::chaos::{Chaos, locked};
use crate::tables::Database;

/// Changes of one member in one run, unless the machine dies.
const CHANGES: u64 = 6;

/// A conversation and who comes and goes in it.
pub(crate) type Comer = (String, i64);

/// The members of a run's groups.
pub(crate) struct Crowd {
    pub(crate) comers: Vec<Comer>,
    database: Arc<Database>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Moves with every event that order matters of.
    now: u64,
    /// When a removal was answered, until the return is asked for.
    away: BTreeMap<Comer, u64>,
    /// When a message was sent first.
    sent: BTreeMap<usize, u64>,
    /// The gateway's rooms: version and members.
    rooms: BTreeMap<String, (i64, Vec<i64>)>,
}

impl Crowd {
    pub(crate) fn new(comers: Vec<Comer>, database: Arc<Database>) -> Crowd {
        Crowd { comers, database, state: Mutex::default() }
    }

    /// Somebody who is not always a member.
    pub(crate) fn comes_and_goes(&self, conversation: &str, user: i64) -> bool {
        self.comers.iter().any(|(c, u)| c == conversation && *u == user)
    }

    /// A message goes out to be sent.
    pub(crate) fn sends(&self, index: usize) {
        let mut state = locked(&self.state);
        state.now += 1;
        let now = state.now;
        state.sent.entry(index).or_insert(now);
    }

    /// Who of a gateway's connections a push to a whole conversation reaches: it asks for the members when what it knows is
    /// older than the push.
    pub(crate) fn room(&self, conversation: &str, version: i64) -> Vec<i64> {
        let inner = locked(&self.database.inner);
        let mut state = locked(&self.state);
        let (known, members) = state.rooms.entry(conversation.to_owned()).or_default();
        let is_old = if inner.broken == Some(Broken::RoomsOfBefore) { *known == 0 } else { *known < version };
        if let Some(stored) = inner.tables.by_id(conversation).filter(|_| is_old) {
            (*known, *members) = (stored.version, stored.members.clone());
        }
        members.clone()
    }

    /// Those who must not receive any of these messages, out of who does.
    pub(crate) fn strangers(&self, conversation: &str, messages: &[usize], receivers: &[i64]) -> Vec<i64> {
        let state = locked(&self.state);
        let Some(sent) = messages.iter().filter_map(|index| state.sent.get(index)).min() else { return Vec::new() };
        let is_gone = |user: &i64| state.away.get(&(conversation.to_owned(), *user)).is_some_and(|at| at < sent);
        receivers.iter().copied().filter(is_gone).collect()
    }

    /// Lets a member go and come back some times.
    pub(crate) async fn wander(&self, comer: Comer, chaos: Arc<Chaos>, repo: Channel) {
        for _ in 0..CHANGES {
            sleep(Duration::from_millis(chaos.below(900))).await;
            let is_away = locked(&self.state).away.contains_key(&comer);
            let mut groups = ConversationServiceClient::new(repo.clone());
            let (conversation_id, user) = comer.clone();
            if is_away {
                locked(&self.state).away.remove(&comer);
                let user_ids = vec![user.to_string()];
                let add = AddConversationMemberRequest { conversation_id, user_ids, ..Default::default() };
                // Whether it happened or not: the next change is a removal.
                let _ = groups.add_conversation_member(add).await;
                continue;
            }
            let user_id = user.to_string();
            let remove = RemoveConversationMemberRequest { conversation_id, user_id, ..Default::default() };
            let is_gone = match groups.remove_conversation_member(remove).await {
                Ok(_) => true,
                Err(status) => Failure::from_status(&status).code == ErrorCode::NotConversationMember,
            };
            if is_gone {
                let mut state = locked(&self.state);
                state.now += 1;
                let now = state.now;
                state.away.insert(comer.clone(), now);
            }
        }
    }
}

//! Who hears of a batch, by the size of each conversation (pipeline.md F1): members one by one, gateways that know the
//! members, or the task service.
//!
//! Owns that choice and what was found out for it. Pure; never looks anybody up and never sends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gochat_proto::common::v1::ConversationType;
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::{OnlineStatus, PreparedConversation};
use gochat_proto::rooms::MEMBERS_WITHOUT_ROOM;

use super::batch::{Batch, Item, Push, Verdict};

/// One life of one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Gateway {
    /// Number of the instance, 1..=1023.
    pub(crate) id: u32,
    /// 0: whichever lives.
    pub(crate) incarnation: u64,
}

/// How the pushes of one conversation travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To every session of every member.
    Members,
    /// To every gateway that may have members, which knows them.
    Gateways,
    /// As [`Reach::Gateways`], by task.
    Task,
}

/// Live connections of users.
#[derive(Default)]
pub(crate) struct Sessions(HashMap<i64, Vec<(Gateway, u64)>>);

/// What a batch is fanned out with.
pub(crate) struct Audience {
    /// By index of the batch's conversation; `None`: nothing of it is pushed.
    reach: Vec<Option<Reach>>,
    /// Of the members of small conversations.
    pub(crate) sessions: Sessions,
    /// Gateways of those that travel to gateways, by index of the batch's conversation.
    pub(crate) gateways: BTreeMap<usize, Vec<GatewayId>>,
}

impl Sessions {
    /// Takes what repo answered.
    pub(crate) fn add(&mut self, statuses: Vec<OnlineStatus>) {
        for status in statuses {
            let Ok(user) = status.user_id.parse::<i64>() else { continue };
            let live = status.sessions.iter().filter_map(|session| {
                let id: GatewayId = session.gateway_id.parse().ok()?;
                Some((Gateway { id: id.number(), incarnation: session.gateway_incarnation }, session.address))
            });
            self.0.insert(user, live.collect());
        }
    }

    /// Connections of one user.
    pub(crate) fn of(&self, user: i64) -> &[(Gateway, u64)] {
        self.0.get(&user).map_or(&[], Vec::as_slice)
    }
}

impl Audience {
    /// The conversations of which something is pushed; nobody has been looked up. Groups above `gateways_max` members are
    /// left to task.
    pub(crate) fn of(batch: &Batch, prepared: &[Option<PreparedConversation>], gateways_max: i32) -> Audience {
        let mut reach = vec![None; batch.conversations.len()];
        for item in batch.items.iter().filter(|i| is_pushed(i)) {
            if let Some(conversation) = &prepared[item.conversation] {
                reach[item.conversation] = Some(reach_of(conversation, gateways_max));
            }
        }
        Audience { reach, sessions: Sessions::default(), gateways: BTreeMap::new() }
    }

    /// How the pushes of the conversation at this index travel.
    pub(crate) fn reach(&self, conversation: usize) -> Option<Reach> {
        self.reach[conversation]
    }

    /// Users whose sessions have to be known, each once.
    pub(crate) fn users(&self, prepared: &[Option<PreparedConversation>]) -> Vec<i64> {
        let small = self.travelling(Reach::Members).filter_map(|index| prepared[index].as_ref());
        let users: BTreeSet<i64> = small.flat_map(|conversation| conversation.member_ids.iter().copied()).collect();
        users.into_iter().collect()
    }

    /// Conversations whose gateways have to be known, by index.
    pub(crate) fn rooms(&self) -> Vec<usize> {
        self.travelling(Reach::Gateways).collect()
    }

    fn travelling(&self, wanted: Reach) -> impl Iterator<Item = usize> {
        self.reach.iter().enumerate().filter(move |(_, reach)| **reach == Some(wanted)).map(|(index, _)| index)
    }
}

fn reach_of(conversation: &PreparedConversation, gateways_max: i32) -> Reach {
    if conversation.r#type == ConversationType::World as i32 || conversation.member_count > gateways_max {
        Reach::Task
    } else if conversation.member_count > MEMBERS_WITHOUT_ROOM {
        Reach::Gateways
    } else {
        Reach::Members
    }
}

fn is_pushed(item: &Item) -> bool {
    matches!(item.verdict, Verdict::Settled { push: Push::First | Push::Redelivered, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_goes_by_size_and_the_world_always_by_task() {
        let reach = |r#type, member_count| {
            reach_of(&PreparedConversation { r#type, member_count, ..PreparedConversation::default() }, 500)
        };
        assert_eq!((reach(1, 2), reach(2, 20)), (Reach::Members, Reach::Members));
        assert_eq!((reach(2, 21), reach(2, 500)), (Reach::Gateways, Reach::Gateways));
        assert_eq!((reach(2, 501), reach(3, 1), reach(3, 100_000)), (Reach::Task, Reach::Task, Reach::Task));
    }
}

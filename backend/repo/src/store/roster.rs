//! Who is in a conversation and who may do what in it: what preparing a message asks of it.
//!
//! Owns the form that is kept in memory. The members of the world room are never among it: there may be a million.

use gochat_proto::common::v1::{ConversationMemberRole, ConversationType};
use gochat_proto::settings::Settings;

const MEMBER: i32 = ConversationMemberRole::Member as i32;

/// Who is in a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Text id.
    pub id: String,
    /// Integer key.
    pub key: i64,
    /// 1 single, 2 group, 3 world.
    pub kind: i32,
    /// Moves by one with every change of the members; in the world room it does not count.
    pub membership_version: i64,
    /// Ascending. Empty in the world room. Of a dissolved conversation: who was in it at its end.
    pub members: Vec<i64>,
    /// Members who are no plain members or may not speak, ascending.
    pub special: Vec<(i64, Standing)>,
    /// Number of members.
    pub member_count: i32,
    /// `None`: the kind is unknown.
    pub settings: Option<Settings>,
    /// It has ended: nothing is said in it any more.
    pub dissolved: bool,
    /// A single chat of which one blocks the other.
    pub blocked: bool,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// 1 member, 2 admin, 3 owner.
    pub role: i32,
    /// May not send.
    pub muted: bool,
    /// Unix seconds, 0: no end.
    pub muted_until: i64,
}

impl Standing {
    /// Most members.
    pub const PLAIN: Standing = Standing { role: MEMBER, muted: false, muted_until: 0 };

    /// Still muted at this Unix second.
    pub fn is_muted(&self, now_s: i64) -> bool {
        self.muted && (self.muted_until == 0 || self.muted_until > now_s)
    }
}

impl Roster {
    /// The world room, whose members are looked up one by one.
    pub fn is_world(&self) -> bool {
        self.kind == ConversationType::World as i32
    }

    /// Of a member who is in [`Roster::members`]; `None` for everybody else.
    pub fn standing(&self, user: i64) -> Option<Standing> {
        self.members.binary_search(&user).ok()?;
        let special = self.special.binary_search_by_key(&user, |(id, _)| *id).ok();
        Some(special.map_or(Standing::PLAIN, |at| self.special[at].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_that_of_a_member() {
        let owner = Standing { role: 3, ..Standing::PLAIN };
        let roster = Roster { members: vec![1, 2, 5], special: vec![(2, owner)], ..Roster::default() };
        let standings: Vec<_> = (1..=3).map(|user| roster.standing(user)).collect();
        assert_eq!(standings, [Some(Standing::PLAIN), Some(owner), None]);
        let muted = |muted_until| Standing { muted: true, muted_until, ..Standing::PLAIN };
        assert!(muted(0).is_muted(9) && muted(10).is_muted(9) && !muted(9).is_muted(9));
    }
}

//! The role matrix (spec 01 §4.6): who may do what in a group, and what moderators may in the world room.
//!
//! A pure table. Never asks who somebody is. Sending and recalling are judged where messages get their numbers, by repo.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::ConversationMemberRole as WireRole;
use gochat_proto::common::v1::{ConversationMember, GroupSettings};

/// A member's role, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Member,
    Admin,
    Owner,
}

/// What somebody wants to do to a group or to another member of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Leave,
    Invite,
    /// Name, avatar, description.
    UpdateInfo,
    ChangeSettings,
    /// A member of this role.
    Remove(Role),
    /// A member of this role.
    Mute(Role),
    ChangeRole,
    Transfer,
    Dissolve,
}

impl Role {
    /// An unknown number has no rights beyond a member's.
    pub(crate) fn of(member: &ConversationMember) -> Role {
        match member.role() {
            WireRole::Owner => Role::Owner,
            WireRole::Admin => Role::Admin,
            WireRole::Member | WireRole::Unspecified => Role::Member,
        }
    }
}

/// Whether `role` may do it in a group.
pub(crate) fn in_group(role: Role, action: Action, group: &GroupSettings) -> Result<(), ErrorCode> {
    let allowed = match action {
        Action::Leave if role == Role::Owner => return Err(ErrorCode::CannotLeaveConversation),
        Action::Leave => true,
        Action::Invite => role >= Role::Admin || group.invite_enabled,
        Action::UpdateInfo => role >= Role::Admin,
        Action::Remove(other) | Action::Mute(other) => role >= Role::Admin && other < role,
        Action::ChangeSettings | Action::ChangeRole | Action::Transfer | Action::Dissolve => role == Role::Owner,
    };
    if allowed { Ok(()) } else { Err(ErrorCode::InsufficientPermission) }
}

/// Whether `role` may do it in the world room: there are moderators, but nobody adds, removes or changes anything.
pub(crate) fn in_world(role: Role, action: Action) -> Result<(), ErrorCode> {
    match action {
        Action::Leave => Ok(()),
        Action::Mute(other) if role >= Role::Admin && other < role => Ok(()),
        Action::Mute(_)
        | Action::Invite
        | Action::UpdateInfo
        | Action::ChangeSettings
        | Action::Remove(_)
        | Action::ChangeRole
        | Action::Transfer
        | Action::Dissolve => Err(ErrorCode::InsufficientPermission),
    }
}

/// Whether a member may be heard at `now`, Unix seconds.
pub(crate) fn is_heard(member: &ConversationMember, mute_all: bool, now: i64) -> bool {
    let is_muted = member.muted && (member.muted_until == 0 || member.muted_until > now);
    match Role::of(member) {
        Role::Member => !is_muted && !mute_all,
        Role::Admin | Role::Owner => !is_muted,
    }
}

#[cfg(test)]
mod tests {
    use super::Role::{Admin, Member, Owner};
    use super::*;

    /// Spec 01 §4.6, one row a line: member, admin, owner.
    #[test]
    fn the_matrix_of_groups() {
        let open = GroupSettings { invite_enabled: true, ..GroupSettings::default() };
        let closed = GroupSettings::default();
        let rows = [
            (Action::Leave, &closed, [true, true, false]),
            (Action::Invite, &open, [true, true, true]),
            (Action::Invite, &closed, [false, true, true]),
            (Action::UpdateInfo, &open, [false, true, true]),
            (Action::ChangeSettings, &open, [false, false, true]),
            (Action::Remove(Member), &open, [false, true, true]),
            (Action::Remove(Admin), &open, [false, false, true]),
            (Action::Remove(Owner), &open, [false, false, false]),
            (Action::Mute(Member), &open, [false, true, true]),
            (Action::Mute(Admin), &open, [false, false, true]),
            (Action::Mute(Owner), &open, [false, false, false]),
            (Action::ChangeRole, &open, [false, false, true]),
            (Action::Transfer, &open, [false, false, true]),
            (Action::Dissolve, &open, [false, false, true]),
        ];
        for (action, settings, expected) in rows {
            for (role, allowed) in [Member, Admin, Owner].into_iter().zip(expected) {
                let refusal = match action {
                    Action::Leave => ErrorCode::CannotLeaveConversation,
                    _ => ErrorCode::InsufficientPermission,
                };
                let expected = if allowed { Ok(()) } else { Err(refusal) };
                assert_eq!(in_group(role, action, settings), expected, "{action:?} by {role:?}");
            }
        }
    }

    #[test]
    fn the_matrix_of_the_world_room() {
        let rows = [
            (Action::Leave, [true, true, true]),
            (Action::Mute(Member), [false, true, true]),
            (Action::Mute(Admin), [false, false, true]),
            (Action::Mute(Owner), [false, false, false]),
            (Action::Invite, [false; 3]),
            (Action::UpdateInfo, [false; 3]),
            (Action::ChangeSettings, [false; 3]),
            (Action::Remove(Member), [false; 3]),
            (Action::ChangeRole, [false; 3]),
            (Action::Transfer, [false; 3]),
            (Action::Dissolve, [false; 3]),
        ];
        for (action, expected) in rows {
            for (role, allowed) in [Member, Admin, Owner].into_iter().zip(expected) {
                let expected = if allowed { Ok(()) } else { Err(ErrorCode::InsufficientPermission) };
                assert_eq!(in_world(role, action), expected, "{action:?} by {role:?}");
            }
        }
    }

    #[test]
    fn who_is_heard() {
        let member = |role: WireRole, muted, muted_until| ConversationMember {
            role: role as i32,
            muted,
            muted_until,
            ..ConversationMember::default()
        };
        for (role, muted, until, mute_all, heard) in [
            (WireRole::Member, false, 0, false, true),
            (WireRole::Member, false, 0, true, false),
            (WireRole::Member, true, 0, false, false),
            (WireRole::Member, true, 101, false, false),
            (WireRole::Member, true, 100, false, true),
            (WireRole::Admin, false, 0, true, true),
            (WireRole::Owner, false, 0, true, true),
        ] {
            assert_eq!(
                is_heard(&member(role, muted, until), mute_all, 100),
                heard,
                "{role:?} {muted} {until} {mute_all}"
            );
        }
    }
}

//! Who may say what: the rules of sending and of recalling (pipeline.md A3, D3). Pure.
//!
//! Owns their order, which decides the code a refusal carries. Never looks anything up.

use crate::store::conversation::{Roster, Standing};
use crate::store::pipeline::RecallTarget;
use crate::store::user::{Status, User};
use gochat_proto::bus::v1::StreamKind;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{ConversationMemberRole, ConversationType, MessageType};
use gochat_proto::settings::Settings;

const SINGLE: i32 = ConversationType::Single as i32;
const GROUP: i32 = ConversationType::Group as i32;
const SYSTEM: i32 = MessageType::System as i32;
const MEMBER: i32 = ConversationMemberRole::Member as i32;
const ADMIN: i32 = ConversationMemberRole::Admin as i32;
const OWNER: i32 = ConversationMemberRole::Owner as i32;
/// For how long a message may be recalled by its sender, where no setting says otherwise.
const RECALL_MS: i64 = 120_000;

/// Somebody who wants to say something.
#[derive(Clone, Copy)]
pub(super) struct Speaker<'a> {
    pub(super) id: i64,
    /// `None`: no member.
    pub(super) standing: Option<Standing>,
    /// `None`: no account.
    pub(super) user: Option<&'a User>,
}

/// May they take a place in the conversation's stream?
pub(super) fn may_send(roster: &Roster, speaker: Speaker<'_>, kind: StreamKind, now_ms: i64) -> Result<(), ErrorCode> {
    if kind == StreamKind::System {
        return if roster.dissolved { Err(ErrorCode::ConversationDissolved) } else { Ok(()) };
    }
    let standing = speaker.standing.ok_or(ErrorCode::NotConversationMember)?;
    if roster.dissolved {
        return Err(ErrorCode::ConversationDissolved);
    }
    let user = speaker.user.ok_or(ErrorCode::UserNotFound)?;
    if user.status != Status::Normal {
        return Err(ErrorCode::UserDisabled);
    }
    // What one has said may be taken back also by who may not speak any more.
    if kind == StreamKind::Recall {
        return Ok(());
    }
    if user.is_guest && !are_guests_allowed(roster) {
        return Err(ErrorCode::GuestForbidden);
    }
    if roster.blocked {
        return Err(ErrorCode::Blocked);
    }
    let is_mute = standing.is_muted(now_ms.div_euclid(1000)) || is_all_mute(roster);
    if is_mute && standing.role <= MEMBER { Err(ErrorCode::Muted) } else { Ok(()) }
}

/// May they recall this message? `author` is what its sender is in the conversation now, if still a member.
pub(super) fn may_recall(
    roster: &Roster,
    speaker: Speaker<'_>,
    target: Option<&RecallTarget>,
    author: Option<Standing>,
    now_ms: i64,
) -> Result<(), ErrorCode> {
    let target = target.filter(|target| target.conversation == roster.key).ok_or(ErrorCode::MessageNotFound)?;
    if target.deleted {
        return Err(ErrorCode::MessageRecalled);
    }
    if target.kind == SYSTEM {
        return Err(ErrorCode::InsufficientPermission);
    }
    // Nobody stands above the other in a single chat.
    let role = speaker.standing.filter(|_| roster.kind != SINGLE).map_or(MEMBER, |standing| standing.role);
    let is_own = target.sender_id == speaker.id;
    match role {
        OWNER => Ok(()),
        ADMIN if !is_own && author.is_none_or(|author| author.role <= MEMBER) => Ok(()),
        _ if !is_own => Err(ErrorCode::InsufficientPermission),
        _ if now_ms.saturating_sub(target.created_at_ms) <= recall_ms(roster) => Ok(()),
        _ => Err(ErrorCode::RecallTimeExceeded),
    }
}

fn are_guests_allowed(roster: &Roster) -> bool {
    match &roster.settings {
        Some(Settings::World(world)) => world.guest_allowed,
        _ => roster.kind != GROUP,
    }
}

fn is_all_mute(roster: &Roster) -> bool {
    matches!(&roster.settings, Some(Settings::Group(group)) if group.mute_all)
}

/// Negative: never.
fn recall_ms(roster: &Roster) -> i64 {
    match &roster.settings {
        Some(Settings::Single(single)) if !single.allow_recall => -1,
        Some(Settings::Single(single)) => i64::from(single.recall_time_limit) * 1000,
        _ => RECALL_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gochat_proto::settings::{Group, Single, World};

    const NOW: i64 = 1_800_000_000_000;

    fn user(id: i64, is_guest: bool, status: Status) -> User {
        User {
            id,
            username: format!("user{id}"),
            avatar_url: String::new(),
            is_guest,
            status,
            token_version: 0,
            created_at_ms: 0,
            updated_at_ms: 0,
        }
    }

    fn roster(kind: i32) -> Roster {
        Roster { key: 9, kind, settings: Settings::defaults(kind), ..Roster::default() }
    }

    fn role(role: i32) -> Option<Standing> {
        Some(Standing { role, ..Standing::PLAIN })
    }

    #[test]
    fn every_rule_of_sending_has_its_code() {
        let (plain, guest, off) =
            (user(1, false, Status::Normal), user(2, true, Status::Normal), user(3, false, Status::Disabled));
        let send = |roster: &Roster, standing, user: &User, kind| {
            may_send(roster, Speaker { id: user.id, standing, user: Some(user) }, kind, NOW).err()
        };
        let chat = StreamKind::Chat;
        let group = roster(2);
        assert_eq!(send(&group, role(1), &plain, chat), None);
        assert_eq!(send(&group, None, &plain, chat), Some(ErrorCode::NotConversationMember));
        assert_eq!(send(&group, role(1), &off, chat), Some(ErrorCode::UserDisabled));
        assert_eq!(send(&group, role(1), &guest, chat), Some(ErrorCode::GuestForbidden));
        assert_eq!(send(&group, None, &plain, StreamKind::System), None, "a system message has no member behind it");
        for kind in [1, 3] {
            assert_eq!(send(&roster(kind), role(1), &guest, chat), None, "guests in {kind}");
        }
        let closed = Settings::World(World { guest_allowed: false, ..World::default() });
        let world = Roster { settings: Some(closed), ..roster(3) };
        assert_eq!(send(&world, role(1), &guest, chat), Some(ErrorCode::GuestForbidden));
        let blocked = Roster { blocked: true, ..roster(1) };
        assert_eq!(send(&blocked, role(1), &plain, chat), Some(ErrorCode::Blocked));
        assert_eq!(send(&blocked, role(1), &plain, StreamKind::Recall), None);
        let muted = |role, muted_until| Some(Standing { role, muted: true, muted_until });
        assert_eq!(send(&group, muted(1, 0), &plain, chat), Some(ErrorCode::Muted));
        assert_eq!(send(&group, muted(1, NOW / 1000 + 1), &plain, chat), Some(ErrorCode::Muted));
        assert_eq!(send(&group, muted(1, NOW / 1000), &plain, chat), None, "it has ended");
        assert_eq!(send(&group, muted(2, 0), &plain, chat), None, "admins are exempt");
        let quiet = Settings::Group(Group { mute_all: true, ..Group::default() });
        let quiet = Roster { settings: Some(quiet), ..roster(2) };
        let all: Vec<_> = (1..=3).map(|r| send(&quiet, role(r), &plain, chat)).collect();
        assert_eq!(all, [Some(ErrorCode::Muted), None, None]);
        let over = Roster { dissolved: true, ..roster(2) };
        for kind in [chat, StreamKind::System, StreamKind::Recall] {
            assert_eq!(send(&over, role(1), &plain, kind), Some(ErrorCode::ConversationDissolved));
        }
        assert_eq!(
            send(&over, None, &plain, chat),
            Some(ErrorCode::NotConversationMember),
            "a stranger learns nothing"
        );
    }

    fn target(sender_id: i64, age_ms: i64) -> RecallTarget {
        let created_at_ms = NOW - age_ms;
        RecallTarget { id: 50, conversation: 9, seq: 5, sender_id, kind: 1, created_at_ms, deleted: false }
    }

    fn recall(
        roster: &Roster,
        standing: Option<Standing>,
        target: &RecallTarget,
        author: Option<Standing>,
    ) -> Option<ErrorCode> {
        may_recall(roster, Speaker { id: 1, standing, user: None }, Some(target), author, NOW).err()
    }

    #[test]
    fn a_sender_recalls_for_two_minutes() {
        let group = roster(2);
        assert_eq!(recall(&group, role(1), &target(1, 120_000), role(1)), None);
        assert_eq!(recall(&group, role(1), &target(1, 120_001), role(1)), Some(ErrorCode::RecallTimeExceeded));
        assert_eq!(recall(&group, role(2), &target(1, 120_001), role(2)), Some(ErrorCode::RecallTimeExceeded));
        let with = |allow_recall, recall_time_limit| {
            let single = Single { allow_recall, recall_time_limit, show_read_status: true };
            Roster { settings: Some(Settings::Single(single)), ..roster(1) }
        };
        assert_eq!(recall(&with(true, 200), role(1), &target(1, 200_000), role(1)), None);
        assert_eq!(recall(&with(true, 5), role(1), &target(1, 5001), None), Some(ErrorCode::RecallTimeExceeded));
        assert_eq!(recall(&with(false, 5), role(1), &target(1, 0), None), Some(ErrorCode::RecallTimeExceeded));
        let theirs = recall(&roster(1), role(3), &target(2, 0), role(1));
        assert_eq!(theirs, Some(ErrorCode::InsufficientPermission), "nobody owns a single chat");
    }

    #[test]
    fn others_are_recalled_from_above_only() {
        for group in [roster(2), roster(3)] {
            for (mine, theirs, refused) in [
                (1, role(1), true),
                (2, role(1), false),
                (2, None, false),
                (2, role(2), true),
                (2, role(3), true),
                (3, role(2), false),
                (3, role(1), false),
            ] {
                let code = recall(&group, role(mine), &target(2, 999_999_999), theirs);
                assert_eq!(code, refused.then_some(ErrorCode::InsufficientPermission), "{mine} over {theirs:?}");
            }
            assert_eq!(recall(&group, role(3), &target(1, 999_999_999), role(3)), None, "an owner's own, any time");
        }
    }

    #[test]
    fn what_cannot_be_recalled_says_why() {
        let group = roster(2);
        let fresh = target(1, 0);
        let gone = may_recall(&group, Speaker { id: 1, standing: role(3), user: None }, None, None, NOW);
        assert_eq!(gone, Err(ErrorCode::MessageNotFound));
        let elsewhere = RecallTarget { conversation: 8, ..fresh };
        assert_eq!(recall(&group, role(3), &elsewhere, role(3)), Some(ErrorCode::MessageNotFound));
        let recalled = RecallTarget { deleted: true, ..fresh };
        assert_eq!(recall(&group, role(3), &recalled, role(3)), Some(ErrorCode::MessageRecalled));
        let system = RecallTarget { kind: 4, ..fresh };
        assert_eq!(recall(&group, role(3), &system, role(3)), Some(ErrorCode::InsufficientPermission));
    }
}

//! Groups as a whole: making, changing, ending and leaving one (spec 01 C2, C4-C6).
//!
//! Owns what names, descriptions and settings may be. Never decides by role itself: [`crate::roles`] does.

use std::collections::BTreeSet;
use std::sync::Arc;

use gochat_infra::uid::Snowflake;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{Conversation, ConversationType, GroupSettings, User, UserStatus};
use gochat_proto::failure::Failure;
use gochat_proto::ids::{ConversationId, UserId};
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::settings::{self, Settings};
use serde::Serialize;
use tonic::Status;

use crate::names;
use crate::repo::{Repo, ask};
use crate::roles::Action;
use crate::seat::{Seat, group_settings};
use crate::world::World;

const NAME_CHARS_MAX: usize = 100;
const DESCRIPTION_CHARS_MAX: usize = 500;
const REASON_CHARS_MAX: usize = 200;
const ANNOUNCEMENT_CHARS_MAX: usize = 2_000;
const MEMBERS: std::ops::RangeInclusive<i32> = 2..=MEMBERS_HARD_MAX;
/// No group is larger, whatever its settings say.
pub(crate) const MEMBERS_HARD_MAX: i32 = 10_000;
/// What DeleteConversation of repo does.
const DISSOLVE: i32 = 1;
const HIDE: i32 = 2;

/// Groups, and the doors of other conversations.
#[derive(Clone)]
pub(crate) struct Groups {
    pub(crate) repo: Repo,
    pub(crate) world: World,
    pub(crate) uid: Arc<Snowflake>,
}

/// Somebody who was not taken in, as `details.failedUsers` shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    user_id: &'a str,
    code: &'static str,
    reason: &'static str,
}

impl Groups {
    /// Makes a group; its creator owns it.
    pub(crate) async fn create(
        &self,
        creator: &User,
        request: api::CreateConversationRequest,
    ) -> Result<Conversation, Status> {
        let name = names::text(&request.name, NAME_CHARS_MAX, true).ok_or(ErrorCode::InvalidConversationName)?;
        let description =
            names::text(&request.description, DESCRIPTION_CHARS_MAX, false).ok_or(ErrorCode::InvalidParams)?;
        names::avatar_url(&request.avatar_url)?;
        let kind = ConversationType::Group as i32;
        let defaults = Settings::defaults(kind).ok_or(ErrorCode::InternalError)?;
        let members = others(&request.member_ids, &creator.id)?;
        if let Settings::Group(group) = &defaults
            && members.len() + 1 > usize::try_from(group.max_members).unwrap_or_default()
        {
            return Err(ErrorCode::ConversationFull.into());
        }
        let (_, failed) = self.invitable(&creator.id, &members).await?;
        if !failed.is_empty() {
            return Err(not_taken(&failed).into());
        }
        let number = self.uid.next_or_wait().await.map_err(|_| ErrorCode::ServiceUnavailable)?;
        let id = ConversationId::Group(number).to_string();
        let make = repo::CreateConversationRequest {
            r#type: kind,
            name: name.to_owned(),
            avatar_url: request.avatar_url.clone(),
            description: description.to_owned(),
            owner_id: creator.id.clone(),
            member_ids: std::iter::once(creator.id.clone()).chain(members).collect(),
            id: id.clone(),
            settings_json: defaults.to_json(),
        };
        self.repo.conversations.clone().create_conversation(ask(make)).await?;
        self.repo.viewed(&id, &creator.id).await
    }

    /// Who of `user_ids` may be taken into a group by `operator_id`, and who not and why.
    pub(crate) async fn invitable(
        &self,
        operator_id: &str,
        user_ids: &[String],
    ) -> Result<(Vec<String>, Vec<(String, ErrorCode)>), Status> {
        let (users, blocked) = futures::try_join!(
            self.repo.users(user_ids.to_vec()),
            self.repo.blocked_either_way(operator_id, user_ids)
        )?;
        let refusal = |id: &String| {
            let Some(user) = users.iter().find(|user| user.id == *id) else { return Some(ErrorCode::UserNotFound) };
            match user.status() {
                UserStatus::Deleted => Some(ErrorCode::UserNotFound),
                UserStatus::Disabled => Some(ErrorCode::UserDisabled),
                UserStatus::Normal | UserStatus::Unspecified if user.is_guest => Some(ErrorCode::GuestForbidden),
                UserStatus::Normal | UserStatus::Unspecified if blocked.contains(id) => Some(ErrorCode::Blocked),
                UserStatus::Normal | UserStatus::Unspecified => None,
            }
        };
        let (mut taken, mut failed) = (Vec::new(), Vec::new());
        for id in user_ids {
            match refusal(id) {
                None => taken.push(id.clone()),
                Some(code) => failed.push((id.clone(), code)),
            }
        }
        Ok((taken, failed))
    }

    /// Changes what the mask names.
    pub(crate) async fn update(&self, request: api::UpdateConversationRequest) -> Result<Conversation, Status> {
        let seat = Seat::of(&self.repo, &request.conversation_id, &request.user_id).await?;
        seat.group()?;
        let change = Change::of(&seat, &request)?;
        let update = repo::UpdateConversationRequest {
            conversation_id: request.conversation_id.clone(),
            name: change.name,
            avatar_url: change.avatar_url,
            description: change.description,
            settings_json: change.settings_json,
            update_mask: change.mask,
            expected_info_version: request.expected_info_version,
            operator_id: request.user_id.clone(),
        };
        self.repo.conversations.clone().update_conversation(ask(update)).await?;
        self.repo.viewed(&request.conversation_id, &request.user_id).await
    }

    /// Dissolves a group, or hides a single chat for the caller.
    pub(crate) async fn delete(&self, request: api::DeleteConversationRequest) -> Result<(), Status> {
        let reason = names::text(&request.reason, REASON_CHARS_MAX, false).ok_or(ErrorCode::InvalidParams)?;
        let seat = Seat::of(&self.repo, &request.conversation_id, &request.user_id).await?;
        let mode = match seat.conversation.r#type() {
            ConversationType::Single => HIDE,
            ConversationType::Group | ConversationType::World | ConversationType::Unspecified => {
                seat.check(Action::Dissolve)?;
                DISSOLVE
            }
        };
        let delete = repo::DeleteConversationRequest {
            conversation_id: request.conversation_id,
            operator_id: request.user_id,
            mode,
            reason: reason.to_owned(),
        };
        self.repo.conversations.clone().delete_conversation(ask(delete)).await?;
        Ok(())
    }

    /// Takes the caller out of a group or of the world room.
    pub(crate) async fn leave(&self, conversation_id: &str, user_id: &str, reason: &str) -> Result<(), Status> {
        let seat = Seat::of(&self.repo, conversation_id, user_id).await?;
        seat.check(Action::Leave)?;
        if seat.conversation.r#type() == ConversationType::World {
            return self.world.leave(user_id).await;
        }
        let leave = repo::RemoveConversationMemberRequest {
            conversation_id: conversation_id.to_owned(),
            user_id: user_id.to_owned(),
            operator_id: user_id.to_owned(),
            reason: reason.to_owned(),
        };
        self.repo.conversations.clone().remove_conversation_member(ask(leave)).await?;
        Ok(())
    }
}

/// What an update writes.
#[derive(Debug, Default)]
struct Change {
    name: String,
    avatar_url: String,
    description: String,
    settings_json: String,
    mask: Vec<String>,
}

impl Change {
    fn of(seat: &Seat, request: &api::UpdateConversationRequest) -> Result<Change, Status> {
        let (settings_fields, info): (Vec<&str>, Vec<&str>) =
            request.update_mask.iter().map(String::as_str).partition(|field| field.starts_with("settings"));
        if settings_fields.is_empty() && info.is_empty() {
            return Err(Failure::new(ErrorCode::InvalidParams, "nothing to change").into());
        }
        let mut change = Change::default();
        for field in info.iter().copied().collect::<BTreeSet<_>>() {
            seat.check(Action::UpdateInfo)?;
            match field {
                "name" => {
                    let name = names::text(&request.name, NAME_CHARS_MAX, true);
                    change.name = name.ok_or(ErrorCode::InvalidConversationName)?.to_owned();
                }
                "avatar_url" => {
                    names::avatar_url(&request.avatar_url)?;
                    change.avatar_url = request.avatar_url.clone();
                }
                "description" => {
                    let text = names::text(&request.description, DESCRIPTION_CHARS_MAX, false);
                    change.description = text.ok_or(ErrorCode::InvalidParams)?.to_owned();
                }
                other => return Err(unknown_field(other).into()),
            }
            change.mask.push(field.to_owned());
        }
        if !settings_fields.is_empty() {
            seat.check(Action::ChangeSettings)?;
            let asked = request.settings.as_ref().and_then(|settings| settings.group_settings.as_ref());
            let asked = asked.ok_or(ErrorCode::InvalidParams)?;
            let merged = merge(group_settings(&seat.conversation), asked, &settings_fields)?;
            check_settings(&merged, seat.conversation.member_count)?;
            let wire = gochat_proto::common::v1::ConversationSettings {
                group_settings: Some(merged),
                ..gochat_proto::common::v1::ConversationSettings::default()
            };
            change.settings_json = settings::view(&wire).map_or_else(String::new, |settings| settings.to_json());
            change.mask.push("settings_json".to_owned());
        }
        Ok(change)
    }
}

fn merge(mut now: GroupSettings, asked: &GroupSettings, fields: &[&str]) -> Result<GroupSettings, Failure> {
    for field in fields {
        match *field {
            "settings" => now = asked.clone(),
            "settings.join_approval_required" => now.join_approval_required = asked.join_approval_required,
            "settings.invite_enabled" => now.invite_enabled = asked.invite_enabled,
            "settings.max_members" => now.max_members = asked.max_members,
            "settings.mute_all" => now.mute_all = asked.mute_all,
            "settings.allow_member_view_history" => now.allow_member_view_history = asked.allow_member_view_history,
            "settings.announcement" => now.announcement = asked.announcement.clone(),
            other => return Err(unknown_field(other)),
        }
    }
    Ok(now)
}

fn check_settings(group: &GroupSettings, member_count: i32) -> Result<(), Failure> {
    if !MEMBERS.contains(&group.max_members) || group.max_members < member_count {
        let why =
            format!("max_members is {} to {MEMBERS_HARD_MAX} and not below the members there are", MEMBERS.start());
        return Err(Failure::new(ErrorCode::InvalidParams, why).with("field", "max_members"));
    }
    match names::text(&group.announcement, ANNOUNCEMENT_CHARS_MAX, false) {
        Some(_) => Ok(()),
        None => {
            Err(Failure::new(ErrorCode::InvalidParams, "the announcement is too long").with("field", "announcement"))
        }
    }
}

/// The ids without repetitions and without the caller.
pub(crate) fn others(ids: &[String], caller: &str) -> Result<Vec<String>, ErrorCode> {
    let mut seen = BTreeSet::new();
    let mut others = Vec::new();
    for id in ids {
        if id.parse::<UserId>().is_err() {
            return Err(ErrorCode::InvalidParams);
        }
        if id != caller && seen.insert(id) {
            others.push(id.clone());
        }
    }
    Ok(others)
}

fn not_taken(failed: &[(String, ErrorCode)]) -> Failure {
    let failed: Vec<_> = failed
        .iter()
        .map(|(user_id, code)| Failed { user_id, code: code.as_str(), reason: code.default_message() })
        .collect();
    let list = serde_json::to_string(&failed).unwrap_or_default();
    Failure::new(ErrorCode::InvalidParams, "some of the members cannot be in a group").with("failedUsers", list)
}

fn unknown_field(field: &str) -> Failure {
    Failure::new(ErrorCode::InvalidParams, format!("{field} cannot be changed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[test]
    fn only_what_the_mask_names_changes() {
        let now = GroupSettings { invite_enabled: true, max_members: 500, ..GroupSettings::default() };
        let asked = GroupSettings { mute_all: true, max_members: 10, ..GroupSettings::default() };
        let merged = merge(now.clone(), &asked, &["settings.mute_all"]).unwrap();
        assert_eq!(merged, GroupSettings { mute_all: true, ..now.clone() });
        assert_eq!(merge(now.clone(), &asked, &["settings"]).unwrap(), asked);
        assert_eq!(merge(now, &asked, &["settings.colour"]).unwrap_err().code, ErrorCode::InvalidParams);
    }

    #[test]
    fn ranges_of_settings() {
        let group = |max_members, announcement: &str| GroupSettings {
            max_members,
            announcement: announcement.into(),
            ..GroupSettings::default()
        };
        for good in [2, 3, 10_000] {
            assert!(check_settings(&group(good, "a\nb"), 2).is_ok(), "{good}");
        }
        for bad in [i32::MIN, 0, 1, 10_001] {
            assert!(check_settings(&group(bad, ""), 1).is_err(), "{bad}");
        }
        assert!(check_settings(&group(5, ""), 6).is_err(), "below the members there are");
        assert!(check_settings(&group(5, &"x".repeat(2_001)), 2).is_err());
    }

    #[test]
    fn the_caller_and_repetitions_do_not_count() {
        let ids = ["3", "2", "3", "1"].map(str::to_owned);
        assert_eq!(others(&ids, "2").unwrap(), ["3", "1"]);
        assert_eq!(others(&["x".to_owned()], "2"), Err(ErrorCode::InvalidParams));
    }
}

//! A conversation together with what one user is in it: what every request about it begins with.
//!
//! Owns who may look at a conversation at all. Never changes one.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{
    Conversation, ConversationMember, ConversationSettings, ConversationType, GroupSettings,
};
use gochat_proto::settings::Settings;
use tonic::Status;

use crate::repo::Repo;
use crate::roles::{self, Action, Role};

/// A member's place.
pub(crate) struct Seat {
    pub(crate) conversation: Conversation,
    pub(crate) member: ConversationMember,
}

impl Seat {
    /// The seat of a user: CONVERSATION_NOT_FOUND, NOT_CONVERSATION_MEMBER, or for who was a member to its end
    /// CONVERSATION_DISSOLVED.
    pub(crate) async fn of(repo: &Repo, conversation_id: &str, user_id: &str) -> Result<Seat, Status> {
        let conversation = repo.conversation(conversation_id).await?;
        let member = repo.membership(conversation_id, user_id).await?;
        Ok(Seat { conversation, member: member.ok_or(ErrorCode::NotConversationMember)? })
    }

    /// The member's role.
    pub(crate) fn role(&self) -> Role {
        Role::of(&self.member)
    }

    /// INSUFFICIENT_PERMISSION, or a more precise code, unless the member may do this here.
    pub(crate) fn check(&self, action: Action) -> Result<(), ErrorCode> {
        match self.conversation.r#type() {
            ConversationType::Group => roles::in_group(self.role(), action, &group_settings(&self.conversation)),
            ConversationType::World => roles::in_world(self.role(), action),
            ConversationType::Single | ConversationType::Unspecified => match action {
                Action::Leave => Err(ErrorCode::CannotLeaveConversation),
                _ => Err(ErrorCode::InsufficientPermission),
            },
        }
    }

    /// INSUFFICIENT_PERMISSION unless this is a group.
    pub(crate) fn group(&self) -> Result<(), ErrorCode> {
        if self.conversation.r#type() == ConversationType::Group {
            Ok(())
        } else {
            Err(ErrorCode::InsufficientPermission)
        }
    }
}

/// Settings of a group, as long as nobody changed them the defaults.
pub(crate) fn group_settings(conversation: &Conversation) -> GroupSettings {
    if let Some(group) = conversation.settings.as_ref().and_then(|settings| settings.group_settings.clone()) {
        return group;
    }
    let defaults = Settings::defaults(ConversationType::Group as i32).map(ConversationSettings::from);
    defaults.and_then(|settings| settings.group_settings).unwrap_or_default()
}

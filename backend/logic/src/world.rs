//! The world room: made at start, joined and left by whom its settings let in.
//!
//! Owns its making and its door. Never numbers or sends messages.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{Conversation, ConversationMemberRole, ConversationType, User, WorldChatSettings};
use gochat_proto::failure::Failure;
use gochat_proto::ids::ConversationId;
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::settings::Settings;
use tonic::Status;

use crate::repo::{Repo, ask};
use crate::roles::Role;

const NAME: &str = "World";

/// The one public room.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) repo: Repo,
}

impl World {
    /// Its id.
    pub(crate) fn id() -> String {
        ConversationId::World.to_string()
    }

    /// Makes the room when it is missing.
    pub(crate) async fn prepare(&self) -> Result<(), Status> {
        match self.repo.conversation(&World::id()).await {
            Err(status) if Failure::from_status(&status).code == ErrorCode::ConversationNotFound => {}
            found => return found.map(|_| ()),
        }
        let kind = ConversationType::World as i32;
        let make = repo::CreateConversationRequest {
            r#type: kind,
            name: NAME.to_owned(),
            id: World::id(),
            settings_json: Settings::defaults(kind).map_or_else(String::new, |settings| settings.to_json()),
            ..repo::CreateConversationRequest::default()
        };
        self.repo.conversations.clone().create_conversation(ask(make)).await?;
        Ok(())
    }

    /// Joins a user who asked to; once joined, nothing changes.
    pub(crate) async fn join(&self, user: &User) -> Result<(), Status> {
        let conversation = self.repo.conversation(&World::id()).await?;
        if user.is_guest && !settings_of(&conversation).guest_allowed {
            return Err(ErrorCode::GuestForbidden.into());
        }
        self.add(user).await
    }

    /// Joins a user who was just made. A failure does not undo the account: the user can still join.
    pub(crate) async fn auto_join(&self, user: &User) {
        let joined = match self.repo.conversation(&World::id()).await {
            Ok(world) if user.is_guest => {
                let settings = settings_of(&world);
                if settings.guest_allowed && settings.auto_join_guests { self.add(user).await } else { Ok(()) }
            }
            Ok(_) => self.add(user).await,
            Err(status) => Err(status),
        };
        if let Err(status) = joined {
            tracing::warn!(user_id = user.id, %status, "not joined to the world room");
        }
    }

    /// Takes a member out of the room. Who is muted stays: joining again would end it.
    pub(crate) async fn leave(&self, user_id: &str) -> Result<(), Status> {
        let member = self.repo.member(&World::id(), user_id).await?;
        if member.muted && Role::of(&member) == Role::Member {
            let why = "who is muted in the world room cannot leave it";
            return Err(Failure::new(ErrorCode::CannotLeaveConversation, why).into());
        }
        let leave = repo::RemoveConversationMemberRequest {
            conversation_id: World::id(),
            user_id: user_id.to_owned(),
            operator_id: user_id.to_owned(),
            reason: String::new(),
        };
        self.repo.conversations.clone().remove_conversation_member(ask(leave)).await?;
        Ok(())
    }

    async fn add(&self, user: &User) -> Result<(), Status> {
        let add = repo::AddConversationMemberRequest {
            conversation_id: World::id(),
            user_ids: vec![user.id.clone()],
            role: ConversationMemberRole::Member as i32,
            max_members: 0,
            operator_id: user.id.clone(),
        };
        self.repo.conversations.clone().add_conversation_member(ask(add)).await?;
        Ok(())
    }
}

fn settings_of(conversation: &Conversation) -> WorldChatSettings {
    let stored = conversation.settings.as_ref().and_then(|settings| settings.world_settings);
    stored.unwrap_or_else(|| {
        let defaults = Settings::defaults(ConversationType::World as i32).map(Into::into);
        defaults.and_then(|d: gochat_proto::common::v1::ConversationSettings| d.world_settings).unwrap_or_default()
    })
}

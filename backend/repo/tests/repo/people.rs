//! What the tests about people share: more users, groups, and what was told in events.

use crate::bench::{Bench, NOW, ask};
use gochat_infra::rpc::Channel;
use gochat_proto::events::EventBody;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::friendship_service_client::FriendshipServiceClient;
use gochat_proto::im::repo::v1::*;
use gochat_repo::store::user::NewUser;
use tonic::Status;

impl Bench {
    pub(crate) fn friends(&self) -> FriendshipServiceClient<Channel> {
        FriendshipServiceClient::new(self.channel.clone())
    }

    /// Accounts named by their ids.
    pub(crate) async fn add_users(&self, ids: impl Iterator<Item = i64>, is_guest: bool) {
        let user = |id: i64| NewUser {
            id,
            username: format!("user{id}"),
            password_hash: String::new(),
            avatar_url: String::new(),
            is_guest,
            created_at_ms: NOW,
        };
        self.store.create_users(ids.map(user).collect()).await.unwrap();
    }

    /// The group `group_{number}`; the first member owns it.
    pub(crate) async fn group(&self, number: i64, members: &[i64]) -> String {
        let create = CreateConversationRequest {
            r#type: 2,
            id: format!("group_{number}"),
            name: format!("group {number}"),
            owner_id: members[0].to_string(),
            member_ids: members.iter().map(i64::to_string).collect(),
            ..CreateConversationRequest::default()
        };
        let made = self.conversations().create_conversation(ask(create)).await.unwrap().into_inner();
        made.conversation.unwrap().id
    }

    pub(crate) async fn add_members(&self, conversation: &str, users: &[i64]) {
        let add = AddConversationMemberRequest {
            conversation_id: conversation.into(),
            user_ids: users.iter().map(i64::to_string).collect(),
            role: 1,
            ..AddConversationMemberRequest::default()
        };
        self.conversations().add_conversation_member(ask(add)).await.unwrap();
    }

    pub(crate) async fn is_member(&self, conversation: &str, user: i64) -> bool {
        !self.store.members(conversation, &[user]).await.unwrap().is_empty()
    }

    /// Events told since the last call: whom they are about, and what happened.
    pub(crate) async fn told_about_users(&self) -> Vec<(String, String, EventBody)> {
        self.take_events().await.into_iter().map(|event| (event.user_id, event.friend_id, event.body)).collect()
    }
}

/// The code of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    Failure::from(answer.unwrap_err()).code.as_str().to_owned()
}

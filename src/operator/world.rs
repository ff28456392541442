//! Roles in the world room: only operators give them (spec 01 §4).

use super::accounts::account;
use super::order::{Outcome, Role, Who};
use super::{Operator, answer, call};
use gochat_proto::ids::ConversationId;
use gochat_proto::im::repo::v1::conversation_service_client::ConversationServiceClient;
use gochat_proto::im::repo::v1::{AddConversationMemberRequest, UpdateMemberRoleRequest};

impl Operator {
    /// Gives a role; who is not in the room joins it.
    pub(super) async fn world_role(&self, who: &Who, role: Role) -> Result<Outcome, String> {
        let user = self.user(who).await?;
        if user.is_guest && role != Role::Member {
            return Err(format!("{} is a guest: guests are members only", user.username));
        }
        let world = ConversationId::World.to_string();
        let mut repo = ConversationServiceClient::new(self.parts.repo.clone());
        let joins = AddConversationMemberRequest {
            conversation_id: world.clone(),
            user_ids: vec![user.id.clone()],
            role: Role::Member as i32,
            ..AddConversationMemberRequest::default()
        };
        answer(repo.add_conversation_member(call(joins)).await).map_err(|why| {
            format!(
                "{} cannot join the world room: {why} (the server makes the room at its first start)",
                user.username
            )
        })?;
        let change = UpdateMemberRoleRequest {
            conversation_id: world,
            user_id: user.id.clone(),
            new_role: role as i32,
            update_mask: vec!["role".to_owned()],
            ..UpdateMemberRoleRequest::default()
        };
        answer(repo.update_member_role(call(change)).await)?;
        tracing::info!(user = %user.id, ?role, "an operator gave a role in the world room");
        Ok(Outcome::Account(account(&user)))
    }
}

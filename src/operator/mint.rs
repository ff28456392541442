//! Many accounts with one password, and a signed access token for each, for load runs.

use super::order::{Minted, Outcome, PAGE_MAX};
use super::{Operator, answer, call};
use crate::data::token_key;
use gochat_infra::token::{Claims, ISSUER, TokenKey, TokenKind};
use gochat_infra::uid::uuid_v7;
use gochat_proto::ids::ConversationId;
use gochat_proto::im::repo::v1::AddConversationMemberRequest;
use gochat_proto::im::repo::v1::conversation_service_client::ConversationServiceClient;
use gochat_repo::store::user::NewUser;

impl Operator {
    /// Makes at most 500 accounts, all or none. They join the world room as whoever registers does, where there is one.
    pub(super) async fn mint(&self, first: u32, count: u32, prefix: &str, password: &str) -> Result<Outcome, String> {
        let last = first.checked_add(count).map(|end| end - 1).filter(|_| (1..=PAGE_MAX).contains(&count));
        let last = last.ok_or_else(|| format!("one order makes 1 to {PAGE_MAX} users"))?;
        check_prefix(prefix, last)?;
        let password_hash = self.hash(password).await?;
        let key = token_key(&self.parts.key)?;
        let mut users = Vec::with_capacity(count as usize);
        for number in first..=last {
            users.push(NewUser {
                id: self.parts.uid.next_or_wait().await.map_err(|error| error.to_string())?,
                username: format!("{prefix}{number}"),
                password_hash: password_hash.clone(),
                avatar_url: String::new(),
                is_guest: false,
                created_at_ms: self.parts.clock.unix_ms(),
            });
        }
        let ttl_s = self.config.auth.access_token_ttl_s as i64;
        let minted = users.iter().map(|user| minted(user, &key, ttl_s)).collect::<Result<Vec<_>, String>>()?;
        self.parts
            .store
            .create_users(users)
            .await
            .map_err(|error| format!("users {prefix}{first} to {prefix}{last}: {error}; take another --prefix"))?;
        if self.config.world.auto_join_registered {
            self.join_world(&minted).await?;
        }
        Ok(Outcome::Minted(minted))
    }

    async fn join_world(&self, users: &[Minted]) -> Result<(), String> {
        let joins = AddConversationMemberRequest {
            conversation_id: ConversationId::World.to_string(),
            user_ids: users.iter().map(|user| user.id.clone()).collect(),
            role: 1,
            ..AddConversationMemberRequest::default()
        };
        let mut repo = ConversationServiceClient::new(self.parts.repo.clone());
        match repo.add_conversation_member(call(joins)).await {
            // No server has run on this directory yet, so there is no room to join.
            Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
            joined => answer(joined).map(drop),
        }
    }
}

/// A prefix is short enough for its numbers.
pub(super) fn check_prefix(prefix: &str, last: u32) -> Result<(), String> {
    let digits = last.to_string().len();
    if prefix.is_empty() || prefix.len() + digits > 20 || !prefix.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!(
            "--prefix {prefix:?}: ASCII letters and digits, so short that a number of {digits} digits makes at most 20"
        ));
    }
    Ok(())
}

fn minted(user: &NewUser, key: &TokenKey, ttl_s: i64) -> Result<Minted, String> {
    let issued = user.created_at_ms / 1000;
    let id = user.id.to_string();
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: id.clone(),
        user_id: id.clone(),
        kind: TokenKind::Access,
        jti: uuid_v7(),
        iat: issued,
        exp: issued + ttl_s,
        guest: false,
        ver: 0,
        fam: uuid_v7(),
        sxp: 0,
        ath: String::new(),
    };
    let token = key.sign(&claims).map_err(|error| error.to_string())?;
    Ok(Minted { id, username: user.username.clone(), token })
}

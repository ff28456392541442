//! Orders about accounts. The rules (what a password may be, what ends with it) are logic's and repo's; here they are
//! called in the right order.

use super::order::{Account, Outcome, PAGE_MAX, Who};
use super::{Operator, answer, call};
use gochat_proto::common::v1::{User, UserStatus};
use gochat_proto::im::repo::v1::token_service_client::TokenServiceClient;
use gochat_proto::im::repo::v1::user_service_client::UserServiceClient;
use gochat_proto::im::repo::v1::{
    GetUserByUsernameRequest, GetUserRequest, ListUsersRequest, RevokeUserRequest, UpdateUserRequest,
};

impl Operator {
    /// A page of accounts. With `guests` those alone, for which more than one page of all accounts may be read.
    pub(super) async fn list(
        &self,
        after: String,
        limit: u32,
        prefix: String,
        guests: bool,
    ) -> Result<Outcome, String> {
        let limit = limit.clamp(1, PAGE_MAX) as usize;
        let mut repo = UserServiceClient::new(self.parts.repo.clone());
        let (mut users, mut after) = (Vec::new(), after);
        loop {
            let page = ListUsersRequest {
                after_user_id: after.clone(),
                limit: if guests { PAGE_MAX as i32 } else { limit as i32 },
                name_prefix: prefix.clone(),
            };
            let page = answer(repo.list_users(call(page)).await)?;
            let room = limit - users.len();
            let mut wanted = page.users.iter().filter(|user| user.is_guest || !guests);
            users.extend(wanted.by_ref().take(room).map(account));
            let more_here = wanted.next().is_some();
            if users.len() == limit {
                let next = (more_here || page.has_more).then(|| users.last().map(|user| user.id.clone())).flatten();
                return Ok(Outcome::Users { users, next });
            }
            match page.users.last() {
                Some(last) if page.has_more => after = last.id.clone(),
                _ => return Ok(Outcome::Users { users, next: None }),
            }
        }
    }

    /// Disables or enables; again is fine. Whoever is disabled is logged out everywhere, and stays so when enabled.
    pub(super) async fn set_enabled(&self, who: &Who, enabled: bool) -> Result<Outcome, String> {
        let user = self.user(who).await?;
        let status = if enabled { UserStatus::Normal } else { UserStatus::Disabled };
        let change = UpdateUserRequest {
            user_id: user.id.clone(),
            status: status.into(),
            update_mask: vec!["status".to_owned()],
            ..UpdateUserRequest::default()
        };
        let mut repo = UserServiceClient::new(self.parts.repo.clone());
        let changed = answer(repo.update_user(call(change)).await)?;
        if !enabled {
            self.end_logins(&user.id).await?;
        }
        tracing::info!(user = %user.id, enabled, "an operator changed an account");
        Ok(Outcome::Account(account(&changed.user.unwrap_or(user))))
    }

    /// Sets a password and ends all logins.
    pub(super) async fn reset_password(&self, who: &Who, password: &str) -> Result<Outcome, String> {
        let user = self.user(who).await?;
        if user.is_guest {
            return Err(format!("{} is a guest: guests have no password", user.username));
        }
        let change = UpdateUserRequest {
            user_id: user.id.clone(),
            password_hash: self.hash(password).await?,
            update_mask: vec!["password_hash".to_owned()],
            ..UpdateUserRequest::default()
        };
        let mut repo = UserServiceClient::new(self.parts.repo.clone());
        answer(repo.update_user(call(change)).await)?;
        self.end_logins(&user.id).await?;
        tracing::info!(user = %user.id, "an operator reset a password");
        Ok(Outcome::Account(account(&user)))
    }

    async fn end_logins(&self, user_id: &str) -> Result<(), String> {
        let mut repo = TokenServiceClient::new(self.parts.repo.clone());
        answer(repo.revoke_user(call(RevokeUserRequest { user_id: user_id.to_owned() })).await).map(drop)
    }

    /// Hashes on a thread that may be busy.
    pub(super) async fn hash(&self, password: &str) -> Result<String, String> {
        let (password, cost) = (password.to_owned(), self.config.auth.bcrypt_cost);
        let hashed = tokio::task::spawn_blocking(move || gochat_logic::hash_password(&password, cost));
        let hashed = hashed.await.map_err(|error| error.to_string())?;
        hashed.map_err(|failure| format!("this password is not taken: {}", failure.message))
    }

    /// The account that is meant; one that was deleted is none.
    pub(super) async fn user(&self, who: &Who) -> Result<User, String> {
        let mut repo = UserServiceClient::new(self.parts.repo.clone());
        let found = match who {
            Who::Name(username) => {
                let by_name = GetUserByUsernameRequest { username: username.clone() };
                repo.get_user_by_username(call(by_name)).await.map(|found| found.into_inner().user)
            }
            Who::Id(user_id) => {
                let by_id = GetUserRequest { user_id: user_id.clone() };
                repo.get_user(call(by_id)).await.map(|found| found.into_inner().user)
            }
        };
        let user = found.map_err(|status| match who {
            Who::Name(name) if status.code() == tonic::Code::NotFound => {
                format!("there is no user {name:?}: `gochat user list --prefix` finds names, `--id` takes an id")
            }
            Who::Id(id) if status.code() == tonic::Code::NotFound => format!("there is no user with the id {id}"),
            _ => status.message().to_owned(),
        })?;
        match user {
            Some(user) if user.status() == UserStatus::Deleted => Err(format!("the account {} was deleted", user.id)),
            Some(user) => Ok(user),
            None => Err("the store answered without a user".to_owned()),
        }
    }
}

pub(super) fn account(user: &User) -> Account {
    let status = match user.status() {
        UserStatus::Normal => "normal",
        UserStatus::Deleted => "deleted",
        UserStatus::Disabled | UserStatus::Unspecified => "disabled",
    };
    Account {
        id: user.id.clone(),
        username: user.username.clone(),
        status: status.to_owned(),
        guest: user.is_guest,
        created_at: user.created_at,
    }
}

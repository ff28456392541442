//! Proof by password: who somebody is, and that it is still the same person.
//!
//! Owns that unknown names cost and answer what wrong passwords do. Never sees a stored hash: repo verifies.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::User;
use gochat_proto::im::repo::v1 as repo;
use tonic::Status;

use crate::logins::usable;
use crate::names;
use crate::passwords::Passwords;
use crate::repo::{Repo, ask};

/// Checks passwords.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) repo: Repo,
    pub(crate) passwords: Passwords,
}

impl Credentials {
    /// The user behind a name and password.
    pub(crate) async fn user(&self, username: &str, password: String) -> Result<User, Status> {
        let user = match self.repo.user_by_name(username).await? {
            Some(user) if !user.is_guest && password.len() <= names::PASSWORD_BYTES_MAX => user,
            Some(_) | None => {
                self.passwords.waste(password).await?;
                return Err(ErrorCode::AuthInvalidCredentials.into());
            }
        };
        self.check(&user, password).await?;
        // Only who knows the password learns that the account is locked.
        usable(&user)?;
        Ok(user)
    }

    /// AUTH_INVALID_CREDENTIALS unless it is the user's password.
    pub(crate) async fn check(&self, user: &User, password: String) -> Result<(), Status> {
        if password.len() > names::PASSWORD_BYTES_MAX {
            return Err(ErrorCode::AuthInvalidCredentials.into());
        }
        let request = ask(repo::VerifyPasswordRequest { user_id: user.id.clone(), password });
        if self.repo.users.clone().verify_password(request).await?.into_inner().valid {
            Ok(())
        } else {
            Err(ErrorCode::AuthInvalidCredentials.into())
        }
    }
}

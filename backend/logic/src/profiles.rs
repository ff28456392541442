//! The UserService: what a user sees and changes of the own account, and sees of others (spec 01 §4.2).
//!
//! Owns that others see a few fields only. Never searches.

use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::UserStatus;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::logic::v1::user_service_server::UserService;
use gochat_proto::im::repo::v1 as repo;
use tonic::{Request, Response, Status, async_trait};

use crate::credentials::Credentials;
use crate::logins::{Logins, check_client_info, usable};
use crate::names;
use crate::repo::{Repo, ask, light};
use crate::signals::Signals;
use crate::statuses::Statuses;

/// Users looked up in one call.
const USERS_MAX: usize = 100;

/// The UserService of logic.
#[derive(Clone)]
pub struct Profiles {
    pub(crate) repo: Repo,
    pub(crate) signals: Signals,
    pub(crate) logins: Logins,
    pub(crate) credentials: Credentials,
    pub(crate) statuses: Statuses,
}

#[async_trait]
impl UserService for Profiles {
    async fn get_profile(
        &self,
        request: Request<api::GetProfileRequest>,
    ) -> Result<Response<api::GetProfileResponse>, Status> {
        let user = self.repo.user(&request.into_inner().user_id).await?;
        Ok(Response::new(api::GetProfileResponse { user: Some(user) }))
    }

    async fn get_users_info(
        &self,
        request: Request<api::GetUsersInfoRequest>,
    ) -> Result<Response<api::GetUsersInfoResponse>, Status> {
        let user_ids = request.into_inner().user_ids;
        if user_ids.len() > USERS_MAX {
            return Err(ErrorCode::InvalidParams.into());
        }
        let users = self.repo.users(user_ids).await?;
        let users = users.iter().filter(|u| u.status() != UserStatus::Deleted).map(light).collect();
        Ok(Response::new(api::GetUsersInfoResponse { users }))
    }

    async fn update_profile(
        &self,
        request: Request<api::UpdateProfileRequest>,
    ) -> Result<Response<api::UpdateProfileResponse>, Status> {
        let request = request.into_inner();
        let is_known = |field: &String| field == "avatar_url";
        if request.update_mask.is_empty() || !request.update_mask.iter().all(is_known) {
            return Err(ErrorCode::InvalidParams.into());
        }
        names::avatar_url(&request.avatar_url)?;
        self.repo.registered(&request.user_id).await?;
        let update = ask(repo::UpdateUserRequest {
            user_id: request.user_id,
            avatar_url: request.avatar_url,
            update_mask: vec!["avatar_url".to_owned()],
            ..repo::UpdateUserRequest::default()
        });
        let user = self.repo.users.clone().update_user(update).await?.into_inner().user;
        Ok(Response::new(api::UpdateProfileResponse { user }))
    }

    async fn change_password(
        &self,
        request: Request<api::ChangePasswordRequest>,
    ) -> Result<Response<api::ChangePasswordResponse>, Status> {
        let request = request.into_inner();
        check_client_info(&request.client_info)?;
        let user = self.repo.registered(&request.user_id).await?;
        usable(&user)?;
        names::password(&request.new_password)?;
        self.credentials.check(&user, request.old_password).await?;
        let update = ask(repo::UpdateUserRequest {
            user_id: request.user_id.clone(),
            password_hash: self.credentials.passwords.hash(request.new_password).await?,
            update_mask: vec!["password_hash".to_owned()],
            ..repo::UpdateUserRequest::default()
        });
        self.repo.users.clone().update_user(update).await?;
        // That has ended every login and voided every token there was.
        let version = self.repo.token_version(&request.user_id).await?;
        let pair = self.logins.begin(&user, request.client_info).await?;
        // The caller's own session goes too: it comes back with the fresh pair.
        let is_older = |session: &repo::Session| session.token_version < version;
        self.signals.kick(&request.user_id, CloseCode::TokenInvalid, is_older).await;
        Ok(Response::new(api::ChangePasswordResponse {
            success: true,
            access_token: pair.access_token,
            refresh_token: pair.refresh_token,
            expires_in: pair.expires_at,
        }))
    }

    async fn get_online_statuses(
        &self,
        request: Request<api::GetOnlineStatusesRequest>,
    ) -> Result<Response<api::GetOnlineStatusesResponse>, Status> {
        let request = request.into_inner();
        let statuses = self.statuses.of(&request.requester_id, request.user_ids).await?;
        Ok(Response::new(api::GetOnlineStatusesResponse { statuses }))
    }
}

//! Profiles as users may see them (spec 03 §3.2).
//!
//! Never shows more of another user than the light form.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::UserStatus;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::logic::v1::user_service_server::UserService;
use tonic::{Request, Response, Status, async_trait};

use crate::repo::{Repo, light};

/// Users asked about in one call at most.
const USERS_MAX: usize = 100;

/// The UserService of logic.
#[derive(Clone)]
pub struct Profiles {
    pub(crate) repo: Repo,
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
}

//! UserService: accounts. Hashes are made by logic; here they are only compared, on a bounded blocking pool.

use super::{convert, fail};
use crate::directory::Directory;
use crate::services::revoked::RevokedUsers;
use crate::store::Store;
use crate::store::user::{NewUser, Status as Standing, User, UserChange};
use gochat_infra::clock::Clock;
use gochat_infra::uid::Snowflake;
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::user_service_server::UserService;
use gochat_proto::im::repo::v1::{
    CreateUserRequest, CreateUserResponse, GetUserByUsernameRequest, GetUserByUsernameResponse, GetUserRequest,
    GetUserResponse, GetUsersRequest, GetUsersResponse, UpdateUserRequest, UpdateUserResponse, VerifyPasswordRequest,
    VerifyPasswordResponse,
};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

const USERS_MAX: usize = 500;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) revoked: Arc<RevokedUsers>,
    pub(crate) uid: Arc<Snowflake>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Password checks that run at the same time.
    pub(crate) checks: Arc<Semaphore>,
}

impl Users {
    async fn user(&self, id: i64) -> Result<User, Status> {
        let found = self.store.users(&[id]).await.map_err(fail::store)?;
        found.into_iter().next().ok_or_else(|| ErrorCode::UserNotFound.into())
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        let request = request.into_inner();
        if request.username.is_empty() {
            return Err(fail::invalid("username is empty"));
        }
        let id = self.uid.next().map_err(|e| Failure::new(ErrorCode::ServiceUnavailable, e.to_string()))?;
        let new = NewUser {
            id,
            username: request.username,
            password_hash: request.password_hash,
            avatar_url: request.avatar_url,
            is_guest: request.is_guest,
            created_at_ms: self.clock.unix_ms(),
        };
        let user = self.store.create_user(new).await.map_err(fail::store)?;
        Ok(Response::new(CreateUserResponse { user: Some(convert::user(&user)) }))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let user = self.user(convert::id(&request.into_inner().user_id, "user_id")?).await?;
        Ok(Response::new(GetUserResponse { user: Some(convert::user(&user)) }))
    }

    async fn get_users(&self, request: Request<GetUsersRequest>) -> Result<Response<GetUsersResponse>, Status> {
        let request = request.into_inner();
        if request.user_ids.len() > USERS_MAX {
            return Err(fail::invalid("at most 500 user_ids"));
        }
        let mut ids = convert::ids(&request.user_ids, "user_ids")?;
        ids.sort_unstable();
        ids.dedup();
        let users = self.store.users(&ids).await.map_err(fail::store)?;
        let missing = ids.iter().filter(|id| !users.iter().any(|u| u.id == **id));
        let missing_ids = missing.map(i64::to_string).collect();
        Ok(Response::new(GetUsersResponse { users: users.iter().map(convert::user).collect(), missing_ids }))
    }

    async fn get_user_by_username(
        &self,
        request: Request<GetUserByUsernameRequest>,
    ) -> Result<Response<GetUserByUsernameResponse>, Status> {
        let found = self.store.user_by_name(&request.into_inner().username).await.map_err(fail::store)?;
        let user = found.ok_or_else(|| Status::from(ErrorCode::UserNotFound))?;
        Ok(Response::new(GetUserByUsernameResponse { user: Some(convert::user(&user)) }))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<UpdateUserResponse>, Status> {
        let request = request.into_inner();
        let id = convert::id(&request.user_id, "user_id")?;
        let status = request.status();
        let mut change = UserChange::default();
        for field in request.update_mask {
            match field.as_str() {
                "avatar_url" => change.avatar_url = Some(request.avatar_url.clone()),
                "password_hash" => change.password_hash = Some(request.password_hash.clone()),
                "status" => {
                    let standing =
                        convert::standing_of(status).ok_or_else(|| fail::invalid("status is unspecified"))?;
                    change.status = Some(standing);
                }
                other => return Err(fail::invalid(format!("update_mask names an unknown field: {other}"))),
            }
        }
        let user = self.store.update_user(id, change, self.clock.unix_ms()).await.map_err(fail::store)?;
        self.directory.forget_user(id);
        if user.status != Standing::Normal {
            self.revoked.add(id);
        }
        Ok(Response::new(UpdateUserResponse { user: Some(convert::user(&user)) }))
    }

    async fn verify_password(
        &self,
        request: Request<VerifyPasswordRequest>,
    ) -> Result<Response<VerifyPasswordResponse>, Status> {
        let request = request.into_inner();
        let id = convert::id(&request.user_id, "user_id")?;
        let hash = self.store.password_hash(id).await.map_err(fail::store)?;
        let hash = hash.ok_or_else(|| Status::from(ErrorCode::UserNotFound))?;
        let _permit = self.checks.acquire().await.map_err(|e| Status::unavailable(e.to_string()))?;
        // An empty or foreign hash is never the right one.
        let check = tokio::task::spawn_blocking(move || bcrypt::verify(&request.password, &hash).unwrap_or(false));
        let valid = check.await.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(VerifyPasswordResponse { valid }))
    }
}

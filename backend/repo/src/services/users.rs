//! UserService: accounts. Hashes are made by logic; here they are only compared, on a bounded blocking pool.
//!
//! A deletion is several transactions, each with its events; repeating it goes on where it stopped.

use super::finish::finish;
use super::sessions::Sessions;
use super::{convert, fail};
use crate::directory::Directory;
use crate::services::revoked::RevokedUsers;
use crate::store::Store;
use crate::store::group::RemoveMember;
use crate::store::user::{Membership, NewUser, Status as Standing, User, UserChange};
use crate::store::{Noun, StoreError};
use gochat_infra::clock::Clock;
use gochat_infra::uid::Snowflake;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::UserStatus;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::user_service_server::UserService;
use gochat_proto::im::repo::v1::{
    CleanupGuestsRequest, CleanupGuestsResponse, CreateUserRequest, CreateUserResponse, DeleteUserRequest,
    DeleteUserResponse, GetUserByUsernameRequest, GetUserByUsernameResponse, GetUserRequest, GetUserResponse,
    GetUsersRequest, GetUsersResponse, ListUsersRequest, ListUsersResponse, SearchUsersByUsernameRequest,
    SearchUsersByUsernameResponse, UpdateUserRequest, UpdateUserResponse, VerifyPasswordRequest,
    VerifyPasswordResponse,
};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

const USERS_MAX: usize = 500;
const SEARCH_CHARS_MAX: usize = 50;
const SEARCH_DEFAULT: u32 = 10;
const SEARCH_MAX: u32 = 20;
const LIST_DEFAULT: u32 = 50;
const LIST_MAX: u32 = 500;
const CLEANUP_DEFAULT: u32 = 100;
const CLEANUP_MAX: u32 = 500;
/// Rounds of leaving groups: each ends those that were there at its start, and more than a few mean that somebody adds them.
const LEAVING_ROUNDS: usize = 10;
const GROUP: i32 = 2;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) revoked: Arc<RevokedUsers>,
    pub(crate) uid: Arc<Snowflake>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sessions: Sessions,
    /// Password checks that run at the same time.
    pub(crate) checks: Arc<Semaphore>,
}

impl Users {
    async fn user(&self, id: i64) -> Result<User, Status> {
        let found = self.store.users(&[id]).await.map_err(fail::store)?;
        found.into_iter().next().ok_or_else(|| ErrorCode::UserNotFound.into())
    }

    /// Takes the person out of an account and the account out of all groups.
    async fn delete(&self, id: i64) -> Result<(), Status> {
        let deleted = self.store.delete_user(id, self.clock.unix_ms()).await;
        self.directory.forget_user(id);
        self.revoked.add(id);
        deleted.map_err(fail::store)?;
        for _ in 0..LEAVING_ROUNDS {
            let memberships = self.store.memberships_to_end(id).await.map_err(fail::store)?;
            if memberships.is_empty() {
                return Ok(());
            }
            for membership in memberships {
                let ended = self.end_membership(id, &membership).await;
                match membership.kind {
                    GROUP => self.directory.forget_conversation(&membership.conversation),
                    _ => self.directory.forget_world_member(id),
                }
                match ended {
                    Ok(()) => {}
                    // Somebody else changed it meanwhile: the next round sees how it stands.
                    Err(
                        StoreError::Missing(Noun::Member | Noun::Conversation)
                        | StoreError::Dissolved
                        | StoreError::NotOwner
                        | StoreError::CannotLeave,
                    ) => {}
                    Err(error) => return Err(fail::store(error)),
                }
            }
        }
        Err(Failure::new(ErrorCode::ServiceUnavailable, "the account is still being added to groups").into())
    }

    async fn end_membership(&self, user: i64, membership: &Membership) -> Result<(), StoreError> {
        let (conversation, now_ms) = (&membership.conversation, self.clock.unix_ms());
        if membership.kind == GROUP && membership.is_owner {
            match self.store.successor(conversation, user).await? {
                Some(heir) => self.store.transfer_ownership(conversation, user, heir, now_ms).await?,
                None => return self.store.dissolve(conversation, user, REASON_DELETED, now_ms).await,
            }
        }
        let remove = RemoveMember {
            conversation: conversation.clone(),
            user,
            operator: user,
            reason: REASON_DELETED.to_owned(),
            now_ms,
        };
        self.store.remove_member(remove).await.map(drop)
    }
}

const REASON_DELETED: &str = "account deleted";

/// A size asked for; one out of bounds is bent into them.
fn size(asked: i32, default: u32, max: u32) -> u32 {
    match u32::try_from(asked) {
        Ok(0) | Err(_) => default,
        Ok(size) => size.min(max),
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
        if status == UserStatus::Deleted {
            return Err(fail::invalid("DeleteUser deletes an account"));
        }
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
        let ends_logins = change.password_hash.is_some() || change.status.is_some_and(|s| s != Standing::Normal);
        let this = self.clone();
        let work = async move {
            let changed = this.store.update_user(id, change, this.clock.unix_ms()).await;
            this.directory.forget_user(id);
            if ends_logins {
                this.revoked.add(id);
            }
            changed.map_err(fail::store)
        };
        let user = finish(work).await?;
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

    async fn search_users_by_username(
        &self,
        request: Request<SearchUsersByUsernameRequest>,
    ) -> Result<Response<SearchUsersByUsernameResponse>, Status> {
        let request = request.into_inner();
        if !(1..=SEARCH_CHARS_MAX).contains(&request.query.chars().count()) {
            return Err(fail::invalid("query has 1 to 50 characters"));
        }
        let searcher = match request.exclude_user_id.is_empty() {
            true => 0,
            false => convert::id(&request.exclude_user_id, "exclude_user_id")?,
        };
        let limit = size(request.limit, SEARCH_DEFAULT, SEARCH_MAX);
        let found = self.store.search_users(&request.query, searcher, limit).await.map_err(fail::store)?;
        Ok(Response::new(SearchUsersByUsernameResponse { users: found.iter().map(convert::user).collect() }))
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<DeleteUserResponse>, Status> {
        let id = convert::id(&request.into_inner().user_id, "user_id")?;
        let this = self.clone();
        finish(async move { this.delete(id).await }).await?;
        Ok(Response::new(DeleteUserResponse { success: true }))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let request = request.into_inner();
        let after = match request.after_user_id.is_empty() {
            true => 0,
            false => convert::id(&request.after_user_id, "after_user_id")?,
        };
        let limit = size(request.limit, LIST_DEFAULT, LIST_MAX);
        let found = self.store.list_users(after, &request.name_prefix, limit + 1).await.map_err(fail::store)?;
        let has_more = found.len() > limit as usize;
        let users = found.iter().take(limit as usize).map(convert::user).collect();
        Ok(Response::new(ListUsersResponse { users, has_more }))
    }

    async fn cleanup_guests(
        &self,
        request: Request<CleanupGuestsRequest>,
    ) -> Result<Response<CleanupGuestsResponse>, Status> {
        let request = request.into_inner();
        let before_ms = request.inactive_before.max(0).saturating_mul(1000);
        let limit = size(request.batch_size, CLEANUP_DEFAULT, CLEANUP_MAX);
        for user in self.store.unfinished_deletions(limit).await.map_err(fail::store)? {
            self.delete(user).await?;
        }
        let guests = self.store.inactive_guests(before_ms, limit).await.map_err(fail::store)?;
        let sessions = self.sessions.of(&guests).await.map_err(fail::cache)?;
        let (online, gone): (Vec<_>, Vec<_>) = guests.into_iter().zip(sessions).partition(|(_, s)| !s.is_empty());
        // They would be found first again and again.
        let online: Vec<i64> = online.into_iter().map(|(user, _)| user).collect();
        if !online.is_empty() {
            self.store.touch_users(&online, self.clock.unix_ms()).await.map_err(fail::store)?;
        }
        let cleaned_count = i64::try_from(gone.len()).unwrap_or(i64::MAX);
        for (guest, _) in gone {
            self.delete(guest).await?;
        }
        Ok(Response::new(CleanupGuestsResponse { cleaned_count }))
    }
}

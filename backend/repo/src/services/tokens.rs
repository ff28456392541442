//! TokenService: refresh tokens and revocations, durable (H2).

use super::finish::finish;
use super::{convert, fail};
use crate::directory::Directory;
use crate::services::revoked::RevokedUsers;
use crate::store::Store;
use crate::store::token::{ConsumeToken, Consumed, Family as Login, NewRefreshToken, TokenOwner};
use gochat_infra::clock::Clock;
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1::consume_refresh_token_response::Outcome;
use gochat_proto::im::repo::v1::token_service_server::TokenService;
use gochat_proto::im::repo::v1::{
    BlacklistRequest, BlacklistResponse, ConsumeRefreshTokenRequest, ConsumeRefreshTokenResponse, Family,
    GetTokenVersionRequest, GetTokenVersionResponse, IsBlacklistedRequest, IsBlacklistedResponse, ListFamiliesRequest,
    ListFamiliesResponse, ListRevocationsRequest, ListRevocationsResponse, Revocation, RevokeFamilyRequest,
    RevokeFamilyResponse, RevokeUserRequest, RevokeUserResponse, StoreRefreshTokenRequest, StoreRefreshTokenResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

const REVOCATIONS_PAGE_MAX: u32 = 1000;
const FAMILIES_MAX: u32 = 100;
const FAMILY_BYTES_MAX: usize = 128;
const HASHES_MAX: usize = 1000;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) revoked: Arc<RevokedUsers>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Tokens {
    fn now(&self) -> i64 {
        convert::seconds(self.clock.unix_ms())
    }
}

fn checked_family(family: &str) -> Result<(), Status> {
    match family.len() {
        1..=FAMILY_BYTES_MAX => Ok(()),
        _ => Err(fail::invalid("family_id has 1 to 128 bytes")),
    }
}

fn checked_hash(hash: &str) -> Result<(), Status> {
    let hex = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex { Ok(()) } else { Err(fail::invalid("a token hash is 64 lowercase hexadecimal digits")) }
}

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn store_refresh_token(
        &self,
        request: Request<StoreRefreshTokenRequest>,
    ) -> Result<Response<StoreRefreshTokenResponse>, Status> {
        let request = request.into_inner();
        checked_hash(&request.token_hash)?;
        checked_family(&request.family_id)?;
        let now = self.now();
        let token = NewRefreshToken {
            user: convert::id(&request.user_id, "user_id")?,
            token_hash: request.token_hash,
            family: request.family_id,
            expires_at: now + i64::from(request.ttl_seconds),
            client_info: request.client_info,
            now,
        };
        self.store.store_refresh_token(token).await.map_err(fail::store)?;
        Ok(Response::new(StoreRefreshTokenResponse { success: true }))
    }

    async fn consume_refresh_token(
        &self,
        request: Request<ConsumeRefreshTokenRequest>,
    ) -> Result<Response<ConsumeRefreshTokenResponse>, Status> {
        let request = request.into_inner();
        checked_hash(&request.token_hash)?;
        checked_hash(&request.successor_hash)?;
        let now = if request.now > 0 { request.now } else { self.now() };
        let consume = ConsumeToken {
            token_hash: request.token_hash,
            client_info: request.client_info,
            now,
            grace_seconds: i64::from(request.grace_seconds),
            successor_hash: request.successor_hash,
            successor_expires_at: now + i64::from(request.successor_ttl_seconds),
            replay: request.replay,
        };
        let answer = |outcome: Outcome, owner: Option<TokenOwner>, replay| {
            let (user_id, family_id) = owner.map_or_else(Default::default, |o| (o.user.to_string(), o.family));
            ConsumeRefreshTokenResponse { user_id, family_id, outcome: outcome.into(), replay }
        };
        let empty = bytes::Bytes::new();
        Ok(Response::new(match self.store.consume_refresh_token(consume).await.map_err(fail::store)? {
            Consumed::First(owner) => answer(Outcome::First, Some(owner), empty),
            Consumed::Grace(owner, replay) => answer(Outcome::Grace, Some(owner), replay),
            Consumed::Reused(owner) => {
                tracing::warn!(user = owner.user, family = %owner.family, "a used refresh token was shown: family revoked");
                self.revoked.add(owner.user);
                answer(Outcome::Reused, Some(owner), empty)
            }
            Consumed::Unknown => answer(Outcome::Unknown, None, empty),
            Consumed::Expired => answer(Outcome::Expired, None, empty),
        }))
    }

    async fn revoke_family(
        &self,
        request: Request<RevokeFamilyRequest>,
    ) -> Result<Response<RevokeFamilyResponse>, Status> {
        let request = request.into_inner();
        checked_family(&request.family_id)?;
        let user = if request.user_id.is_empty() { 0 } else { convert::id(&request.user_id, "user_id")? };
        let this = self.clone();
        let work = async move {
            let ended = this.store.revoke_family(&request.family_id, user, this.now()).await.map_err(fail::store)?;
            if let Some((owner, _)) = ended {
                this.revoked.add(owner);
            }
            Ok(ended)
        };
        let revoked_count = finish(work).await?.map_or(0, |(_, unused)| i64::try_from(unused).unwrap_or(i64::MAX));
        Ok(Response::new(RevokeFamilyResponse { revoked_count }))
    }

    async fn list_families(
        &self,
        request: Request<ListFamiliesRequest>,
    ) -> Result<Response<ListFamiliesResponse>, Status> {
        let user = convert::id(&request.into_inner().user_id, "user_id")?;
        let found = self.store.families(user, self.now(), FAMILIES_MAX).await.map_err(fail::store)?;
        let family = |login: Login| Family {
            family_id: login.id,
            client_info: login.client_info,
            created_at: login.created_at,
            refreshed_at: login.refreshed_at,
            expires_at: login.expires_at,
        };
        Ok(Response::new(ListFamiliesResponse { families: found.into_iter().map(family).collect() }))
    }

    async fn revoke_user(&self, request: Request<RevokeUserRequest>) -> Result<Response<RevokeUserResponse>, Status> {
        let user = convert::id(&request.into_inner().user_id, "user_id")?;
        let this = self.clone();
        let work = async move {
            let ended = this.store.revoke_user(user, this.now()).await;
            this.directory.forget_user(user);
            this.revoked.add(user);
            ended.map_err(fail::store)
        };
        let (revoked, min_version) = finish(work).await?;
        let revoked_count = i64::try_from(revoked).unwrap_or(i64::MAX);
        Ok(Response::new(RevokeUserResponse { revoked_count, min_version }))
    }

    async fn blacklist(&self, request: Request<BlacklistRequest>) -> Result<Response<BlacklistResponse>, Status> {
        let request = request.into_inner();
        checked_hash(&request.token_hash)?;
        let now = self.now();
        let expires_at = now + i64::from(request.ttl_seconds);
        self.store.blacklist(&request.token_hash, expires_at, now).await.map_err(fail::store)?;
        Ok(Response::new(BlacklistResponse { success: true }))
    }

    async fn is_blacklisted(
        &self,
        request: Request<IsBlacklistedRequest>,
    ) -> Result<Response<IsBlacklistedResponse>, Status> {
        let hashes = request.into_inner().token_hashes;
        if hashes.len() > HASHES_MAX {
            return Err(fail::invalid("at most 1000 token_hashes"));
        }
        let blacklisted = self.store.blacklisted(&hashes, self.now()).await.map_err(fail::store)?;
        Ok(Response::new(IsBlacklistedResponse { blacklisted }))
    }

    async fn list_revocations(
        &self,
        request: Request<ListRevocationsRequest>,
    ) -> Result<Response<ListRevocationsResponse>, Status> {
        let request = request.into_inner();
        let limit = u32::try_from(request.limit).unwrap_or(0).clamp(1, REVOCATIONS_PAGE_MAX);
        let found = self.store.revocations(request.after_id, limit, self.now()).await.map_err(fail::store)?;
        let entry = |r: crate::store::token::Revocation| Revocation {
            id: r.id,
            token_hash: r.token_hash,
            user_id: convert::optional_id(r.user),
            min_version: r.min_version,
            expires_at: r.expires_at,
        };
        Ok(Response::new(ListRevocationsResponse { entries: found.into_iter().map(entry).collect() }))
    }

    async fn get_token_version(
        &self,
        request: Request<GetTokenVersionRequest>,
    ) -> Result<Response<GetTokenVersionResponse>, Status> {
        let id = convert::id(&request.into_inner().user_id, "user_id")?;
        let found = self.store.users(&[id]).await.map_err(fail::store)?;
        let user = found.first().ok_or_else(|| Status::from(ErrorCode::UserNotFound))?;
        Ok(Response::new(GetTokenVersionResponse { version: user.token_version }))
    }
}

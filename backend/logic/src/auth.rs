//! Accounts and tokens: register, log in, refresh, log out, validate (spec 06 §1).
//!
//! Owns who gets a token and when one is void. Never stores or verifies a password hash itself: repo does.

use std::sync::Arc;

use gochat_infra::clock::Clock;
use gochat_infra::token::{Claims, TokenError, TokenKind, token_hash};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{User, UserStatus};
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::logic::v1::auth_service_server::AuthService;
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::im::repo::v1::consume_refresh_token_response::Outcome;
use tonic::{Request, Response, Status, async_trait};

use crate::config::AuthConfig;
use crate::names;
use crate::passwords::Passwords;
use crate::repo::{Repo, ask};
use crate::signals::Signals;
use crate::tokens::{Pair, PairClaims, Tokens};

/// Characters of `client_info` at most.
const CLIENT_INFO_CHARS_MAX: usize = 255;

/// The AuthService of logic.
#[derive(Clone)]
pub struct Auth {
    repo: Repo,
    signals: Signals,
    tokens: Tokens,
    passwords: Passwords,
    clock: Arc<dyn Clock>,
    refresh_ttl_s: i64,
    refresh_grace_s: i32,
}

impl Auth {
    pub(crate) fn new(
        repo: Repo,
        signals: Signals,
        clock: Arc<dyn Clock>,
        config: &AuthConfig,
    ) -> Result<Auth, TokenError> {
        Ok(Auth {
            repo,
            signals,
            tokens: Tokens::new(config)?,
            passwords: Passwords::new(config.bcrypt_cost, config.hashes_max),
            clock,
            refresh_ttl_s: config.refresh_ttl_s,
            refresh_grace_s: config.refresh_grace_s,
        })
    }

    fn now(&self) -> i64 {
        self.clock.unix_ms() / 1_000
    }

    /// The user behind a name and password; unknown names cost and answer what wrong passwords do.
    async fn credentials(&self, username: &str, password: String) -> Result<User, Status> {
        let user = match self.repo.user_by_name(username).await? {
            Some(user) if !user.is_guest && password.len() <= names::PASSWORD_BYTES_MAX => user,
            Some(_) | None => {
                self.passwords.waste(password).await?;
                return Err(ErrorCode::AuthInvalidCredentials.into());
            }
        };
        let request = ask(repo::VerifyPasswordRequest { user_id: user.id.clone(), password });
        if !self.repo.users.clone().verify_password(request).await?.into_inner().valid {
            return Err(ErrorCode::AuthInvalidCredentials.into());
        }
        // Only who knows the password learns that the account is locked.
        usable(&user)?;
        Ok(user)
    }

    /// The user of a valid, unrevoked access token.
    async fn validate(&self, token: &str) -> Result<(Claims, User), Status> {
        let claims = self.tokens.verify(token, TokenKind::Access, self.now())?;
        let hashes = ask(repo::IsBlacklistedRequest { token_hashes: vec![token_hash(token)] });
        let mut tokens = self.repo.tokens.clone();
        let (blacklisted, user, version) = futures::try_join!(
            tokens.is_blacklisted(hashes),
            self.repo.user(&claims.user_id),
            self.repo.token_version(&claims.user_id),
        )?;
        if blacklisted.into_inner().blacklisted.contains(&true) || claims.ver < version {
            return Err(ErrorCode::InvalidToken.into());
        }
        usable(&user)?;
        Ok((claims, user))
    }

    async fn rotate(&self, used: &str, claims: &Claims, client_info: String) -> Result<Pair, Status> {
        let (user, version) =
            futures::try_join!(self.repo.user(&claims.user_id), self.repo.token_version(&claims.user_id))
                .map_err(|status| gone_is_invalid(&status))?;
        usable(&user)?;
        if claims.ver < version {
            return Err(ErrorCode::InvalidToken.into());
        }
        let now = self.now();
        let successor = self.tokens.claims(&user, version, &claims.fam, now);
        let pair = self.tokens.sign(&successor)?;
        let request = ask(repo::ConsumeRefreshTokenRequest {
            token_hash: token_hash(used),
            client_info,
            now,
            grace_seconds: self.refresh_grace_s,
            successor_hash: token_hash(&pair.refresh_token),
            successor_ttl_seconds: ttl(self.refresh_ttl_s),
            replay: successor.to_replay()?,
        });
        let answer = self.repo.tokens.clone().consume_refresh_token(request).await?.into_inner();
        match answer.outcome() {
            Outcome::First => Ok(pair),
            Outcome::Grace => Ok(self.tokens.sign(&PairClaims::from_replay(&answer.replay)?)?),
            Outcome::Reused => {
                tracing::warn!(user_id = claims.user_id, family = claims.fam, "refresh token reused, family revoked");
                Err(ErrorCode::TokenReused.into())
            }
            Outcome::Expired => Err(ErrorCode::TokenExpired.into()),
            Outcome::Unknown | Outcome::Unspecified => Err(ErrorCode::InvalidToken.into()),
        }
    }

    async fn revoke_family(&self, family_id: String) -> Result<(), Status> {
        if family_id.is_empty() {
            return Ok(());
        }
        self.repo
            .tokens
            .clone()
            .revoke_family(ask(repo::RevokeFamilyRequest { family_id, user_id: String::new() }))
            .await
            .map(|_| ())
    }
}

#[async_trait]
impl AuthService for Auth {
    async fn register(
        &self,
        request: Request<api::RegisterRequest>,
    ) -> Result<Response<api::RegisterResponse>, Status> {
        let request = request.into_inner();
        let username = names::username(&request.username)?;
        names::password(&request.password)?;
        names::avatar_url(&request.avatar_url)?;
        if self.repo.user_by_name(username).await?.is_some() {
            return Err(ErrorCode::UserAlreadyExists.into());
        }
        let create = repo::CreateUserRequest {
            username: username.to_owned(),
            password_hash: self.passwords.hash(request.password).await?,
            avatar_url: request.avatar_url,
            is_guest: false,
        };
        let user = self.repo.users.clone().create_user(ask(create)).await?.into_inner().user;
        Ok(Response::new(api::RegisterResponse { user }))
    }

    async fn login(&self, request: Request<api::LoginRequest>) -> Result<Response<api::LoginResponse>, Status> {
        let request = request.into_inner();
        let username = request.username.trim();
        if username.is_empty() || request.password.is_empty() {
            return Err(ErrorCode::InvalidParams.into());
        }
        check_client_info(&request.client_info)?;
        let user = self.credentials(username, request.password).await?;
        let version = self.repo.token_version(&user.id).await?;
        let claims = self.tokens.claims(&user, version, &Tokens::new_family(), self.now());
        let pair = self.tokens.sign(&claims)?;
        let store = repo::StoreRefreshTokenRequest {
            token_hash: token_hash(&pair.refresh_token),
            user_id: user.id.clone(),
            family_id: claims.refresh.fam,
            ttl_seconds: ttl(self.refresh_ttl_s),
            client_info: request.client_info,
        };
        self.repo.tokens.clone().store_refresh_token(ask(store)).await?;
        Ok(Response::new(api::LoginResponse {
            access_token: pair.access_token,
            refresh_token: pair.refresh_token,
            expires_in: pair.expires_at,
            user: Some(user),
        }))
    }

    async fn refresh_token(
        &self,
        request: Request<api::RefreshTokenRequest>,
    ) -> Result<Response<api::RefreshTokenResponse>, Status> {
        let request = request.into_inner();
        check_client_info(&request.client_info)?;
        let claims = self.tokens.verify(&request.refresh_token, TokenKind::Refresh, self.now())?;
        let pair = self.rotate(&request.refresh_token, &claims, request.client_info).await?;
        Ok(Response::new(api::RefreshTokenResponse {
            access_token: pair.access_token,
            refresh_token: pair.refresh_token,
            expires_in: pair.expires_at,
        }))
    }

    async fn logout(&self, request: Request<api::LogoutRequest>) -> Result<Response<api::LogoutResponse>, Status> {
        let request = request.into_inner();
        let now = self.now();
        let claims = self.tokens.verify(&request.access_token, TokenKind::Access, now)?;
        if claims.user_id != request.user_id {
            return Err(ErrorCode::InvalidToken.into());
        }
        let hash = token_hash(&request.access_token);
        let blacklist = repo::BlacklistRequest { token_hash: hash.clone(), ttl_seconds: ttl(claims.exp - now) };
        self.repo.tokens.clone().blacklist(ask(blacklist)).await?;
        // A refresh token names its own family; another user's is none of ours.
        if let Ok(refresh) = self.tokens.verify(&request.refresh_token, TokenKind::Refresh, now)
            && refresh.user_id == claims.user_id
            && refresh.fam != claims.fam
        {
            self.revoke_family(refresh.fam).await?;
        }
        self.revoke_family(claims.fam).await?;
        self.signals.kick_token(&claims.user_id, &hash, CloseCode::LoggedOut).await;
        Ok(Response::new(api::LogoutResponse { success: true }))
    }

    async fn validate_token(
        &self,
        request: Request<api::ValidateTokenRequest>,
    ) -> Result<Response<api::ValidateTokenResponse>, Status> {
        let answer = match self.validate(&request.into_inner().access_token).await {
            Ok((claims, user)) => {
                api::ValidateTokenResponse { valid: true, user: Some(user), expires_at: claims.exp, error_code: 0 }
            }
            Err(status) => {
                let code = Failure::from_status(&gone_is_invalid(&status)).code;
                if !matches!(code, ErrorCode::InvalidToken | ErrorCode::TokenExpired | ErrorCode::UserDisabled) {
                    return Err(status);
                }
                api::ValidateTokenResponse { error_code: code.number(), ..api::ValidateTokenResponse::default() }
            }
        };
        Ok(Response::new(answer))
    }
}

fn usable(user: &User) -> Result<(), ErrorCode> {
    match user.status() {
        UserStatus::Disabled => Err(ErrorCode::UserDisabled),
        UserStatus::Deleted => Err(ErrorCode::InvalidToken),
        UserStatus::Normal | UserStatus::Unspecified => Ok(()),
    }
}

/// A token of a user who is no more is as good as no token.
fn gone_is_invalid(status: &Status) -> Status {
    match Failure::from_status(status).code {
        ErrorCode::UserNotFound => ErrorCode::InvalidToken.into(),
        _ => status.clone(),
    }
}

fn check_client_info(client_info: &str) -> Result<(), ErrorCode> {
    if client_info.chars().count() > CLIENT_INFO_CHARS_MAX { Err(ErrorCode::InvalidParams) } else { Ok(()) }
}

fn ttl(seconds: i64) -> i32 {
    i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)
}

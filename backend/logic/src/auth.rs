//! Accounts and tokens: register, come as a guest, log in, refresh, log out, validate, delete (spec 06 §1).
//!
//! Owns who gets a token and when one is void. Never stores or verifies a password hash itself: repo does.

use gochat_infra::token::{Claims, TokenKind, token_hash};
use gochat_infra::uid::uuid_v7;
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::User;
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::logic::v1::auth_service_server::AuthService;
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::im::repo::v1::consume_refresh_token_response::Outcome;
use tonic::{Request, Response, Status, async_trait};

use crate::config::RulesConfig;
use crate::credentials::Credentials;
use crate::logins::{Logins, check_client_info, ttl, usable};
use crate::names;
use crate::repo::{Repo, ask};
use crate::signals::Signals;
use crate::tokens::{Pair, PairClaims};
use crate::world::World;

/// Random names a guest is given until one is free.
const GUEST_NAMES_TRIED: usize = 5;

/// The AuthService of logic.
#[derive(Clone)]
pub struct Auth {
    pub(crate) repo: Repo,
    pub(crate) signals: Signals,
    pub(crate) logins: Logins,
    pub(crate) credentials: Credentials,
    pub(crate) world: World,
    pub(crate) rules: RulesConfig,
    pub(crate) refresh_grace_s: i32,
}

impl Auth {
    async fn rotate(&self, used: &str, claims: &Claims, client_info: String) -> Result<Pair, Status> {
        let (user, version) =
            futures::try_join!(self.repo.user(&claims.user_id), self.repo.token_version(&claims.user_id))
                .map_err(|status| gone_is_invalid(&status))?;
        usable(&user)?;
        if claims.ver < version {
            return Err(ErrorCode::InvalidToken.into());
        }
        let tokens = &self.logins.tokens;
        let now = self.logins.now();
        let successor = tokens.claims(&user, version, &claims.fam, now);
        let pair = tokens.sign(&successor)?;
        let request = ask(repo::ConsumeRefreshTokenRequest {
            token_hash: token_hash(used),
            client_info,
            now,
            grace_seconds: self.refresh_grace_s,
            successor_hash: token_hash(&pair.refresh_token),
            successor_ttl_seconds: ttl(tokens.refresh_ttl_s(&user)),
            replay: successor.to_replay()?,
        });
        let answer = self.repo.tokens.clone().consume_refresh_token(request).await?.into_inner();
        match answer.outcome() {
            Outcome::First => Ok(pair),
            Outcome::Grace => Ok(tokens.sign(&PairClaims::from_replay(&answer.replay)?)?),
            Outcome::Reused => {
                tracing::warn!(user_id = claims.user_id, family = claims.fam, "refresh token reused, family revoked");
                Err(ErrorCode::TokenReused.into())
            }
            Outcome::Expired => Err(ErrorCode::TokenExpired.into()),
            Outcome::Unknown | Outcome::Unspecified => Err(ErrorCode::InvalidToken.into()),
        }
    }

    async fn create(&self, username: String, password_hash: String, avatar_url: String) -> Result<User, Status> {
        let is_guest = password_hash.is_empty();
        let create = repo::CreateUserRequest { username, password_hash, avatar_url, is_guest };
        let user = self.repo.users.clone().create_user(ask(create)).await?.into_inner().user;
        user.ok_or_else(|| ErrorCode::InternalError.into())
    }

    /// A guest under the wished name when it is free, else under a random one.
    async fn create_guest(&self, wished: Option<String>) -> Result<User, Status> {
        let mut names = wished.into_iter().collect::<Vec<_>>();
        names.resize_with(names.len() + GUEST_NAMES_TRIED, || names::random_guest(random_bits()));
        for name in names {
            match self.create(name, String::new(), String::new()).await {
                Err(status) if Failure::from_status(&status).code == ErrorCode::UserAlreadyExists => {}
                made => return made,
            }
        }
        Err(ErrorCode::ServiceUnavailable.into())
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
        let password_hash = self.credentials.passwords.hash(request.password).await?;
        let user = self.create(username.to_owned(), password_hash, request.avatar_url).await?;
        if self.rules.world_auto_join_registered {
            self.world.auto_join(&user).await;
        }
        Ok(Response::new(api::RegisterResponse { user: Some(user) }))
    }

    async fn login(&self, request: Request<api::LoginRequest>) -> Result<Response<api::LoginResponse>, Status> {
        let request = request.into_inner();
        let username = request.username.trim();
        if username.is_empty() || request.password.is_empty() {
            return Err(ErrorCode::InvalidParams.into());
        }
        check_client_info(&request.client_info)?;
        let user = self.credentials.user(username, request.password).await?;
        let pair = self.logins.begin(&user, request.client_info).await?;
        Ok(Response::new(logged_in(pair, user)))
    }

    async fn guest_login(
        &self,
        request: Request<api::GuestLoginRequest>,
    ) -> Result<Response<api::LoginResponse>, Status> {
        let request = request.into_inner();
        if !self.rules.guests_enabled {
            return Err(ErrorCode::GuestDisabled.into());
        }
        check_client_info(&request.client_info)?;
        let wished = match request.guest_name.as_str() {
            "" => None,
            name => Some(names::guest(name)?),
        };
        let user = self.create_guest(wished).await?;
        if self.rules.world_auto_join_guests {
            self.world.auto_join(&user).await;
        }
        let pair = self.logins.begin(&user, request.client_info).await?;
        Ok(Response::new(logged_in(pair, user)))
    }

    async fn refresh_token(
        &self,
        request: Request<api::RefreshTokenRequest>,
    ) -> Result<Response<api::RefreshTokenResponse>, Status> {
        let request = request.into_inner();
        check_client_info(&request.client_info)?;
        let claims = self.logins.tokens.verify(&request.refresh_token, TokenKind::Refresh, self.logins.now())?;
        let pair = self.rotate(&request.refresh_token, &claims, request.client_info).await?;
        Ok(Response::new(api::RefreshTokenResponse {
            access_token: pair.access_token,
            refresh_token: pair.refresh_token,
            expires_in: pair.expires_at,
        }))
    }

    async fn logout(&self, request: Request<api::LogoutRequest>) -> Result<Response<api::LogoutResponse>, Status> {
        let request = request.into_inner();
        let now = self.logins.now();
        let claims = self.logins.tokens.verify(&request.access_token, TokenKind::Access, now)?;
        if claims.user_id != request.user_id {
            return Err(ErrorCode::InvalidToken.into());
        }
        let hash = token_hash(&request.access_token);
        let blacklist = repo::BlacklistRequest { token_hash: hash.clone(), ttl_seconds: ttl(claims.exp - now) };
        // A refresh token names its own family; another user's is none of ours.
        if let Ok(refresh) = self.logins.tokens.verify(&request.refresh_token, TokenKind::Refresh, now)
            && refresh.user_id == claims.user_id
            && refresh.fam != claims.fam
        {
            self.logins.end(&claims.user_id, &refresh.fam).await?;
        }
        self.logins.end(&claims.user_id, &claims.fam).await?;
        // Last: with it void, a logout that got only so far could not be asked for again, and its refresh tokens would live.
        self.repo.tokens.clone().blacklist(ask(blacklist)).await?;
        let of_login = |session: &repo::Session| {
            session.token_hash == hash || !claims.fam.is_empty() && session.family_id == claims.fam
        };
        let ended = self.signals.kick(&claims.user_id, CloseCode::LoggedOut, of_login).await;
        self.signals.logged_out(&claims.user_id, &ended).await;
        Ok(Response::new(api::LogoutResponse { success: true }))
    }

    async fn validate_token(
        &self,
        request: Request<api::ValidateTokenRequest>,
    ) -> Result<Response<api::ValidateTokenResponse>, Status> {
        let answer = match self.logins.validate(&request.into_inner().access_token).await {
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

    async fn list_logins(
        &self,
        request: Request<api::ListLoginsRequest>,
    ) -> Result<Response<api::ListLoginsResponse>, Status> {
        let families = self.logins.list(&request.into_inner().user_id).await?;
        let login = |family: repo::Family| api::Login {
            id: family.family_id,
            client_info: family.client_info,
            created_at: family.created_at,
            refreshed_at: family.refreshed_at,
            expires_at: family.expires_at,
        };
        Ok(Response::new(api::ListLoginsResponse { logins: families.into_iter().map(login).collect() }))
    }

    async fn revoke_login(
        &self,
        request: Request<api::RevokeLoginRequest>,
    ) -> Result<Response<api::RevokeLoginResponse>, Status> {
        let request = request.into_inner();
        if !self.logins.end(&request.user_id, &request.login_id).await? {
            return Err(ErrorCode::NotFound.into());
        }
        let of_login = |session: &repo::Session| session.family_id == request.login_id;
        let ended = self.signals.kick(&request.user_id, CloseCode::LoggedOut, of_login).await;
        self.signals.logged_out(&request.user_id, &ended).await;
        Ok(Response::new(api::RevokeLoginResponse { success: true }))
    }

    async fn delete_account(
        &self,
        request: Request<api::DeleteAccountRequest>,
    ) -> Result<Response<api::DeleteAccountResponse>, Status> {
        let request = request.into_inner();
        let user = self.repo.user(&request.user_id).await?;
        usable(&user)?;
        if !user.is_guest {
            self.credentials.check(&user, request.password).await?;
        }
        let delete = ask(repo::DeleteUserRequest { user_id: request.user_id.clone() });
        self.repo.users.clone().delete_user(delete).await?;
        let ended = self.signals.kick(&request.user_id, CloseCode::LoggedOut, |_| true).await;
        self.signals.logged_out(&request.user_id, &ended).await;
        Ok(Response::new(api::DeleteAccountResponse { success: true }))
    }
}

fn logged_in(pair: Pair, user: User) -> api::LoginResponse {
    api::LoginResponse {
        access_token: pair.access_token,
        refresh_token: pair.refresh_token,
        expires_in: pair.expires_at,
        user: Some(user),
    }
}

/// A token of a user who is no more is as good as no token.
fn gone_is_invalid(status: &Status) -> Status {
    match Failure::from_status(status).code {
        ErrorCode::UserNotFound => ErrorCode::InvalidToken.into(),
        _ => status.clone(),
    }
}

/// The random part of a UUID v7: its last 62 bits.
fn random_bits() -> u64 {
    let digits: String = uuid_v7().chars().filter(char::is_ascii_hexdigit).collect();
    digits.get(16..).and_then(|low| u64::from_str_radix(low, 16).ok()).unwrap_or_default() & (u64::MAX >> 2)
}

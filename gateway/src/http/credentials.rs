//! What is done with the password at hand: changing it, and ending the account. Never looks at a password itself.

use axum::extract::State;
use gochat_proto::im::logic::v1 as logic;
use utoipa::ToSchema;

use super::accounts::{CLIENT_INFO_CHARS_MAX, void};
use super::api::{Api, ask};
use super::auth::{Caller, Registered};
use super::envelope::{ApiError, Success};
use super::extract::{Body, Fields, FromFields};
use super::objects::TokenPair;

/// The old password and the new one.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ChangePassword {
    #[schema(format = Password)]
    old_password: String,
    /// 6 to 50 characters, at most 72 bytes.
    #[schema(format = Password)]
    new_password: String,
    /// As at a login.
    #[schema(max_length = 255)]
    client_info: Option<String>,
}

impl FromFields for ChangePassword {
    fn read(fields: &mut Fields) -> Result<ChangePassword, ApiError> {
        Ok(ChangePassword {
            old_password: fields.required_text("oldPassword")?,
            new_password: fields.required_text("newPassword")?,
            client_info: Some(fields.text_up_to("clientInfo", CLIENT_INFO_CHARS_MAX)?),
        })
    }
}

/// Change the password
///
/// Every login there was ends, this one too: go on with the pair that is answered.
#[utoipa::path(
    put, path = "/users/password", tag = "Accounts", operation_id = "changePassword",
    request_body = ChangePassword, responses((status = 200, body = TokenPair)),
    extensions(("x-guest" = json!("no")), ("x-limit" = json!("user_login_attempt")),
        ("x-errors" = json!(["AUTH_INVALID_CREDENTIALS", "WEAK_PASSWORD"])))
)]
pub(crate) async fn change_password(
    State(api): State<Api>,
    Registered(caller): Registered,
    Body(asked): Body<ChangePassword>,
) -> Result<Success<TokenPair>, ApiError> {
    api.limits.password(&caller.user_id)?;
    let request = logic::ChangePasswordRequest {
        user_id: caller.user_id.clone(),
        old_password: asked.old_password,
        new_password: asked.new_password,
        client_info: asked.client_info.unwrap_or_default(),
    };
    let pair = api.users.clone().change_password(ask(request)).await?.into_inner();
    api.verified.forget(&caller.user_id).await;
    void(&api, &caller).await;
    Ok(Success::ok(TokenPair {
        access_token: pair.access_token,
        refresh_token: pair.refresh_token,
        expires_in: pair.expires_in,
        user: None,
    }))
}

/// The password again.
#[derive(ToSchema)]
pub(crate) struct DeleteAccount {
    /// Required, but of guests, who have none.
    #[schema(format = Password)]
    password: Option<String>,
}

impl FromFields for DeleteAccount {
    fn read(fields: &mut Fields) -> Result<DeleteAccount, ApiError> {
        Ok(DeleteAccount { password: fields.text("password")? })
    }
}

/// Delete the account
///
/// For ever: logins and connections end, the name stays taken, messages stay where they were sent.
#[utoipa::path(
    delete, path = "/users/profile", tag = "Accounts", operation_id = "deleteAccount",
    request_body = Option<DeleteAccount>, responses((status = 200)),
    extensions(("x-guest" = json!("yes")), ("x-limit" = json!("user_login_attempt")),
        ("x-errors" = json!(["AUTH_INVALID_CREDENTIALS", "FORBIDDEN"])))
)]
pub(crate) async fn delete_account(
    State(api): State<Api>,
    caller: Caller,
    Body(asked): Body<DeleteAccount>,
) -> Result<Success<()>, ApiError> {
    api.limits.password(&caller.user_id)?;
    if asked.password.is_none() && !caller.claims.guest {
        return Err(ApiError::invalid("password", "is required"));
    }
    let password = asked.password.unwrap_or_default();
    let request = logic::DeleteAccountRequest { user_id: caller.user_id.clone(), password };
    api.auth.clone().delete_account(ask(request)).await?;
    api.verified.forget(&caller.user_id).await;
    void(&api, &caller).await;
    Ok(Success::done())
}

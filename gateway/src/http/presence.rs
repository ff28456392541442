//! Who is online, as the caller may see it (U4). Never decides whose presence may be seen: logic does.

use axum::extract::State;
use gochat_proto::common::v1 as wire;
use gochat_proto::ids::UserId;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, ask};
use super::auth::Caller;
use super::envelope::{ApiError, Success};
use super::extract::{Asked, FromQuery, QueryFields};

const IDS_MAX: usize = 100;

/// Whose presence.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatusQuery {
    /// 1 to 100 user ids, with commas between them.
    ids: String,
}

impl FromQuery for StatusQuery {
    fn read(query: &QueryFields) -> Result<StatusQuery, ApiError> {
        let ids = query.text("ids").filter(|ids| !ids.is_empty());
        ids.map(|ids| StatusQuery { ids: ids.to_owned() }).ok_or_else(|| ApiError::invalid("ids", "is required"))
    }
}

impl StatusQuery {
    fn ids(&self) -> Result<Vec<String>, ApiError> {
        let ids: Vec<String> = self.ids.split(',').map(str::to_owned).collect();
        if ids.len() > IDS_MAX {
            return Err(ApiError::invalid("ids", "are more than 100"));
        }
        match ids.iter().all(|id| id.parse::<UserId>().is_ok()) {
            true => Ok(ids),
            false => Err(ApiError::invalid("ids", "must be decimal ids with commas between them")),
        }
    }
}

/// Whether a user is online.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Presence {
    user_id: String,
    online: bool,
    /// Unix second; absent when never seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<i64>,
}

impl From<wire::OnlineStatus> for Presence {
    fn from(status: wire::OnlineStatus) -> Presence {
        let last_seen = (status.last_seen > 0).then_some(status.last_seen);
        Presence { user_id: status.user_id, online: status.is_online, last_seen }
    }
}

/// Presence of some users.
#[derive(Serialize, ToSchema)]
pub(crate) struct Statuses {
    /// Only of those whose presence the caller may see.
    statuses: Vec<Presence>,
}

/// See who is online
///
/// Answers for friends and for those who share a single chat or a group with the caller; others are left out.
#[utoipa::path(
    get, path = "/users/status", tag = "Users", operation_id = "statuses", params(StatusQuery),
    responses((status = 200, body = Statuses)),
    extensions(("x-id" = json!("U4")), ("x-guest" = json!("yes")))
)]
pub(crate) async fn statuses(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<StatusQuery>,
) -> Result<Success<Statuses>, ApiError> {
    let request = logic::GetOnlineStatusesRequest { requester_id: caller.user_id, user_ids: asked.ids()? };
    let answer = api.users.clone().get_online_statuses(ask(request)).await?.into_inner();
    Ok(Success::ok(Statuses { statuses: answer.statuses.into_iter().map(Presence::from).collect() }))
}

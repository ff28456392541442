//! What is done with a conversation as a whole: change (C4), end (C5), leave (C6), join the world (C7), search (C8).

use axum::extract::State;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as wire;
use gochat_proto::im::logic::v1 as logic;
use gochat_proto::settings::Group;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, ask};
use super::auth::{Caller, Registered};
use super::conversations::{DESCRIPTION_CHARS_MAX, URL_CHARS_MAX, name};
use super::envelope::{ApiError, Success};
use super::extract::{Asked, Body, Fields, FromFields, FromQuery, QueryFields};
use super::objects::Conversation;
use super::paths::ConversationPath;

const SEARCH_CHARS_MAX: usize = 50;
const SEARCH_LIMIT: i32 = 20;
const SEARCH_LIMIT_MAX: i32 = 50;
pub(crate) const REASON_CHARS_MAX: usize = 200;

/// Settings of a group that change; those left out stay.
#[derive(ToSchema)]
#[schema(as = SettingsUpdate)]
pub(crate) struct Settings {
    group_settings: Group,
}

/// What of a group changes; what is left out stays.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[schema(as = UpdateConversation)]
pub(crate) struct Update {
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// http or https; an empty text takes the picture away.
    #[schema(max_length = 255, pattern = "^https?://")]
    avatar_url: Option<String>,
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Of the owner only.
    #[schema(value_type = Option<Settings>)]
    settings: Option<(Settings, Vec<String>)>,
    /// The version that the client saw: another one there is refused.
    #[schema(minimum = 1)]
    info_version: Option<i64>,
}

impl FromFields for Update {
    fn read(fields: &mut Fields) -> Result<Update, ApiError> {
        let avatar_url = fields.text("avatarUrl")?;
        if avatar_url.as_ref().is_some_and(|url| url.chars().count() > URL_CHARS_MAX) {
            return Err(ApiError::invalid("avatarUrl", "is longer than 255 characters"));
        }
        let description = fields.text("description")?;
        if description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX) {
            return Err(ApiError::invalid("description", "is longer than 500 characters"));
        }
        Ok(Update {
            name: fields.text("name")?.map(name).transpose()?,
            avatar_url,
            description,
            settings: fields.object("settings")?.map(settings).transpose()?,
            info_version: fields.integer("infoVersion")?,
        })
    }
}

/// The settings given, and the names of those.
fn settings(mut fields: Fields) -> Result<(Settings, Vec<String>), ApiError> {
    let mut given = fields.object("group_settings")?.unwrap_or(fields);
    let mut group = Group::default();
    let mut mask = Vec::new();
    let mut changed = |name: &str| mask.push(format!("settings.{name}"));
    for (name, setting) in [
        ("join_approval_required", &mut group.join_approval_required),
        ("invite_enabled", &mut group.invite_enabled),
        ("mute_all", &mut group.mute_all),
        ("allow_member_view_history", &mut group.allow_member_view_history),
    ] {
        if let Some(value) = given.boolean(name)? {
            *setting = value;
            changed(name);
        }
    }
    if let Some(value) = given.integer("max_members")? {
        let too_many = |_| ApiError::invalid("max_members", "is too large");
        group.max_members = i32::try_from(value).map_err(too_many)?;
        changed("max_members");
    }
    if let Some(text) = given.text("announcement")? {
        group.announcement = text;
        changed("announcement");
    }
    Ok((Settings { group_settings: group }, mask))
}

impl Update {
    fn into_request(
        self,
        user_id: String,
        conversation_id: String,
    ) -> Result<logic::UpdateConversationRequest, ApiError> {
        let mut update_mask = Vec::new();
        for (is_given, field) in [
            (self.name.is_some(), "name"),
            (self.avatar_url.is_some(), "avatar_url"),
            (self.description.is_some(), "description"),
        ] {
            if is_given {
                update_mask.push(field.to_owned());
            }
        }
        let settings = self.settings.map(|(settings, mask)| {
            update_mask.extend(mask);
            wire::ConversationSettings::from(gochat_proto::settings::Settings::Group(settings.group_settings))
        });
        if update_mask.is_empty() {
            return Err(ApiError::invalid("body", "names nothing to change"));
        }
        Ok(logic::UpdateConversationRequest {
            user_id,
            conversation_id,
            name: self.name.unwrap_or_default(),
            avatar_url: self.avatar_url.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            settings,
            update_mask,
            expected_info_version: self.info_version.unwrap_or(0),
        })
    }
}

/// Change a group
///
/// Name, picture and description: admins and the owner. Settings: the owner.
#[utoipa::path(
    put, path = "/conversations/{id}", tag = "Conversations", operation_id = "updateConversation",
    request_body = Update, responses((status = 200, body = Conversation)),
    extensions(("x-id" = json!("C4")), ("x-guest" = json!("no")),
        ("x-errors" = json!(["INVALID_CONVERSATION_NAME", "NOT_CONVERSATION_MEMBER", "INSUFFICIENT_PERMISSION",
            "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED", "VERSION_CONFLICT"])))
)]
pub(crate) async fn update(
    State(api): State<Api>,
    Registered(caller): Registered,
    ConversationPath(conversation_id): ConversationPath,
    Body(asked): Body<Update>,
) -> Result<Success<Conversation>, ApiError> {
    let request = asked.into_request(caller.user_id, conversation_id)?;
    let answer = api.conversations.clone().update_conversation(ask(request)).await?.into_inner();
    Ok(Success::ok(answer.conversation.ok_or(ErrorCode::InternalError)?.into()))
}

/// Why.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Reason {
    /// For those concerned.
    #[param(max_length = 200)]
    pub(crate) reason: Option<String>,
}

impl FromQuery for Reason {
    fn read(query: &QueryFields) -> Result<Reason, ApiError> {
        Ok(Reason { reason: Some(query.text_up_to("reason", REASON_CHARS_MAX)?) })
    }
}

/// Dissolve a group, or hide a single chat
///
/// A group: its owner, for everybody and for ever. A single chat: for the caller, until its next message. The world room
/// stays.
#[utoipa::path(
    delete, path = "/conversations/{id}", tag = "Conversations", operation_id = "deleteConversation",
    params(Reason), responses((status = 200)),
    extensions(("x-id" = json!("C5")), ("x-guest" = json!("restricted")),
        ("x-errors" = json!(["NOT_CONVERSATION_MEMBER", "INSUFFICIENT_PERMISSION", "FORBIDDEN",
            "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
    Asked(asked): Asked<Reason>,
) -> Result<Success<()>, ApiError> {
    let reason = asked.reason.unwrap_or_default();
    let request = logic::DeleteConversationRequest { user_id: caller.user_id, conversation_id, reason };
    api.conversations.clone().delete_conversation(ask(request)).await?;
    Ok(Success::done())
}

/// Leave a group or the world room
///
/// The owner of a group passes the ownership first; single chats cannot be left.
#[utoipa::path(
    post, path = "/conversations/{id}/leave", tag = "Conversations", operation_id = "leaveConversation",
    responses((status = 200)),
    extensions(("x-id" = json!("C6")), ("x-guest" = json!("restricted")),
        ("x-errors" = json!(["CANNOT_LEAVE_CONVERSATION", "NOT_CONVERSATION_MEMBER", "CONVERSATION_NOT_FOUND",
            "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn leave(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
) -> Result<Success<()>, ApiError> {
    let request = logic::LeaveConversationRequest { user_id: caller.user_id, conversation_id };
    api.conversations.clone().leave_conversation(ask(request)).await?;
    Ok(Success::done())
}

/// Join the world room
///
/// Harmless when already there. Guests as far as the room lets them.
#[utoipa::path(
    post, path = "/conversations/world/join", tag = "Conversations", operation_id = "joinWorld",
    responses((status = 200, body = Conversation)),
    extensions(("x-id" = json!("C7")), ("x-guest" = json!("yes")), ("x-errors" = json!(["GUEST_FORBIDDEN"])))
)]
pub(crate) async fn join_world(State(api): State<Api>, caller: Caller) -> Result<Success<Conversation>, ApiError> {
    let request = logic::JoinWorldChatRequest { user_id: caller.user_id };
    let answer = api.conversations.clone().join_world_chat(ask(request)).await?.into_inner();
    Ok(Success::ok(answer.conversation.ok_or(ErrorCode::InternalError)?.into()))
}

/// What to look for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConversationSearch {
    /// Part of a name, in any case.
    #[param(min_length = 1, max_length = 50)]
    q: String,
    /// Only single chats (1), groups (2) or the world room (3).
    #[param(rename = "type", minimum = 1, maximum = 3)]
    kind: Option<i32>,
    /// Results at most; 20 when absent.
    #[param(minimum = 1, maximum = 50)]
    limit: Option<i32>,
}

impl FromQuery for ConversationSearch {
    fn read(query: &QueryFields) -> Result<ConversationSearch, ApiError> {
        Ok(ConversationSearch {
            q: query.searched("q", SEARCH_CHARS_MAX)?,
            kind: query.one_of("type", 1..=3)?,
            limit: query.clamped("limit", SEARCH_LIMIT_MAX)?,
        })
    }
}

/// Conversations.
#[derive(Serialize, ToSchema)]
#[schema(as = ConversationsFound)]
pub(crate) struct Found {
    conversations: Vec<Conversation>,
}

/// Search the own conversations by name
///
/// Groups by their name, single chats by the name of the other user.
#[utoipa::path(
    get, path = "/conversations/search", tag = "Conversations", operation_id = "searchConversations",
    params(ConversationSearch), responses((status = 200, body = Found)),
    extensions(("x-id" = json!("C8")), ("x-guest" = json!("no")), ("x-limit" = json!("user_search")),
        ("x-errors" = json!(["MISSING_QUERY"])))
)]
pub(crate) async fn search(
    State(api): State<Api>,
    Registered(caller): Registered,
    Asked(asked): Asked<ConversationSearch>,
) -> Result<Success<Found>, ApiError> {
    api.limits.search(&caller.user_id)?;
    let request = logic::SearchConversationsRequest {
        user_id: caller.user_id,
        query: asked.q,
        type_filter: asked.kind.unwrap_or(0),
        limit: asked.limit.unwrap_or(SEARCH_LIMIT),
    };
    let answer = api.conversations.clone().search_conversations(ask(request)).await?.into_inner();
    Ok(Success::ok(Found { conversations: answer.conversations.into_iter().map(Conversation::from).collect() }))
}

//! What holds for every endpoint, added to what the handlers say of themselves: the envelope, who may call, the errors
//! that all can give, limits, path parameters.
//!
//! Owns the meaning of the `x-` marks on handlers: `x-id` (row of spec 01 §3), `x-guest` (`yes`, `no`, `restricted`),
//! `x-errors` (codes beyond the common ones), `x-limit` (rate rule), `x-idempotent`. Never adds or drops an endpoint.

use std::collections::BTreeMap;

use gochat_infra::ratelimit::RateRule;
use gochat_proto::codes::ErrorCode;
use gochat_proto::contract::schema::tidy;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use super::limits::{GUEST_CREATION, TICKET};

const ABOUT: &str = "\
Everything is a conversation: single chats, groups, and the world room. Messages of a conversation are numbered, `seqId`, \
and never change place. docs/clients.md of the source is the guide; `/api/asyncapi.json` describes `/ws`.\n\n\
**Success** is `{success: true, message, data}`, **failure** `{success: false, message, code, details, traceId}`: branch \
on `code` only. `details.field` names a wrong field, `details.retryAfter` (and `Retry-After`) says when to come back.\n\n\
Ids are decimal strings, never JSON numbers. Times are Unix seconds. What is absent is left out, never null; in requests \
null counts as absent and unknown fields are ignored. Bodies have at most 1 MiB. Sizes out of range are clamped.\n\n\
`X-Trace-ID` is taken from the request, or made, and stands on every answer. Any request can be limited per address or \
user (`api_default`) and per server.";

const COMMON: [ErrorCode; 4] =
    [ErrorCode::RateLimited, ErrorCode::InternalError, ErrorCode::ServiceUnavailable, ErrorCode::Timeout];
const OF_BEARERS: [ErrorCode; 5] = [
    ErrorCode::Unauthorized,
    ErrorCode::InvalidTokenFormat,
    ErrorCode::InvalidToken,
    ErrorCode::TokenExpired,
    ErrorCode::UserDisabled,
];
const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

/// The OpenAPI document.
pub(crate) fn describe(resources: OpenApi, probes: OpenApi) -> Value {
    let mut document = serde_json::to_value(resources).unwrap_or_default();
    let probes = serde_json::to_value(probes).unwrap_or_default();
    document["info"] = json!({
        "title": "GoChat HTTP API",
        "version": env!("CARGO_PKG_VERSION"),
        "description": ABOUT,
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/api"}, {"url": "/api/v1", "description": "The same."}]);
    document["tags"] = tags();
    for (path, mut item) in object(&probes["paths"]) {
        item["servers"] = json!([{"url": "/", "description": "Outside of the API."}]);
        document["paths"][path] = item;
    }
    for (name, schema) in object(&probes["components"]["schemas"]) {
        document["components"]["schemas"][name] = schema;
    }
    tidy(&mut document["components"]);
    document["components"]["schemas"]["Failure"] = failure();
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "The access token."},
    });
    let mut paths = document["paths"].take();
    for (path, item) in paths.as_object_mut().into_iter().flatten() {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method) {
                complete(path, operation);
            }
        }
    }
    tidy(&mut paths);
    document["paths"] = paths;
    document
}

fn tags() -> Value {
    json!([
        {"name": "Accounts", "description": "Who one is."},
        {"name": "Sessions", "description": "Where one is logged in, and how a connection is opened."},
        {"name": "Users", "description": "Profiles and presence."},
        {"name": "Conversations", "description": "Single chats, groups, the world room."},
        {"name": "Messages", "description": "What is said, read and taken back."},
        {"name": "Members", "description": "Who is in a conversation, and as what."},
        {"name": "Friends", "description": "Friends, requests, blocks."},
        {"name": "Operation", "description": "Of the server itself."},
    ])
}

fn failure() -> Value {
    let codes: Vec<&str> =
        ErrorCode::all().filter(|code| *code != ErrorCode::StaleWriter).map(ErrorCode::as_str).collect();
    json!({
        "type": "object",
        "required": ["success", "message", "code", "traceId"],
        "properties": {
            "success": {"const": false},
            "message": {"type": "string", "description": "For humans."},
            "code": {"type": "string", "enum": codes},
            "details": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "The field that is wrong."},
                    "retryAfter": {"type": "integer", "description": "Seconds to wait."},
                    "failedUsers": {"type": "array", "items": {"$ref": "#/components/schemas/FailedUser"}},
                    "fullSync": {"type": "boolean", "description": "The delta reaches too far back: list everything."},
                },
            },
            "traceId": {"type": "string"},
        },
    })
}

/// Adds to one operation what it has in common with others.
fn complete(path: &str, operation: &mut Value) {
    let is_public = operation["security"] == json!([{}]);
    let is_probe = path == "/health";
    if is_public {
        operation["security"] = json!([]);
    } else {
        operation["security"] = json!([{"bearer": []}]);
    }
    let mut parameters: Vec<Value> = path_parameters(path).collect();
    parameters.extend(operation["parameters"].as_array().cloned().unwrap_or_default());
    if operation.get("x-idempotent").is_some() {
        parameters.push(idempotency_key());
    }
    if !is_probe {
        envelope(operation);
    }
    let errors = errors(operation, is_public, is_probe, !parameters.is_empty());
    for (status, codes) in by_status(&errors) {
        if operation["responses"].get(status.as_str()).is_none() {
            operation["responses"][status] = refusal(&codes);
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(rule) = operation["x-limit"].as_str().and_then(rule) {
        operation["x-rate"] = json!({"perSecond": rule.rate_per_s, "burst": rule.capacity});
    }
    operation["x-errors"] = json!(errors.iter().map(|code| code.as_str()).collect::<Vec<_>>());
}

/// Puts what a success answers into its envelope.
fn envelope(operation: &mut Value) {
    for (_, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        let data = response["content"]["application/json"]["schema"].take();
        let mut properties = json!({"success": {"const": true}, "message": {"type": "string"}});
        let mut required = vec!["success", "message"];
        if !data.is_null() {
            properties["data"] = data;
            required.push("data");
        }
        let schema = json!({"type": "object", "required": required, "properties": properties});
        *response = json!({"description": "Success", "content": {"application/json": {"schema": schema}}});
    }
}

fn errors(operation: &Value, is_public: bool, is_probe: bool, has_parameters: bool) -> Vec<ErrorCode> {
    if is_probe {
        return vec![ErrorCode::RateLimited];
    }
    let own = operation["x-errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut errors: Vec<ErrorCode> = own.filter_map(|code| code.parse().ok()).collect();
    let has_body = operation.get("requestBody").is_some();
    if has_body || has_parameters {
        errors.push(ErrorCode::InvalidParams);
    }
    if has_body {
        errors.push(ErrorCode::MessageTooLarge);
    }
    if operation["x-guest"] == "no" {
        errors.push(ErrorCode::GuestForbidden);
    }
    if !is_public {
        errors.extend(OF_BEARERS);
    }
    errors.extend(COMMON);
    let mut seen = std::collections::HashSet::new();
    errors.retain(|code| seen.insert(*code));
    errors
}

fn by_status(errors: &[ErrorCode]) -> BTreeMap<String, Vec<ErrorCode>> {
    let mut statuses: BTreeMap<String, Vec<ErrorCode>> = BTreeMap::new();
    for code in errors {
        statuses.entry(code.http_status().to_string()).or_default().push(*code);
    }
    statuses
}

fn refusal(codes: &[ErrorCode]) -> Value {
    let lines: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}", code.default_message())).collect();
    let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let schema = json!({
        "allOf": [{"$ref": "#/components/schemas/Failure"}, {"type": "object", "properties": {"code": {"enum": names}}}],
    });
    let mut response = json!({"description": lines.join("\n\n"), "content": {"application/json": {"schema": schema}}});
    if codes.contains(&ErrorCode::RateLimited) {
        let seconds = json!({"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}});
        response["headers"] = json!({"Retry-After": seconds});
    }
    response
}

/// The parameters that stand in the path itself.
fn path_parameters(path: &str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        let (about, pattern) = match name {
            "id" => ("The conversation.", "^(world|group_[1-9][0-9]*|single_[1-9][0-9]*_[1-9][0-9]*)$"),
            "sessionId" => ("The login, by its id in the list of sessions.", "^[!-~]{1,64}$"),
            "messageId" => ("The message.", "^[1-9][0-9]*$"),
            "requestId" => ("The friend request.", "^[1-9][0-9]*$"),
            _ => ("The user.", "^[1-9][0-9]*$"),
        };
        let schema = json!({"type": "string", "pattern": pattern});
        json!({"name": name, "in": "path", "required": true, "description": about, "schema": schema})
    })
}

fn idempotency_key() -> Value {
    json!({
        "name": "X-Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "The same request with the same key happens once: for 24 hours it gets the first one's success again. \
            A key counts for one user, method, path and body. While the first still runs after 5 s: 503 with Retry-After.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,64}$"},
    })
}

fn rule(name: &str) -> Option<RateRule> {
    Some(match name {
        "user_login_attempt" => RateRule::USER_LOGIN_ATTEMPT,
        "user_send_message" => RateRule::USER_SEND_MESSAGE,
        "user_search" => RateRule::USER_SEARCH,
        "health_check" => RateRule::HEALTH_CHECK,
        "guest_creation" => GUEST_CREATION,
        "ticket" => TICKET,
        _ => return None,
    })
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

//! The description of the HTTP API, held against the specification's index and against what the gateway really does:
//! every endpoint, every documented field, every error code.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod control_support;
mod http_support;

use std::collections::{BTreeMap, BTreeSet};

use gochat_proto::codes::ErrorCode;
use gochat_proto::contract::schema::dangling;
use gochat_proto::failure::Failure;
use http_support::{Client, Gateway, schema};
use serde_json::{Value, json};

/// Spec 01 §3 without X1, M5, M6 (uploads, search of texts, forwarding), then what stands beside it: row, method, path,
/// authentication, guests, success.
const INDEX: &str = "\
A1 POST /auth/register public - 201
A2 POST /auth/login public - 200
A3 POST /auth/guest public - 201
A4 POST /auth/refresh public yes 200
A5 POST /auth/logout bearer yes 200
U1 GET /users/profile bearer yes 200
U2 PUT /users/profile bearer no 200
U3 GET /users/search bearer no 200
U4 GET /users/status bearer yes 200
U5 GET /users/{userId} bearer yes 200
C1 GET /conversations bearer yes 200
C2 POST /conversations bearer no 201
C3 GET /conversations/{id} bearer yes 200
C4 PUT /conversations/{id} bearer no 200
C5 DELETE /conversations/{id} bearer restricted 200
C6 POST /conversations/{id}/leave bearer restricted 200
C7 POST /conversations/world/join bearer yes 200
C8 GET /conversations/search bearer no 200
C9 GET /conversations/unread bearer yes 200
M1 GET /conversations/{id}/messages bearer yes 200
M2 POST /conversations/{id}/messages bearer restricted 201
M3 PUT /conversations/{id}/read bearer yes 200
M4 DELETE /conversations/{id}/messages/{messageId} bearer yes 200
G1 GET /conversations/{id}/members bearer yes 200
G2 POST /conversations/{id}/members bearer no 201
G3 DELETE /conversations/{id}/members/{userId} bearer no 200
G4 PUT /conversations/{id}/members/{userId} bearer no 200
F1 GET /friends bearer no 200
F2 GET /friends/requests bearer no 200
F3 POST /friends/requests bearer no 201
F4 PUT /friends/requests/{requestId} bearer no 200
F5 DELETE /friends/{friendId} bearer no 200
F6 PUT /friends/{friendId} bearer no 200
H1 GET /health public - 200
- PUT /users/password bearer no 200
- GET /auth/sessions bearer yes 200
- DELETE /auth/sessions/{sessionId} bearer yes 200
- DELETE /users/profile bearer yes 200
- GET /friends/blocked bearer no 200
- POST /auth/ticket bearer yes 200";

/// A good request of each operation: query and body.
fn sample(operation: &str) -> (&'static str, Option<Value>) {
    match operation {
        "register" => ("", Some(json!({"username": "ann", "password": "correct horse", "avatarUrl": "https://x/y"}))),
        "login" => ("", Some(json!({"username": "ann", "password": "correct horse", "clientInfo": "phone"}))),
        "guest" => ("", Some(json!({"guestName": "ann", "clientInfo": "phone"}))),
        "refresh" => ("", Some(json!({"refreshToken": "r", "clientInfo": "phone"}))),
        "logout" => ("", Some(json!({"refreshToken": "r"}))),
        "updateProfile" => ("", Some(json!({"avatarUrl": "https://x/y"}))),
        "changePassword" => ("", Some(json!({"oldPassword": "old", "newPassword": "new", "clientInfo": "phone"}))),
        "deleteAccount" => ("", Some(json!({"password": "old"}))),
        "searchUsers" => ("?q=ann&limit=5", None),
        "statuses" => ("?ids=8,9", None),
        "listConversations" => ("?page=2&size=5&pageSize=6&type=2", None),
        "unread" => ("?conversationId=group_5", None),
        "searchConversations" => ("?q=fri&type=2&limit=5", None),
        "createConversation" => (
            "",
            Some(json!({"type": 2, "name": "us", "members": ["8"], "description": "d", "avatarUrl": "https://x/y"})),
        ),
        "updateConversation" => (
            "",
            Some(json!({
                "name": "us", "avatarUrl": "https://x/y", "description": "d", "infoVersion": 4,
                "settings": {"group_settings": {"mute_all": true}},
            })),
        ),
        "deleteConversation" | "removeMember" | "recall" => ("?reason=because", None),
        "history" => ("?after_seq=5&limit=10&type=1,2", None),
        "send" => ("", Some(json!({"messageType": 1, "content": "hi", "client_msg_id": "c1", "extra": "{}"}))),
        "markRead" => ("", Some(json!({"seqId": 5}))),
        "listBlocked" => ("?page=1&size=5&pageSize=5", None),
        "listMembers" => ("?page=1&size=5&pageSize=5&role=2", None),
        "addMembers" => ("", Some(json!({"members": ["8", "9"], "role": 1}))),
        "updateMember" => ("", Some(json!({"role": 2, "muted": true, "mutedUntil": 99}))),
        "listFriends" => ("?last_sync=5&include_online=true&status=1", None),
        "listRequests" => ("?type=sent&status=0&page=1&size=5&pageSize=5", None),
        "sendRequest" => ("", Some(json!({"targetUserId": "8", "message": "hello"}))),
        "handleRequest" => ("", Some(json!({"action": "accept"}))),
        "updateFriend" => ("", Some(json!({"remark": "r", "blocked": true}))),
        _ => ("", None),
    }
}

struct Operation {
    id: String,
    method: String,
    /// As it is called: with the prefix and examples for its parameters.
    path: String,
    described: Value,
}

impl Operation {
    fn is_public(&self) -> bool {
        self.described["security"] == json!([])
    }

    fn refuses_guests(&self) -> bool {
        self.described["x-guest"] == "no"
    }

    fn errors(&self) -> Vec<ErrorCode> {
        self.described["x-errors"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().parse().unwrap()).collect()
    }

    fn success(&self) -> (u16, &Value) {
        let responses = self.described["responses"].as_object().unwrap();
        let successes: Vec<_> = responses.iter().filter(|(status, _)| status.starts_with('2')).collect();
        let (status, response) = successes.last().unwrap();
        (status.parse().unwrap(), &response["content"]["application/json"]["schema"])
    }

    async fn call(&self, client: &Client, query: &str, body: Option<&Value>) -> http_support::Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        client.call(&self.method, &format!("{}{query}", self.path), &body).await
    }
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "servers") {
            let examples = [
                ("{id}", "group_5"),
                ("{userId}", "8"),
                ("{friendId}", "8"),
                ("{messageId}", "901"),
                ("{requestId}", "55"),
                ("{sessionId}", "login-2"),
            ];
            let filled = examples.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
            let prefix = if path == "/health" { "" } else { "/api" };
            operations.push(Operation {
                id: described["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: format!("{prefix}{filled}"),
                described: described.clone(),
            });
        }
    }
    operations
}

async fn document(gateway: &Gateway) -> Value {
    let answer = gateway.nobody().get("/api/openapi.json").await;
    assert_eq!(answer.status, 200);
    answer.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_the_index() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut ours = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "servers") {
            let row = operation["x-id"].as_str().unwrap_or("-");
            let auth = if operation["security"] == json!([]) { "public" } else { "bearer" };
            let guest = operation["x-guest"].as_str().unwrap_or("-");
            let responses = operation["responses"].as_object().unwrap();
            // C2 answers 200 too, when the single chat was there.
            let success = responses.keys().filter(|status| status.starts_with('2')).max().unwrap();
            ours.insert(format!("{row} {} {path} {auth} {guest} {success}", method.to_uppercase()));
        }
    }
    assert_eq!(ours, INDEX.lines().map(str::to_owned).collect());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_hold_together() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    assert_eq!(dangling(&document), Vec::<String>::new());
    assert!(!document.to_string().contains("\"null\""), "what is absent is left out");
    let mut ids = BTreeSet::new();
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    for operation in operations(&document) {
        assert!(ids.insert(operation.id.clone()), "{} twice", operation.id);
        let described = &operation.described;
        assert!(tags.contains(described["tags"][0].as_str().unwrap()), "{}", operation.id);
        assert!(!described["summary"].as_str().unwrap().is_empty(), "{}", operation.id);
        let names: Vec<String> = described["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| format!("{} {}", p["in"], p["name"]))
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{}: a parameter twice", operation.id);
        for (status, response) in described["responses"].as_object().unwrap() {
            assert!((100..600).contains(&status.parse::<u16>().unwrap()) && response["description"].is_string());
        }
    }
    let text = document.to_string();
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(text.contains(&format!("\"#/components/schemas/{name}\"")), "{name} is described and never used");
    }
    let asyncapi = gateway.nobody().get("/api/v1/asyncapi.json").await;
    assert_eq!((asyncapi.status, &asyncapi.body["asyncapi"]), (200, &json!("3.0.0")));
    assert_eq!(asyncapi.body, gochat_proto::contract::asyncapi());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_requests_get_what_is_described() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    for (n, operation) in operations(&document).into_iter().enumerate() {
        // A new user each time: some of these end the login.
        let user = gateway.as_user(&format!("{}", 100 + n));
        let client = if operation.is_public() { gateway.nobody() } else { user };
        let (query, body) = sample(&operation.id);
        let answer = operation.call(&client, query, body.as_ref()).await;
        let (status, described) = operation.success();
        assert_eq!(answer.status, status, "{}: {}", operation.id, answer.text);
        schema::check(&document, described, &answer.body, &operation.id);
        assert!(operation.id == "health" || answer.body["success"] == true);
        if let Some(parameters) = operation.described["parameters"].as_array() {
            for parameter in parameters.iter().filter(|p| p["in"] == "query") {
                let name = parameter["name"].as_str().unwrap();
                let is_alternative = ["cursor", "last_sync", "limit"].contains(&name);
                assert!(
                    is_alternative || query.contains(&format!("{name}=")),
                    "{}: no example for {name}",
                    operation.id
                );
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_field_is_looked_at() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let resolve = |schema: &Value| match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap().clone(),
        None => schema.clone(),
    };
    for operation in operations(&document) {
        let client = if operation.is_public() { gateway.nobody() } else { gateway.as_user("7") };
        let (query, body) = sample(&operation.id);
        let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
        let schema = resolve(schema);
        assert_eq!(body.is_some(), !schema.is_null(), "{}", operation.id);
        for name in schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name) {
            let mut wrong = body.clone().unwrap();
            assert!(wrong.get(name).is_some(), "{}: the example lacks {name}", operation.id);
            wrong[name] = json!([{"wrong": true}]);
            let answer = operation.call(&client, query, Some(&wrong)).await;
            assert_eq!(answer.refusal().0, 400, "{}: {wrong}", operation.id);
            assert_eq!(answer.body["details"]["field"], name.as_str(), "{}", operation.id);
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let mut less = body.clone().unwrap();
            less.as_object_mut().unwrap().remove(name.as_str().unwrap());
            let answer = operation.call(&client, query, Some(&less)).await;
            assert_eq!(answer.refusal().0, 400, "{}: {less}", operation.id);
        }
        if body.is_some() {
            for broken in ["{", "[]", "\"text\"", "{\"a\":1}}"] {
                let answer = client.call(&operation.method, &operation.path, broken).await;
                assert_eq!(answer.refusal().0, 400, "{}: {broken}", operation.id);
            }
        }
    }
    gateway.logic.calls();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_who_the_index_says() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    for (n, operation) in operations(&document).into_iter().enumerate() {
        let (query, body) = sample(&operation.id);
        let anonymous = operation.call(&gateway.nobody(), query, body.as_ref()).await;
        if operation.is_public() {
            assert_eq!(anonymous.status, operation.success().0, "{}", operation.id);
            continue;
        }
        assert_eq!(anonymous.refusal(), (401, "UNAUTHORIZED"), "{}", operation.id);
        let basic = gateway.nobody().with_header("Authorization", "Basic YTpi");
        let answer = operation.call(&basic, query, body.as_ref()).await;
        assert_eq!(answer.refusal(), (401, "INVALID_TOKEN_FORMAT"), "{}", operation.id);
        gateway.logic.calls();
        let guest = gateway.as_guest(&format!("{}", 200 + n));
        let answer = operation.call(&guest, query, body.as_ref()).await;
        if operation.refuses_guests() {
            assert_eq!(answer.refusal(), (403, "GUEST_FORBIDDEN"), "{}", operation.id);
            assert_eq!(gateway.logic.calls(), [], "{}: the call is spared", operation.id);
        } else {
            assert_eq!(answer.status, operation.success().0, "{}: {}", operation.id, answer.text);
        }
    }
    gateway.stop().await;
}

/// Codes that requests get before logic hears of them; each is asserted elsewhere in these tests.
const OF_THE_EDGE: [ErrorCode; 8] = [
    ErrorCode::Unauthorized,
    ErrorCode::InvalidTokenFormat,
    ErrorCode::InvalidParams,
    ErrorCode::MissingQuery,
    ErrorCode::InvalidMessage,
    ErrorCode::MessageEmpty,
    ErrorCode::MessageTooLarge,
    ErrorCode::UnsupportedMessageType,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_code_comes_through_with_its_status() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let mut seen: BTreeMap<&str, u16> = BTreeMap::new();
    for operation in operations(&document) {
        let (query, body) = sample(&operation.id);
        if operation.id == "health" || operation.id == "ticket" {
            continue;
        }
        for code in operation.errors().into_iter().filter(|code| !OF_THE_EDGE.contains(code)) {
            if operation.refuses_guests() && code == ErrorCode::GuestForbidden {
                continue;
            }
            let failure = Failure::new(code, "as the test wants it").with("retryAfter", "3");
            gateway.logic.refuse(Some(failure));
            let client = if operation.is_public() { gateway.nobody() } else { gateway.as_user("7") };
            let answer = operation.call(&client, query, body.as_ref()).await;
            assert_eq!(answer.refusal(), (code.http_status(), code.as_str()), "{}", operation.id);
            let status = code.http_status().to_string();
            let described = &operation.described["responses"][&status]["content"]["application/json"]["schema"];
            schema::check(&document, described, &answer.body, &operation.id);
            if code == ErrorCode::RateLimited && operation.id != "send" && operation.id != "recall" {
                assert!(answer.head.contains("retry-after: 3"), "{}", answer.head);
            }
            seen.insert(code.as_str(), code.http_status());
        }
        gateway.logic.refuse(None);
    }
    // Spec 01 §5 without files, without the WebSocket's own name for a failed authentication, and without what stands
    // inside of failedUsers or never leaves the server.
    let elsewhere = ["AUTH_FAILED", "USER_ALREADY_IN_CONVERSATION", "DUPLICATE_MESSAGE", "STALE_WRITER"];
    let elsewhere = elsewhere.iter().chain(&["FILE_NOT_FOUND", "UNSUPPORTED_FILE_FORMAT", "FILE_TOO_LARGE"]);
    let elsewhere: Vec<&str> = elsewhere.chain(&["FILE_UPLOAD_FAILED", "FILE_DOWNLOAD_FAILED"]).copied().collect();
    for code in ErrorCode::all() {
        let is_seen = seen.contains_key(code.as_str()) || OF_THE_EDGE.contains(&code);
        assert_eq!(is_seen, !elsewhere.contains(&code.as_str()), "{code}");
    }
    gateway.stop().await;
}

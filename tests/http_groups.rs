//! Groups, their members and the world room over HTTP, against a running server: every row of the role matrix of spec 01
//! §4.6, and every refusal that groups can give.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Answer, Api, Server, User, guest, history, make_group, open_chat, register, say};

struct Setup {
    _dir: tempfile::TempDir,
    _server: Server,
    api: Api,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    Setup { _dir: dir, _server: server, api }
}

/// An owner, an admin, two members and somebody else, and their group.
struct Group {
    api: Api,
    owner: User,
    admin: User,
    member: User,
    other: User,
    stranger: User,
    id: String,
}

impl Group {
    fn new(api: &Api) -> Group {
        let [owner, admin, member, other, stranger] =
            ["owner", "admin1", "member", "other", "stranger"].map(|name| register(api, name));
        let id = make_group(api, &owner, "us", &[&admin, &member, &other]);
        let group = Group { api: api.clone(), owner, admin, member, other, stranger, id };
        assert_eq!(group.update(&group.owner, &group.admin, json!({"role": 2})).status, 200);
        group
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/conversations/{}{rest}", self.id)
    }

    fn api(&self, who: &User) -> Api {
        self.api.as_user(&who.token)
    }

    fn update(&self, who: &User, whom: &User, change: Value) -> Answer {
        self.api(who).put(&self.path(&format!("/members/{}", whom.id)), &change)
    }

    fn remove(&self, who: &User, whom: &User) -> Answer {
        self.api(who).delete(&self.path(&format!("/members/{}", whom.id)))
    }

    fn add(&self, who: &User, whom: &[&User]) -> Answer {
        let ids: Vec<&str> = whom.iter().map(|user| user.id.as_str()).collect();
        self.api(who).post(&self.path("/members"), &json!({"members": ids}))
    }

    fn change(&self, who: &User, change: Value) -> Answer {
        self.api(who).put(&self.path(""), &change)
    }

    fn send(&self, who: &User, id: &str) -> Answer {
        let body = json!({"messageType": 1, "content": "hello", "client_msg_id": id});
        self.api(who).post(&self.path("/messages"), &body)
    }

    fn recall(&self, who: &User, message: &Value) -> Answer {
        self.api(who).delete(&self.path(&format!("/messages/{}", message["id"].as_str().unwrap())))
    }

    fn roles(&self) -> Vec<(String, i64)> {
        let members = self.api(&self.owner).get(&self.path("/members?size=100")).data();
        let mut roles: Vec<_> = members["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|member| (member["user"]["username"].as_str().unwrap().to_owned(), member["role"].as_i64().unwrap()))
            .collect();
        roles.sort();
        roles
    }
}

const REFUSED: (u16, &str) = (403, "INSUFFICIENT_PERMISSION");

#[test]
fn a_group_is_made_seen_and_listed() {
    let Setup { api, .. } = &setup();
    let (ann, bob, visitor) = (register(api, "ann"), register(api, "bob"), guest(api));
    let a = api.as_user(&ann.token);
    let body = json!({
        "type": 2, "name": "trip", "members": [bob.id, ann.id, bob.id], "description": "to the sea",
        "avatarUrl": "https://example.org/a.png",
    });
    let made = a.post("/api/conversations", &body);
    assert_eq!(made.status, 201);
    let made = made.data();
    let expected = json!([2, "trip", "to the sea", "https://example.org/a.png", ann.id, 2]);
    let shown = json!([
        made["type"],
        made["name"],
        made["description"],
        made["avatarUrl"],
        made["ownerId"],
        made["memberCount"]
    ]);
    assert_eq!(shown, expected);
    assert_eq!(made["settings"]["group_settings"]["invite_enabled"], true);
    assert_eq!(made["myMembership"]["role"], 3);
    let id = made["id"].as_str().unwrap();
    let seen = api.as_user(&bob.token).get(&format!("/api/conversations/{id}")).data();
    let names: Vec<&str> =
        seen["members"].as_array().unwrap().iter().map(|m| m["user"]["username"].as_str().unwrap()).collect();
    assert_eq!((names.len(), seen["myMembership"]["role"].as_i64()), (2, Some(1)));
    assert!(names.contains(&"ann") && names.contains(&"bob"));
    let found = api.as_user(&bob.token).get("/api/conversations/search?q=RI").data();
    assert_eq!(found["conversations"][0]["id"], id);
    assert_eq!(api.as_user(&bob.token).get("/api/conversations/search?q=xyz").data()["conversations"], json!([]));

    // Who cannot be a member is named, and nothing is made.
    let bad = json!({"type": 2, "name": "no", "members": [bob.id, "1", visitor.id]});
    let refused = a.post("/api/conversations", &bad);
    assert_eq!(refused.refusal().0, 400);
    let failed = refused.body["details"]["failedUsers"].as_array().unwrap();
    let ids: Vec<&str> = failed.iter().map(|user| user["userId"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids.contains(&"1"), ids.contains(&visitor.id.as_str())), (2, true, true));
    assert_eq!(a.get("/api/conversations?type=2").data()["total"], 1);
    let single = open_chat(api, &ann, &bob);
    let refused = a.put(&format!("/api/conversations/{single}"), &json!({"name": "x"}));
    assert_eq!(refused.status / 100, 4, "single chats have no name: {refused:?}");
}

#[test]
fn the_role_matrix_reading_and_sending() {
    let Setup { api, .. } = &setup();
    let group = Group::new(api);
    for (n, who) in [&group.owner, &group.admin, &group.member].into_iter().enumerate() {
        assert_eq!(group.send(who, &format!("m{n}")).status, 201);
        assert_eq!(group.api(who).get(&group.path("/messages")).status, 200);
        assert_eq!(group.api(who).send("PUT", &group.path("/read"), "").unwrap().status, 200);
        assert_eq!(group.api(who).get(&group.path("")).status, 200);
        assert_eq!(group.api(who).get(&group.path("/members")).status, 200);
    }
    let stranger = group.api(&group.stranger);
    let refused = (403, "NOT_CONVERSATION_MEMBER");
    assert_eq!(group.send(&group.stranger, "s").refusal(), refused);
    for rest in ["", "/messages", "/members"] {
        assert_eq!(stranger.get(&group.path(rest)).refusal(), refused, "{rest}");
    }
    assert_eq!(stranger.put(&group.path("/read"), &json!({"seqId": 1})).refusal(), refused);
    assert_eq!(stranger.post(&group.path("/leave"), &json!({})).refusal(), refused);
    assert_eq!(stranger.get("/api/conversations?type=2").data()["conversations"], json!([]));
    let unread = stranger.get(&format!("/api/conversations/unread?conversationId={}", group.id));
    assert_eq!(unread.refusal(), refused);

    // Muted, and everybody but admins muted.
    assert_eq!(group.update(&group.admin, &group.member, json!({"muted": true})).status, 200);
    assert_eq!(group.send(&group.member, "muted").refusal(), (403, "MUTED"));
    assert_eq!(group.update(&group.admin, &group.member, json!({"muted": false})).status, 200);
    assert_eq!(group.send(&group.member, "again").status, 201);
    let all = json!({"settings": {"group_settings": {"mute_all": true}}});
    assert_eq!(group.change(&group.owner, all).data()["settings"]["group_settings"]["mute_all"], true);
    assert_eq!(group.send(&group.member, "all").refusal(), (403, "MUTED"));
    for (n, who) in [&group.owner, &group.admin].into_iter().enumerate() {
        assert_eq!(group.send(who, &format!("exempt{n}")).status, 201);
    }
}

#[test]
fn the_role_matrix_changing() {
    let Setup { api, .. } = &setup();
    let group = Group::new(api);
    // Name, picture, description: admins and the owner.
    assert_eq!(group.change(&group.member, json!({"name": "mine"})).refusal(), REFUSED);
    assert_eq!(group.change(&group.admin, json!({"name": "ours"})).data()["name"], "ours");
    let described = group.change(&group.owner, json!({"description": "d", "avatarUrl": "https://x.example/p"})).data();
    assert_eq!((&described["name"], &described["description"]), (&json!("ours"), &json!("d")));
    assert_eq!(group.change(&group.stranger, json!({"name": "theirs"})).refusal().0, 403);
    // Settings: the owner.
    let closed = json!({"settings": {"group_settings": {"invite_enabled": false}}});
    for who in [&group.member, &group.admin] {
        assert_eq!(group.change(who, closed.clone()).refusal(), REFUSED);
    }
    let settings = group.change(&group.owner, closed).data()["settings"]["group_settings"].clone();
    assert_eq!((&settings["invite_enabled"], &settings["max_members"]), (&json!(false), &json!(500)));
    // Inviting: plain members only where it is on.
    assert_eq!(group.add(&group.member, &[&group.stranger]).refusal(), REFUSED);
    assert_eq!(group.add(&group.admin, &[&group.stranger]).data()["addedUserIds"], json!([group.stranger.id]));
    let open = json!({"settings": {"group_settings": {"invite_enabled": true}}});
    assert_eq!(group.change(&group.owner, open).status, 200);
    let late = register(api, "late");
    assert_eq!(group.add(&group.member, &[&late]).status, 201);
    // Somebody else changed it meanwhile.
    let seen = group.api(&group.admin).get(&group.path("")).data()["infoVersion"].as_i64().unwrap();
    assert_eq!(group.change(&group.owner, json!({"name": "first", "infoVersion": seen})).status, 200);
    let second = group.change(&group.admin, json!({"name": "second", "infoVersion": seen}));
    assert_eq!(second.refusal(), (409, "VERSION_CONFLICT"));
    assert_eq!(group.api(&group.admin).get(&group.path("")).data()["name"], "first");
}

#[test]
fn the_role_matrix_members() {
    let Setup { api, .. } = &setup();
    let group = Group::new(api);
    let second = register(api, "admin2");
    assert_eq!(group.add(&group.owner, &[&second]).status, 201);
    assert_eq!(group.update(&group.owner, &second, json!({"role": 2})).status, 200);
    // Mutes and removals: over lower roles only.
    for change in [json!({"muted": true}), json!({"role": 2}), json!({"role": 3})] {
        assert_eq!(group.update(&group.member, &group.other, change).refusal(), REFUSED);
    }
    assert_eq!(group.remove(&group.member, &group.other).refusal(), REFUSED);
    for (who, whom) in [(&group.admin, &second), (&group.admin, &group.owner)] {
        assert_eq!(group.update(who, whom, json!({"muted": true})).refusal(), REFUSED);
        assert_eq!(group.remove(who, whom).refusal(), REFUSED);
    }
    for change in [json!({"role": 2}), json!({"role": 1}), json!({"role": 3})] {
        assert_eq!(group.update(&group.admin, &group.other, change).refusal(), REFUSED, "roles are the owner's");
    }
    assert_eq!(group.update(&group.owner, &second, json!({"muted": true})).status, 200);
    assert_eq!(group.remove(&group.owner, &second).status, 200);
    assert_eq!(group.remove(&group.owner, &second).refusal(), (403, "NOT_CONVERSATION_MEMBER"));
    assert_eq!(group.remove(&group.admin, &group.other).status, 200);
    assert_eq!(group.send(&group.other, "gone").refusal(), (403, "NOT_CONVERSATION_MEMBER"));
    let gone = group.api(&group.other).get("/api/conversations?type=2").data();
    assert_eq!(gone["conversations"], json!([]));
    // Leaving: everybody but the owner, who passes the ownership first.
    let leave = |who: &User| group.api(who).post(&group.path("/leave"), &json!({}));
    assert_eq!(leave(&group.owner).refusal(), (400, "CANNOT_LEAVE_CONVERSATION"));
    assert_eq!(group.remove(&group.owner, &group.owner).refusal(), (400, "CANNOT_LEAVE_CONVERSATION"));
    assert_eq!(group.update(&group.owner, &group.admin, json!({"role": 3})).status, 200);
    assert_eq!(group.roles(), [("admin1", 3), ("member", 1), ("owner", 2)].map(|(name, role)| (name.to_owned(), role)));
    assert_eq!(
        group.change(&group.owner, json!({"settings": {"group_settings": {"mute_all": true}}})).refusal(),
        REFUSED
    );
    assert_eq!(leave(&group.owner).status, 200);
    assert_eq!(group.remove(&group.member, &group.member).status, 200, "removing oneself is leaving");
}

#[test]
fn adding_says_who_was_not_added_and_capacity_holds() {
    let Setup { api, .. } = &setup();
    let group = Group::new(api);
    let visitor = guest(api);
    let nobody = User { id: "1".into(), ..visitor.clone() };
    let added = group.add(&group.owner, &[&group.member, &group.stranger, &visitor, &nobody]);
    assert_eq!(added.status, 201);
    let added = added.data();
    assert_eq!(added["addedUserIds"], json!([group.stranger.id]));
    let mut failed: Vec<(String, String)> = added["failedUsers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["userId"].as_str().unwrap().to_owned(), user["code"].as_str().unwrap().to_owned()))
        .collect();
    failed.sort();
    let mut expected = vec![
        (nobody.id.clone(), "USER_NOT_FOUND".to_owned()),
        (visitor.id.clone(), "GUEST_FORBIDDEN".to_owned()),
        (group.member.id.clone(), "USER_ALREADY_IN_CONVERSATION".to_owned()),
    ];
    expected.sort();
    assert_eq!(failed, expected);

    let limit = |members: i32| json!({"settings": {"group_settings": {"max_members": members}}});
    assert_eq!(group.change(&group.owner, limit(5)).status, 200);
    let late: Vec<User> = ["late1", "late2", "late3"].iter().map(|name| register(api, name)).collect();
    let all: Vec<&User> = late.iter().collect();
    assert_eq!(group.add(&group.owner, &all).refusal(), (400, "CONVERSATION_FULL"));
    assert_eq!(group.change(&group.owner, limit(6)).status, 200);
    // Three at once for one place.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let adding: Vec<_> = late.iter().map(|user| scope.spawn(|| group.add(&group.owner, &[user]).status)).collect();
        adding.into_iter().map(|adding| adding.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(group.roles().len(), 6);
    let page = group.api(&group.owner).get(&group.path("/members?size=4")).data();
    assert_eq!((page["members"].as_array().unwrap().len(), &page["hasMore"]), (4, &json!(true)));
    let rest = group.api(&group.owner).get(&group.path("/members?size=4&page=2")).data();
    assert_eq!((rest["members"].as_array().unwrap().len(), &rest["hasMore"]), (2, &json!(false)));
    let admins = group.api(&group.owner).get(&group.path("/members?role=2")).data();
    assert_eq!(admins["members"][0]["user"]["username"], "admin1");
}

#[test]
fn the_role_matrix_recalling() {
    let Setup { api, .. } = &setup();
    let group = Group::new(api);
    let sent = |who: &User, id: &str| group.send(who, id).data();
    let (by_owner, by_admin) = (sent(&group.owner, "o"), sent(&group.admin, "a"));
    let (by_member, by_member_too) = (sent(&group.member, "m1"), sent(&group.member, "m2"));
    for message in [&by_owner, &by_admin] {
        assert_eq!(group.recall(&group.member, message).refusal(), REFUSED);
    }
    assert_eq!(group.recall(&group.other, &by_member).refusal(), REFUSED);
    assert_eq!(group.recall(&group.admin, &by_owner).refusal(), REFUSED);
    assert_eq!(group.recall(&group.stranger, &by_member).refusal(), (403, "NOT_CONVERSATION_MEMBER"));
    let recalled = group.recall(&group.member, &by_member).data();
    assert_eq!(
        (&recalled["id"], &recalled["deleted"], &recalled["content"]),
        (&by_member["id"], &json!(true), &json!(""))
    );
    assert_eq!(group.recall(&group.admin, &by_member_too).status, 200);
    assert_eq!(group.recall(&group.owner, &by_admin).status, 200);
    assert_eq!(group.recall(&group.owner, &by_member).refusal(), (409, "MESSAGE_RECALLED"));
    let unknown = json!({"id": "1"});
    assert_eq!(group.recall(&group.owner, &unknown).refusal(), (404, "MESSAGE_NOT_FOUND"));
    let deleted: Vec<Value> = history(api, &group.other, &group.id, 0)
        .into_iter()
        .filter(|message| message["deleted"] == true)
        .map(|message| message["id"].clone())
        .collect();
    assert_eq!(deleted.len(), 3);
    for message in history(api, &group.other, &group.id, 0).iter().filter(|message| message["deleted"] == true) {
        assert!(message["content"] == "" && message.get("extra").is_none(), "{message}");
    }
    // A place in the stream: who was away learns of it there.
    let last = history(api, &group.other, &group.id, 0).pop().unwrap();
    assert_eq!(last["messageType"], 4);
    assert!(last["extra"].as_str().unwrap().contains("\"recall\""), "{last}");
}

#[test]
fn a_dissolved_group_is_gone_for_everybody() {
    let Setup { api, .. } = &setup();
    let group = Group::new(api);
    for who in [&group.member, &group.admin] {
        assert_eq!(group.api(who).delete(&group.path("")).refusal(), REFUSED);
    }
    assert_eq!(group.api(&group.owner).delete(&group.path("?reason=over")).status, 200);
    let gone = (410, "CONVERSATION_DISSOLVED");
    for who in [&group.owner, &group.member] {
        assert_eq!(group.send(who, "late").refusal(), gone);
        assert_eq!(group.api(who).get(&group.path("/messages")).refusal(), gone);
        assert_eq!(group.api(who).get(&group.path("")).refusal(), gone);
        assert_eq!(group.api(who).get("/api/conversations?type=2").data()["conversations"], json!([]));
    }
    assert_eq!(group.add(&group.owner, &[&group.stranger]).refusal(), gone);
}

#[test]
fn single_chats_are_hidden_and_the_world_stays() {
    let Setup { api, .. } = &setup();
    let (ann, bob) = (register(api, "ann"), register(api, "bob"));
    let a = api.as_user(&ann.token);
    let chat = open_chat(api, &ann, &bob);
    say(api, &bob, &chat, "b1", "hello");
    history(api, &ann, &chat, 0);
    let leave = a.post(&format!("/api/conversations/{chat}/leave"), &json!({}));
    assert_eq!(leave.refusal(), (400, "CANNOT_LEAVE_CONVERSATION"));
    assert_eq!(a.delete(&format!("/api/conversations/{chat}")).status, 200);
    let listed = |api: &Api| api.get("/api/conversations?type=1").data()["conversations"].as_array().unwrap().len();
    assert_eq!((listed(&a), listed(&api.as_user(&bob.token))), (0, 1));
    say(api, &bob, &chat, "b2", "still there?");
    history(api, &bob, &chat, 0);
    assert_eq!(listed(&a), 1, "the next message brings it back");

    let world = a.post("/api/conversations/world/join", &json!({})).data();
    assert_eq!((&world["id"], &world["type"]), (&json!("world"), &json!(3)));
    assert_eq!(a.post("/api/conversations/world/join", &json!({})).status, 200);
    assert_eq!(a.delete("/api/conversations/world").status, 403);
    let member = format!("/api/conversations/world/members/{}", bob.id);
    assert_eq!(a.delete(&member).status, 403);
    assert_eq!(a.post("/api/conversations/world/members", &json!({"members": [bob.id]})).status, 403);
    assert_eq!(a.get("/api/conversations/world/members").status, 403);
    let sent =
        a.post("/api/conversations/world/messages", &json!({"messageType": 1, "content": "hi", "client_msg_id": "w"}));
    assert_eq!(sent.status, 201);
    assert_eq!(a.post("/api/conversations/world/leave", &json!({})).status, 200);
    assert_eq!(a.get("/api/conversations/world/messages").refusal(), (403, "NOT_CONVERSATION_MEMBER"));
    assert_eq!(a.post("/api/conversations/world/join", &json!({})).status, 200);
}

#[test]
fn guests_have_the_world_and_the_chats_opened_with_them() {
    let Setup { api, .. } = &setup();
    let (ann, visitor) = (register(api, "ann"), guest(api));
    let v = api.as_user(&visitor.token);
    assert!(visitor.name.starts_with("guest_"));
    assert_eq!(v.get("/api/users/profile").data()["isGuest"], true);
    assert_eq!(v.post("/api/conversations/world/join", &json!({})).status, 200);
    say(api, &visitor, "world", "g1", "hello world");
    let chat = open_chat(api, &ann, &visitor);
    say(api, &visitor, &chat, "g2", "hello ann");
    assert_eq!(
        v.post("/api/conversations", &json!({"type": 1, "members": [ann.id]})).refusal(),
        (403, "GUEST_FORBIDDEN")
    );
    let named = api.post("/api/auth/guest", &json!({"guestName": "zoe"})).data();
    assert_eq!(named["user"]["username"], "guest_zoe");
    let again = api.post("/api/auth/guest", &json!({"guestName": "zoe"})).data();
    assert_ne!(again["user"]["username"], "guest_zoe");
    assert_eq!(v.delete("/api/users/profile").status, 200, "a guest's account ends without a password");
    assert_eq!(v.get("/api/users/profile").status, 401);
}

//! A client that was away through a thousand messages, fifty recalls and a rename syncs, as docs/clients.md says, to exactly
//! the state of one that stayed, and is told `complete: true` only then.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::chat::{Session, send_message};
use support::{Api, Seeded, Server, User, make_group, register, seed};

const MESSAGES: usize = 1000;
const RECALLS: usize = 50;
/// Messages unanswered at once.
const WINDOW: usize = 32;

/// What a client knows of one conversation, applied as a client applies it.
#[derive(Debug, Default)]
struct Room {
    name: String,
    /// The line in the stream that tells of the new name was seen.
    told_of_name: bool,
    /// seqId to (message id, content, deleted).
    messages: BTreeMap<i64, (String, String, bool)>,
}

impl Room {
    /// A message from history or a `new-message` frame.
    fn take(&mut self, message: &Value) {
        let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
        let seq = message["seqId"].as_i64().unwrap();
        let deleted = message["deleted"] == true;
        if message["messageType"] == 4 {
            let extra: Value = serde_json::from_str(&text("extra")).unwrap_or_default();
            self.told_of_name |= extra["type"] == "conversation-updated";
            if extra["type"] == "recall" {
                self.recall(extra["seqId"].as_i64().unwrap());
            }
        }
        let known_deleted = self.messages.get(&seq).is_some_and(|known| known.2);
        let content = if deleted || known_deleted { String::new() } else { text("content") };
        self.messages.insert(seq, (text("id"), content, deleted || known_deleted));
    }

    fn recall(&mut self, seq: i64) {
        if let Some(message) = self.messages.get_mut(&seq) {
            message.1.clear();
            message.2 = true;
        }
    }

    /// Rows that take a place and show nothing of their own.
    fn shown(&self) -> impl Iterator<Item = (&i64, &(String, String, bool))> {
        self.messages.iter().filter(|(_, (_, content, deleted))| *deleted || !content.is_empty())
    }

    fn last(&self) -> i64 {
        self.messages.last_key_value().map_or(0, |(seq, _)| *seq)
    }
}

/// Pulls until the server says that nothing is missing; counts the pages.
fn pull(api: &Api, conversation: &str, room: &mut Room) -> usize {
    for page_number in 1.. {
        let after = room.last();
        let page = api.get(&format!("/api/conversations/{conversation}/messages?after_seq={after}&limit=100")).data();
        let messages = page["messages"].as_array().unwrap();
        let has_more = page["hasMore"] == true;
        assert!(!(has_more && page["complete"] == true), "complete with more to come: {page}");
        messages.iter().for_each(|message| room.take(message));
        if page["complete"] == true {
            return page_number;
        }
        assert!(page_number < 1000, "never complete");
    }
    0
}

/// The delta list since `last_sync`, by pages; answers with the conversation as last listed.
fn delta(api: &Api, conversation: &str, last_sync: i64) -> Option<Value> {
    let (mut cursor, mut found) = (String::new(), None);
    loop {
        let page = api.get(&format!("/api/conversations?last_sync={last_sync}&limit=2{cursor}")).data();
        for listed in page["conversations"].as_array().unwrap() {
            if listed["id"] == conversation {
                found = Some(listed.clone());
            }
        }
        if page["hasMore"] != true {
            return found;
        }
        cursor = format!("&cursor={}", page["nextCursor"].as_str().unwrap());
    }
}

/// Sends everything with a window and answers with (message id, seq) in order.
fn talk(session: &mut Session, group: &str, prefix: &str, count: usize) -> Vec<(String, i64)> {
    let mut acked = BTreeMap::new();
    let mut next = 0;
    while acked.len() < count {
        while next < count && next < acked.len() + WINDOW {
            session.send(&send_message(group, &format!("{prefix}{next}"), &format!("{prefix} number {next}"))).unwrap();
            next += 1;
        }
        let ack = session.expect("message-ack")["data"].clone();
        let id = ack["client_msg_id"].as_str().unwrap().trim_start_matches(prefix).parse::<usize>().unwrap();
        acked.insert(id, (ack["messageId"].as_str().unwrap().to_owned(), ack["seqId"].as_i64().unwrap()));
    }
    acked.into_values().collect()
}

fn hear(session: &mut Session, group: &str, room: &mut Room, until: impl Fn(&Room) -> bool) {
    while !until(room) {
        let frame = session.frame(support::STUCK).unwrap().expect("a frame in time");
        let data = &frame["data"];
        if data["conversationId"] != group {
            continue;
        }
        match frame["type"].as_str() {
            Some("new-message") => room.take(data),
            Some("message-recalled") => room.recall(data["seqId"].as_i64().unwrap()),
            Some("conversation-updated") => {
                if let Some(name) = data["updates"]["name"].as_str() {
                    room.name = name.to_owned();
                }
            }
            _ => {}
        }
    }
}

#[test]
fn who_was_away_ends_where_who_stayed_is() {
    let mut random = Seeded::new(seed());
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    let people: [User; 3] = ["ann", "stays", "leaves"].map(|name| register(&api, name));
    let [ann, stays, leaves] = &people;
    let group = make_group(&api, ann, "before", &[stays, leaves]);
    for other in 0..5 {
        make_group(&api, ann, &format!("noise {other}"), &[leaves]);
    }
    let mut speaker = Session::connect(server.http, &ann.token).unwrap();
    let mut stayed_ear = Session::connect(server.http, &stays.token).unwrap();
    let (mut stayed, mut away) = (Room::default(), Room::default());
    let first = talk(&mut speaker, &group, "early", 20);
    let (stays_api, leaves_api) = (api.as_user(&stays.token), api.as_user(&leaves.token));
    pull(&leaves_api, &group, &mut away);
    let last_sync = leaves_api.get("/api/conversations").data()["serverTime"].as_i64().unwrap();
    assert!(away.last() >= first.last().unwrap().1);
    // From here on one is away. The other only listens.
    pull(&stays_api, &group, &mut stayed);
    let mut said = first;
    said.extend(talk(&mut speaker, &group, "late", MESSAGES));
    let mut recalled = BTreeMap::new();
    while recalled.len() < RECALLS {
        let (id, seq) = &said[random.within(0..said.len() as u64) as usize];
        if recalled.contains_key(seq) {
            continue;
        }
        speaker.send(&json!({"type": "recall-message", "data": {"conversationId": group, "messageId": id}})).unwrap();
        speaker.expect("message-recalled");
        recalled.insert(*seq, id.clone());
    }
    api.as_user(&ann.token).put(&format!("/api/conversations/{group}"), &json!({"name": "after"})).data();
    let (last_said, wanted) = (said.last().unwrap().1, recalled.keys().copied().collect::<Vec<_>>());
    hear(&mut stayed_ear, &group, &mut stayed, |room| {
        let gone = |seq: &i64| room.messages.get(seq).is_some_and(|message| message.2);
        room.name == "after" && room.told_of_name && room.last() >= last_said && wanted.iter().all(gone)
    });
    // Back again: the delta names the conversation as it is now, then its history is pulled.
    let listed = delta(&leaves_api, &group, last_sync).expect("the delta names the conversation");
    away.name = listed["name"].as_str().unwrap().to_owned();
    let pages = pull(&leaves_api, &group, &mut away);
    assert!(pages >= (MESSAGES + RECALLS) / 100, "{pages} pages");
    assert_eq!(stayed.name, away.name);
    let (of_stayed, of_away): (Vec<_>, Vec<_>) = (stayed.shown().collect(), away.shown().collect());
    let rows = of_stayed.iter().zip(&of_away).find(|(a, b)| a != b);
    assert!(rows.is_none(), "they differ first at {rows:?}");
    assert_eq!(of_stayed.len(), of_away.len());
    assert_eq!(of_away.iter().filter(|(_, message)| message.2).count(), RECALLS);
    for (id, seq) in &said {
        let message = &away.messages[seq];
        assert_eq!((&message.0, message.2), (id, recalled.contains_key(seq)));
    }
    // A fresh device that pulls everything from the beginning is there too.
    let mut fresh = Room { name: away.name.clone(), ..Room::default() };
    pull(&leaves_api, &group, &mut fresh);
    assert_eq!(fresh.shown().collect::<Vec<_>>(), of_away);
    // Nothing recalled or said by the reader counts as unread.
    let unread = listed["unreadCount"].as_i64().unwrap();
    assert_eq!(unread, 100, "counts stop at 100, shown as 99+");
    stays_api.put(&format!("/api/conversations/{group}/read"), &json!({"seqId": said[said.len() - 11].1})).data();
    let left = stays_api.get(&format!("/api/conversations/unread?conversationId={group}")).data();
    let unread_rows = said[said.len() - 10..].iter().filter(|(_, seq)| !recalled.contains_key(seq)).count();
    assert_eq!(left["unreadCount"], unread_rows);
}

//! Groups under a load that survives its server: an owner who removes and adds a member in turn, says something between,
//! and recalls some of it; a member who stays and talks; the one who comes and goes; and the audit of all three.

use super::chat::{Session, Talker};
use super::load::{Whereabouts, talk};
use super::{Answer, Api, STUCK, Seeded, Server, User, history, make_group, register};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One group and everything its members were told.
pub struct Group {
    id: String,
    members: usize,
    owner: User,
    coming_and_going: User,
    stayer: Arc<Mutex<Talker>>,
    notes: Mutex<Notes>,
    pub rounds: AtomicUsize,
}

#[derive(Default)]
struct Notes {
    /// client_msg_id to message id of what the owner said.
    said: BTreeMap<String, String>,
    /// Message ids whose recall was answered.
    recalled: BTreeSet<String>,
    /// The round whose removal was answered and whose return was not asked for yet.
    away: Option<usize>,
    wrong: Vec<String>,
}

impl Group {
    /// Makes a group of so many members on a running server.
    pub fn new(api: &Api, name: &str, members: usize) -> Group {
        let users: Vec<User> = (0..members).map(|n| register(api, &format!("{name}{n}"))).collect();
        let others: Vec<&User> = users[1..].iter().collect();
        let id = make_group(api, &users[0], name, &others);
        Group {
            stayer: Arc::new(Mutex::new(Talker::new(users[1].clone(), id.clone()))),
            id,
            members,
            owner: users[0].clone(),
            coming_and_going: users[2].clone(),
            notes: Mutex::default(),
            rounds: AtomicUsize::new(0),
        }
    }

    /// Starts its three users.
    pub fn start(
        self: &Arc<Group>,
        whereabouts: &Arc<Whereabouts>,
        stop: &Arc<AtomicBool>,
        seed: u64,
    ) -> Vec<JoinHandle<()>> {
        let everything = || (self.clone(), whereabouts.clone(), stop.clone());
        let (group, at, end) = everything();
        let owner = std::thread::spawn(move || group.rule(&at, &end, Seeded::new(seed)));
        let (group, at, end) = everything();
        let talker = std::thread::spawn(move || talk(&group.stayer, &at, &end, Seeded::new(!seed)));
        let (group, at, end) = everything();
        vec![owner, talker, std::thread::spawn(move || group.listen(&at, &end))]
    }

    /// The owner's life: each round ends with everybody in the group.
    fn rule(&self, whereabouts: &Whereabouts, stop: &AtomicBool, mut random: Seeded) {
        while !stop.load(Ordering::Relaxed) {
            let round = self.rounds.load(Ordering::Relaxed) + 1;
            self.say(whereabouts, &format!("in-{round}"));
            let member = format!("/members/{}", self.coming_and_going.id);
            let gone = ["NOT_CONVERSATION_MEMBER", "USER_NOT_FOUND", "NOT_FOUND"];
            self.insist(whereabouts, "DELETE", &member, Value::Null, &gone);
            self.notes.lock().unwrap().away = Some(round);
            self.say(whereabouts, &format!("away-{round}"));
            if random.within(0..2) == 0 {
                self.recall(whereabouts, &mut random);
            }
            self.notes.lock().unwrap().away = None;
            let body = json!({"members": [self.coming_and_going.id]});
            self.insist(whereabouts, "POST", "/members", body, &["USER_ALREADY_IN_CONVERSATION"]);
            self.say(whereabouts, &format!("back-{round}"));
            self.recall(whereabouts, &mut random);
            self.rounds.store(round, Ordering::Relaxed);
        }
    }

    fn say(&self, whereabouts: &Whereabouts, id: &str) {
        let id = format!("{}-{id}", self.owner.name);
        let body = json!({"messageType": 1, "content": format!("content of {id}"), "client_msg_id": id});
        if let Some(answer) = self.insist(whereabouts, "POST", "/messages", body, &[]) {
            let message = answer.data()["id"].as_str().unwrap().to_owned();
            self.notes.lock().unwrap().said.insert(id, message);
        }
    }

    /// Recalls one of what was said, the newest more often than its share: that one may not be stored yet.
    fn recall(&self, whereabouts: &Whereabouts, random: &mut Seeded) {
        let message = {
            let notes = self.notes.lock().unwrap();
            let mut open: Vec<&String> = notes.said.values().filter(|id| !notes.recalled.contains(*id)).collect();
            open.sort_by_key(|id| id.parse::<u64>().unwrap());
            let at = if random.within(0..2) == 0 { 1 } else { 1 + random.within(0..open.len() as u64) as usize };
            open[open.len() - at].clone()
        };
        self.insist(whereabouts, "DELETE", &format!("/messages/{message}"), Value::Null, &["MESSAGE_RECALLED"]);
        self.notes.lock().unwrap().recalled.insert(message);
    }

    /// Asks as the owner until there is an answer. A code in `done` says that an earlier try had its effect: `None`.
    fn insist(
        &self,
        whereabouts: &Whereabouts,
        method: &str,
        path: &str,
        body: Value,
        done: &[&str],
    ) -> Option<Answer> {
        let path = format!("/api/conversations/{}{path}", self.id);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        loop {
            let api = Api::new(whereabouts.wait()).as_user(&self.owner.token);
            if let Ok(answer) = api.send(method, &path, &body) {
                if answer.body["success"] == true {
                    return Some(answer);
                }
                let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
                if done.contains(&code.as_str()) {
                    return None;
                }
                if !["SERVICE_UNAVAILABLE", "RATE_LIMITED", "TIMEOUT"].contains(&code.as_str()) {
                    self.notes.lock().unwrap().wrong.push(format!("{method} {path} was answered {answer:?}"));
                    return None;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The one who comes and goes is connected all the time: what was sent after the removal was answered never arrives
    /// before the return was asked for.
    fn listen(&self, whereabouts: &Whereabouts, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let Ok(mut session) = Session::connect(whereabouts.wait(), &self.coming_and_going.token) else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            while !stop.load(Ordering::Relaxed) {
                match session.frame(Duration::from_millis(200)) {
                    Ok(Some(frame)) if frame["type"] == "new-message" => self.heard(&frame["data"]),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }

    fn heard(&self, data: &Value) {
        let mut notes = self.notes.lock().unwrap();
        let away = notes.away.map(|round| format!("content of {}-away-{round}", self.owner.name));
        if away.is_some_and(|content| data["content"] == content.as_str()) {
            notes.wrong.push(format!("a removed member received {data}"));
        }
    }

    /// Holds what every member was told against what each of them sees now. Gives the number of messages.
    pub fn audit(&self, server: &Server, wrong: &mut Vec<String>) -> usize {
        let api = Api::new(server.http);
        let mut notes = self.notes.lock().unwrap();
        wrong.append(&mut notes.wrong);
        let all = self.settled_history(&api);
        let numbers: Vec<i64> = all.iter().map(|m| m["seqId"].as_i64().unwrap()).collect();
        if !numbers.is_sorted_by(|a, b| a < b) {
            wrong.push(format!("the history of {} is not in order", self.id));
        }
        self.audit_said(&all, &notes, wrong);
        self.audit_stayer(&all, wrong);
        let expected: Vec<(&str, usize)> =
            ["member-removed", "member-added"].map(|kind| (kind, self.rounds.load(Ordering::Relaxed))).to_vec();
        for (kind, count) in expected {
            let found = of_kind(&all, kind).count();
            if found != count {
                wrong.push(format!("{found} rows of {kind} in {}, not {count}", self.id));
            }
        }
        if history(&api, &self.coming_and_going, &self.id, 0) != all {
            wrong.push(format!("who came back to {} sees another history than who stayed", self.id));
        }
        let detail = api.as_user(&self.owner.token).get(&format!("/api/conversations/{}", self.id)).data();
        if detail["memberCount"].as_u64() != Some(self.members as u64) {
            wrong.push(format!("{} has {} members, not {}", self.id, detail["memberCount"], self.members));
        }
        all.len()
    }

    /// The history once the last round's system messages are in it: they follow their change by themselves.
    fn settled_history(&self, api: &Api) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let all = history(api, &self.owner, &self.id, 0);
            let is_settled = of_kind(&all, "member-added").count() >= self.rounds.load(Ordering::Relaxed);
            if is_settled || started.elapsed() > STUCK {
                return all;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn audit_said(&self, all: &[Value], notes: &Notes, wrong: &mut Vec<String>) {
        for (id, message) in &notes.said {
            let rows: Vec<&Value> = all.iter().filter(|m| m["clientMsgId"] == id.as_str()).collect();
            let [row] = rows[..] else {
                wrong.push(format!("{id} stands {} times in history", rows.len()));
                continue;
            };
            let recalls = of_kind(all, "recall").filter(|extra| extra["messageId"] == message.as_str()).count();
            let is_recalled = notes.recalled.contains(message);
            let content = if is_recalled { String::new() } else { format!("content of {id}") };
            let expected = (message.as_str(), content.as_str(), is_recalled, usize::from(is_recalled));
            let (text, deleted) = (row["content"].as_str().unwrap_or_default(), row["deleted"] == true);
            let is = (row["id"].as_str().unwrap_or_default(), text, deleted, recalls);
            if is != expected {
                wrong.push(format!("(id, content, deleted, recalls) of {id} is {is:?}, not {expected:?}"));
            }
        }
        let recalls = of_kind(all, "recall").count();
        if recalls != notes.recalled.len() {
            wrong.push(format!("{recalls} recalls in {}, not {}", self.id, notes.recalled.len()));
        }
        let deleted = all.iter().filter(|m| m["deleted"] == true).count();
        if deleted != notes.recalled.len() {
            wrong.push(format!("{deleted} recalled messages in {}, not {}", self.id, notes.recalled.len()));
        }
    }

    fn audit_stayer(&self, all: &[Value], wrong: &mut Vec<String>) {
        let talker = self.stayer.lock().unwrap();
        wrong.extend(talker.wrong.iter().cloned());
        let mut rows: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for message in all.iter().filter(|m| m["senderId"] == talker.user.id.as_str() && m["messageType"] == 1) {
            rows.entry(message["clientMsgId"].as_str().unwrap_or_default()).or_default().push(message);
        }
        for n in 1..=talker.sent() {
            let id = format!("{}-{n}", talker.user.name);
            let found = rows.remove(id.as_str()).unwrap_or_default();
            let is_told = |row: &Value| {
                talker.acked.get(&id).is_some_and(|ack| row["id"] == ack.message_id.as_str() && row["seqId"] == ack.seq)
            };
            match found[..] {
                [row] if is_told(row) && row["content"] == format!("content of {id}").as_str() => {}
                _ => wrong.push(format!("{id} stands as {found:?}, acknowledged as {:?}", talker.acked.get(&id))),
            }
        }
        wrong.extend(rows.keys().map(|id| format!("{id} is in history and was never sent")));
    }

    /// Reads up to somewhere, and counts what is left: whole messages of others that were not recalled.
    pub fn audit_unread(&self, server: &Server, wrong: &mut Vec<String>) {
        let api = Api::new(server.http);
        let all = history(&api, &self.owner, &self.id, 0);
        let others = |m: &&Value| {
            m["senderId"] != self.stayer.lock().unwrap().user.id.as_str()
                && m["deleted"] != true
                && m["messageType"] != 4
        };
        let others: Vec<&Value> = all.iter().filter(others).collect();
        let api = api.as_user(&self.stayer.lock().unwrap().user.token.clone());
        for left in [30.min(others.len() - 1), 1, 0] {
            let upto = others[others.len() - 1 - left]["seqId"].as_i64().unwrap();
            let read = api.put(&format!("/api/conversations/{}/read", self.id), &json!({"seqId": upto})).data();
            let counted = api.get(&format!("/api/conversations/unread?conversationId={}", self.id)).data();
            if read["unreadCount"].as_u64() != Some(left as u64) || counted["unreadCount"] != read["unreadCount"] {
                wrong.push(format!("{left} unread behind {upto} in {}, told {read} and {counted}", self.id));
            }
        }
    }
}

/// What the rows of messages of type 4 say that are of this kind.
fn of_kind<'a>(all: &'a [Value], kind: &'a str) -> impl Iterator<Item = Value> + 'a {
    let extras = all.iter().filter(|m| m["messageType"] == 4).map(|m| match &m["extra"] {
        Value::String(text) => serde_json::from_str(text).unwrap(),
        other => other.clone(),
    });
    extras.filter(move |extra: &Value| extra["type"] == kind)
}

//! Pairs of talkers who keep 16 messages in flight over as many sessions as the server's deaths make necessary, a
//! watcher who holds every `complete: true` against what was acknowledged before it asked, some groups, and the final
//! audit.

use super::chat::{Ended, Session, Talker};
use super::groups::Group;
use super::{Api, STUCK, Seeded, Server, open_chat, register};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages a sender keeps unacknowledged.
const WINDOW: usize = 16;
/// Clients that hold complete answers against what was acknowledged.
const WATCHERS: u64 = 4;

/// Where the server is right now, if it is.
#[derive(Default)]
pub struct Whereabouts {
    at: Mutex<Option<SocketAddr>>,
    changed: Condvar,
}

impl Whereabouts {
    fn set(&self, at: Option<SocketAddr>) {
        *self.at.lock().unwrap() = at;
        self.changed.notify_all();
    }

    pub(super) fn wait(&self) -> SocketAddr {
        let guard = self.at.lock().unwrap();
        let (guard, _) = self.changed.wait_timeout_while(guard, STUCK * 2, |at| at.is_none()).unwrap();
        guard.expect("the server did not come back")
    }
}

/// A load that survives its server.
pub struct Load {
    talkers: Vec<Arc<Mutex<Talker>>>,
    groups: Vec<Arc<Group>>,
    threads: Vec<JoinHandle<()>>,
    whereabouts: Arc<Whereabouts>,
    stop: Arc<AtomicBool>,
    completes: Arc<AtomicU64>,
}

impl Load {
    /// Registers `pairs` pairs of users on a running server and lets them talk.
    pub fn start(server: &Server, pairs: u32, seed: u64) -> Load {
        let api = Api::new(server.http);
        let mut load = Load {
            talkers: Vec::new(),
            groups: Vec::new(),
            threads: Vec::new(),
            whereabouts: Arc::default(),
            stop: Arc::default(),
            completes: Arc::default(),
        };
        for pair in 0..pairs {
            let ann = register(&api, &format!("ann{pair}"));
            let bob = register(&api, &format!("bob{pair}"));
            let conversation = open_chat(&api, &ann, &bob);
            for user in [ann, bob] {
                load.talkers.push(Arc::new(Mutex::new(Talker::new(user, conversation.clone()))));
            }
        }
        // Of the small ones the members are pushed to one by one, of the large one each gateway knows them.
        for (name, members) in [("small", 3), ("other", 3), ("large", 22)] {
            load.groups.push(Arc::new(Group::new(&api, name, members)));
        }
        load.whereabouts.set(Some(server.http));
        for (n, group) in load.groups.iter().enumerate() {
            load.threads.extend(group.start(&load.whereabouts, &load.stop, seed.rotate_left(7 + n as u32)));
        }
        for (n, talker) in load.talkers.iter().enumerate() {
            let (talker, whereabouts, stop) = (talker.clone(), load.whereabouts.clone(), load.stop.clone());
            let random = Seeded::new(seed ^ (n as u64 + 1) << 32);
            load.threads.push(std::thread::spawn(move || talk(&talker, &whereabouts, &stop, random)));
        }
        for n in 0..WATCHERS {
            let (talkers, whereabouts, stop) = (load.talkers.clone(), load.whereabouts.clone(), load.stop.clone());
            let (completes, random) = (load.completes.clone(), Seeded::new(!seed ^ n));
            load.threads.push(std::thread::spawn(move || watch(&talkers, &whereabouts, &stop, &completes, random)));
        }
        load
    }

    /// The server is gone.
    pub fn server_gone(&self) {
        self.whereabouts.set(None);
    }

    /// The server is back.
    pub fn server_back(&self, server: &Server) {
        self.whereabouts.set(Some(server.http));
    }

    /// Acknowledgements so far.
    pub fn acked(&self) -> usize {
        self.talkers.iter().map(|talker| talker.lock().unwrap().acked.len()).sum()
    }

    /// Waits for so many further acknowledgements.
    pub fn wait_for_acks(&self, more: usize) {
        let (goal, started) = (self.acked() + more, Instant::now());
        while self.acked() < goal {
            assert!(started.elapsed() < STUCK, "no acknowledgements: {} of {goal}", self.acked());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// No fresh messages from now on; waits until everything sent is acknowledged, then holds what every client was
    /// told against history. Panics with all contradictions.
    pub fn finish_and_audit(mut self, server: &Server) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let mut wrong = Vec::new();
        let mut messages = 0;
        for pair in self.talkers.chunks(2) {
            let [a, b] = [pair[0].lock().unwrap(), pair[1].lock().unwrap()];
            let api = Api::new(server.http).as_user(&a.user.token);
            let history = full_history(&api, &a.conversation);
            messages += history.len();
            audit(&history, &a, &b, &mut wrong);
        }
        for group in &self.groups {
            messages += group.audit(server, &mut wrong);
            group.audit_unread(server, &mut wrong);
        }
        assert!(
            wrong.is_empty(),
            "{} contradictions, the first:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n")
        );
        let rounds: usize = self.groups.iter().map(|group| group.rounds.load(Ordering::Relaxed)).sum();
        let completes = self.completes.load(Ordering::Relaxed);
        eprintln!(
            "audited {messages} messages of {} conversations, {completes} complete answers, {rounds} removals and returns",
            self.talkers.len() / 2 + self.groups.len()
        );
    }
}

/// A talker's life over many sessions.
pub(super) fn talk(talker: &Mutex<Talker>, whereabouts: &Whereabouts, stop: &AtomicBool, mut random: Seeded) {
    loop {
        let done = || stop.load(Ordering::Relaxed) && talker.lock().unwrap().unacked.is_empty();
        if done() {
            return;
        }
        let (http, token) = (whereabouts.wait(), talker.lock().unwrap().user.token.clone());
        let Ok(mut session) = Session::connect(http, &token) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        talker.lock().unwrap().session_began();
        let _ = converse(&mut session, talker, stop, &mut random);
    }
}

/// One session. Unacknowledged messages of earlier ones are resent at once or after many others, as chance has it.
fn converse(
    session: &mut Session,
    talker: &Mutex<Talker>,
    stop: &AtomicBool,
    random: &mut Seeded,
) -> Result<(), Ended> {
    let mut late = talker.lock().unwrap().unacked.clone();
    let mut resend_after = [0_u32, 0, 200, 3000][random.within(0..4) as usize];
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        if resend_after == 0 || stopping {
            for id in std::mem::take(&mut late) {
                let frame = talker.lock().unwrap().again(&id);
                session.send(&frame)?;
            }
        }
        let in_flight = || talker.lock().unwrap().unacked.len().saturating_sub(late.len());
        while !stopping && in_flight() < WINDOW {
            let frame = talker.lock().unwrap().fresh();
            resend_after = resend_after.saturating_sub(1);
            session.send(&frame)?;
        }
        if stopping && talker.lock().unwrap().unacked.is_empty() {
            return Ok(());
        }
        // A message that was refused, or whose answer went missing, is sent again.
        match session.frame(Duration::from_secs(5))? {
            Some(frame) => talker.lock().unwrap().hear(&frame),
            None => late = talker.lock().unwrap().unacked.clone(),
        }
    }
}

/// Asks for history from random points; an answer that says `complete` must hold every message that was acknowledged
/// before the question.
fn watch(
    talkers: &[Arc<Mutex<Talker>>],
    whereabouts: &Whereabouts,
    stop: &AtomicBool,
    completes: &AtomicU64,
    mut random: Seeded,
) {
    while !stop.load(Ordering::Relaxed) {
        let talker = &talkers[random.within(0..talkers.len() as u64) as usize];
        let (token, conversation, known) = {
            let talker = talker.lock().unwrap();
            (talker.user.token.clone(), talker.conversation.clone(), talker.acked.clone())
        };
        let top = known.values().map(|ack| ack.seq).max().unwrap_or(0);
        // From close behind what is known, so that the answer can catch up with the load, now and then from further away.
        let reach = if random.within(0..4) == 0 { 400 } else { 40 };
        let behind = random.within(0..reach) as i64;
        let after = (top - behind).max(0);
        let api = Api::new(whereabouts.wait()).as_user(&token);
        if let Some((history, true)) = history_after(&api, &conversation, after) {
            completes.fetch_add(1, Ordering::Relaxed);
            let held: BTreeMap<_, _> = history.iter().map(|m| (m.client_msg_id.as_str(), m.seq)).collect();
            for (id, ack) in known.iter().filter(|(_, ack)| ack.seq > after) {
                if !held.contains_key(id.as_str()) {
                    let text = format!("complete after {after}, yet without {id} acknowledged as {ack:?}");
                    talker.lock().unwrap().wrong.push(text);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One message of history.
struct Stored {
    id: String,
    seq: i64,
    client_msg_id: String,
    sender_id: String,
    content: String,
}

/// Everything after a number and whether the server calls it complete; `None` when the server went away.
fn history_after(api: &Api, conversation: &str, mut after: i64) -> Option<(Vec<Stored>, bool)> {
    let mut messages = Vec::new();
    loop {
        let path = format!("/api/conversations/{conversation}/messages?after_seq={after}&limit=100");
        let answer = api.try_get(&path).ok()?;
        if answer.status != 200 {
            return None;
        }
        let page = answer.data();
        let items = page["messages"].as_array().unwrap().clone();
        messages.extend(items.iter().map(stored));
        if page["hasMore"] != true {
            return Some((messages, page["complete"] == true));
        }
        after = page["nextCursor"].as_i64().unwrap();
    }
}

fn stored(message: &Value) -> Stored {
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    Stored {
        id: text("id"),
        seq: message["seqId"].as_i64().unwrap(),
        client_msg_id: text("clientMsgId"),
        sender_id: text("senderId"),
        content: text("content"),
    }
}

fn full_history(api: &Api, conversation: &str) -> Vec<Stored> {
    let started = Instant::now();
    loop {
        match history_after(api, conversation, 0) {
            Some((messages, true)) => return messages,
            _ => assert!(started.elapsed() < STUCK, "history of {conversation} never becomes complete"),
        }
    }
}

fn audit(history: &[Stored], a: &Talker, b: &Talker, wrong: &mut Vec<String>) {
    let mut by_client_id: BTreeMap<&str, Vec<&Stored>> = BTreeMap::new();
    for pair in history.windows(2) {
        if pair[0].seq >= pair[1].seq {
            wrong.push(format!("history goes from seq {} to {}", pair[0].seq, pair[1].seq));
        }
    }
    for message in history {
        by_client_id.entry(&message.client_msg_id).or_default().push(message);
    }
    for talker in [a, b] {
        wrong.extend(talker.wrong.iter().cloned());
        for n in 1..=talker.sent() {
            let id = format!("{}-{n}", talker.user.name);
            let rows = by_client_id.remove(id.as_str()).unwrap_or_default();
            let [row] = rows[..] else {
                wrong.push(format!("{id} stands {} times in history", rows.len()));
                continue;
            };
            if row.content != format!("content of {id}") || row.sender_id != talker.user.id {
                wrong.push(format!("{id} is stored as {:?} of {}", row.content, row.sender_id));
            }
            match talker.acked.get(&id) {
                Some(ack) if ack.message_id == row.id && ack.seq == row.seq => {}
                ack => wrong.push(format!("{id} is stored as {} seq {}, acknowledged as {ack:?}", row.id, row.seq)),
            }
        }
    }
    wrong.extend(by_client_id.keys().map(|id| format!("{id} is in history and was never sent")));
    let seq_of: BTreeMap<_, _> = history.iter().map(|m| (m.seq, m.client_msg_id.as_str())).collect();
    for (seq, id) in a.received.iter().chain(&b.received) {
        if seq_of.get(seq).is_some_and(|stored| stored != id) {
            wrong.push(format!("seq {seq} was delivered as {id} and is stored as {}", seq_of[seq]));
        }
    }
}

/// Starts a server and a load, kills the server `deaths` times at random moments, then audits. `between` runs while the
/// server is dead.
pub fn run_with_deaths(dir: &Path, flags: &[&str], deaths: u32, pairs: u32, seed: u64, mut between: impl FnMut()) {
    let mut random = Seeded::new(seed);
    let mut server = Server::start_with(dir, flags);
    let load = Load::start(&server, pairs, seed);
    for death in 1..=deaths {
        load.wait_for_acks(50);
        std::thread::sleep(Duration::from_millis(random.within(0..400)));
        load.server_gone();
        server.kill();
        between();
        server = Server::start_with(dir, flags);
        load.server_back(&server);
        eprintln!("death {death} of {deaths}, {} acknowledged", load.acked());
    }
    load.wait_for_acks(50);
    load.finish_and_audit(&server);
}

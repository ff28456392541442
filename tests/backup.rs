//! Backup and restore against the real binary: nothing acknowledged before a backup began is missing from what is
//! restored, whatever was going on meanwhile, and whatever is wrong is refused before anything is touched.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Api, Server, User, history, make_group, open_chat, register, say};

fn gochat(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gochat")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn done(args: &[&str]) -> String {
    let out = gochat(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// One line of reasons that holds every word, exit code 1.
fn refused(out: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    let line = text.lines().rfind(|line| line.starts_with("gochat: ")).unwrap_or_else(|| panic!("no reason: {text}"));
    for word in words {
        assert!(line.contains(word), "{line:?} does not say {word:?}");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Messages by (conversation, client id): message id and number.
type Acked = BTreeMap<(String, String), (String, i64)>;

/// Pairs that talk as fast as their messages are acknowledged.
struct Talk {
    stop: Arc<AtomicBool>,
    acked: Arc<Mutex<Acked>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Talk {
    fn start(api: &Api, chats: &[(User, String)]) -> Talk {
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Acked::new())));
        let talk = |(user, chat): &(User, String)| {
            let (api, user, chat) = (api.clone(), user.clone(), chat.clone());
            let (stop, acked) = (stop.clone(), acked.clone());
            std::thread::spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("{}-{n}", user.name);
                    let sent = say(&api, &user, &chat, &id, &format!("content of {id}"));
                    acked.lock().unwrap().insert((chat.clone(), id), place_of(&sent));
                }
            })
        };
        let threads = chats.iter().map(talk).collect();
        Talk { stop, acked, threads }
    }

    fn wait_for(&self, more: usize) {
        let before = self.acked.lock().unwrap().len();
        while self.acked.lock().unwrap().len() < before + more {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn so_far(&self) -> Acked {
        self.acked.lock().unwrap().clone()
    }

    fn end(self) -> Acked {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.acked.lock().unwrap().clone()
    }
}

/// Users and groups that come to exist all the time, each with a message: a backup whose log named one that its database
/// does not know could not be stored.
struct Newcomers {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Newcomers {
    fn start(api: &Api, host: &User) -> Newcomers {
        let (api, host, stop) = (api.clone(), host.clone(), Arc::new(AtomicBool::new(false)));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut made = 0;
            while !stopping.load(Ordering::Relaxed) {
                let guest = support::guest(&api);
                say(&api, &guest, &open_chat(&api, &host, &guest), "1", "I am new here");
                say(&api, &host, &make_group(&api, &host, "new", &[]), "1", "nobody here");
                made += 1;
            }
            made
        });
        Newcomers { stop, thread }
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Id and number of a message that an answer shows.
fn place_of(message: &Value) -> (String, i64) {
    let id = message["id"].as_str().or(message["messageId"].as_str()).unwrap();
    (id.to_owned(), message["seqId"].as_i64().unwrap())
}

fn stored(api: &Api, user: &User, chat: &str) -> BTreeMap<String, (String, i64)> {
    let messages = history(api, user, chat, 0);
    messages.iter().map(|message| (message["clientMsgId"].as_str().unwrap().to_owned(), place_of(message))).collect()
}

fn unread(api: &Api, user: &User, chat: &str) -> i64 {
    let page = api.as_user(&user.token).get("/api/conversations?limit=100").data();
    let all = page["conversations"].as_array().unwrap();
    all.iter().find(|one| one["id"] == chat).unwrap()["unreadCount"].as_i64().unwrap()
}

#[test]
fn what_was_acknowledged_before_a_backup_under_load_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &["--limits", "off"]);
    let api = Api::new(server.http);
    let users: Vec<User> = (0..6).map(|n| register(&api, &format!("user{n}"))).collect();
    let chats: Vec<(User, String)> =
        users.chunks(2).map(|pair| (pair[0].clone(), open_chat(&api, &pair[0], &pair[1]))).collect();
    // What a backup must keep besides messages: a role, a read mark, what is unread after it, a recall.
    let group = make_group(&api, &users[0], "crew", &[&users[1], &users[2]]);
    let role = json!({"role": 2});
    let members = format!("/api/conversations/{group}/members");
    let given = api.as_user(&users[0].token).put(&format!("{members}/{}", users[1].id), &role);
    assert_eq!(given.status, 200, "{given:?}");
    let said: Vec<_> =
        (0..7).map(|n| place_of(&say(&api, &users[0], &group, &format!("g{n}"), "to the crew"))).collect();
    let read = json!({"seqId": said[3].1});
    assert_eq!(api.as_user(&users[1].token).put(&format!("/api/conversations/{group}/read"), &read).status, 200);
    done(&["world", "role", "user5", "owner", "--data-dir", path(&data)]);

    let talk = Talk::start(&api, &chats);
    let newcomers = Newcomers::start(&api, &users[0]);
    let mut backups: Vec<(PathBuf, Acked, usize)> = Vec::new();
    for round in 0..3 {
        talk.wait_for(60);
        let before = talk.so_far();
        let dest = dir.path().join(format!("backup{round}"));
        let text = done(&["backup", path(&dest), "--data-dir", path(&data)]);
        assert!(text.contains(path(&dest)), "{text}");
        let after = talk.so_far().len();
        assert!(done(&["backup", "verify", path(&dest)]).contains("whole"));
        backups.push((dest, before, after));
    }
    talk.wait_for(60);
    let all = talk.end();
    assert!(newcomers.end() > 3);
    server.kill();
    assert!(backups.iter().any(|(_, before, after)| *after > before.len()), "nothing was sent while one was made");

    let highest: BTreeMap<&str, i64> = all.iter().fold(BTreeMap::new(), |mut highest, ((chat, _), (_, seq))| {
        let top = highest.entry(chat.as_str()).or_insert(0);
        *top = (*top).max(*seq);
        highest
    });
    for (round, (backup, before, _)) in backups.iter().enumerate() {
        let restored = dir.path().join(format!("restored{round}"));
        let text = done(&["restore", path(backup), "--data-dir", path(&restored)]);
        assert!(text.contains("newer messages"), "{text}");
        let server = Server::start_with(&restored, &["--limits", "off"]);
        let api = Api::new(server.http);
        for (user, chat) in &chats {
            let held = stored(&api, user, chat);
            for ((_, id), place) in before.iter().filter(|((c, _), _)| c == chat) {
                assert_eq!(held.get(id), Some(place), "{id}, acknowledged before the backup began");
            }
            for (id, place) in &held {
                // What was on its way at that moment is numbered when the restored server starts: like anything new.
                let as_acknowledged = all.get(&(chat.clone(), id.clone())) == Some(place);
                assert!(as_acknowledged || place.1 > highest[chat.as_str()], "{id} is stored as {place:?}");
            }
            let sent = place_of(&say(&api, user, chat, "after", "the restore"));
            assert!(sent.1 > highest[chat.as_str()], "a client that saw {} misses {}", highest[chat.as_str()], sent.1);
        }
        assert_eq!(unread(&api, &users[1], &group), 3);
        let roles = api.as_user(&users[1].token).get(&format!("{members}?limit=100")).data();
        let of = |user: &User| {
            roles["members"].as_array().unwrap().iter().find(|m| m["userId"] == user.id.as_str()).unwrap()["role"]
                .as_i64()
        };
        assert_eq!([0, 1, 2].map(|n| of(&users[n])), [Some(3), Some(2), Some(1)]);
        assert_eq!(
            api.as_user(&users[5].token).get("/api/conversations/world/members").status,
            200,
            "the owner's right"
        );
        let report = gochat(&[
            "doctor",
            "--json",
            "--data-dir",
            path(&restored),
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]);
        assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn a_backup_without_a_server_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    let chat = open_chat(&api, &ann, &bob);
    let sent: Vec<_> = (0..40).map(|n| place_of(&say(&api, &ann, &chat, &n.to_string(), "x"))).collect();
    server.kill();
    let backup = dir.path().join("backup");
    done(&["backup", path(&backup), "--data-dir", path(&data)]);
    for entry in std::fs::read_dir(&backup).unwrap().map(|entry| entry.unwrap()) {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
    }
    let restored = dir.path().join("new/place");
    done(&["restore", path(&backup), "--data-dir", path(&restored)]);
    let server = Server::start(&restored);
    let api = Api::new(server.http);
    let held = stored(&api, &bob, &chat);
    assert_eq!(held.len(), 40);
    assert!(sent.iter().all(|place| held.values().any(|other| other == place)));
    assert_eq!(unread(&api, &bob, &chat), 40);
    // And the one that was copied goes on.
    drop(server);
    let server = Server::start(&data);
    assert_eq!(stored(&Api::new(server.http), &ann, &chat).len(), 40);
}

#[test]
fn a_backup_replaces_nothing_and_leaves_nothing_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let back_up = |dest: &Path| gochat(&["backup", path(dest), "--data-dir", path(&data)]);
    let there = dir.path().join("there");
    std::fs::create_dir(&there).unwrap();
    refused(&back_up(&there), &[path(&there), "exists already"]);
    refused(&back_up(&dir.path().join("no/parent")), &["no"]);
    refused(&back_up(&data.join("backup")), &["data directory"]);
    let left = dir.path().join("new.partial");
    std::fs::create_dir(&left).unwrap();
    refused(&back_up(&dir.path().join("new")), &[path(&left), "remove it"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing was made");
    std::fs::remove_dir(&left).unwrap();

    // Nobody waits for it any more: what was begun goes away, or it was finished before.
    let dest = dir.path().join("given-up");
    let mut child = start(&["backup", path(&dest), "--data-dir", path(&data)]);
    std::thread::sleep(Duration::from_millis(15));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(back_up(&dir.path().join("next")).status.success() || back_up_later(&data, &dir.path().join("next")));
    assert!(!dir.path().join("given-up.partial").exists());
    if dest.exists() {
        done(&["backup", "verify", path(&dest)]);
    }
    drop(server);
}

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gochat"));
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Once the one that nobody waits for has ended.
fn back_up_later(data: &Path, dest: &Path) -> bool {
    std::thread::sleep(Duration::from_secs(2));
    gochat(&["backup", path(dest), "--data-dir", path(data)]).status.success()
}

#[test]
fn what_is_damaged_or_foreign_is_refused_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    let chat = open_chat(&api, &ann, &bob);
    say(&api, &ann, &chat, "1", "kept");
    history(&api, &ann, &chat, 0);
    let backup = dir.path().join("backup");
    done(&["backup", path(&backup), "--data-dir", path(&data)]);

    let target = dir.path().join("target");
    let restore = |src: &Path, to: &Path| gochat(&["restore", path(src), "--data-dir", path(to)]);
    let each_refused = |words: &[&str]| {
        refused(&restore(&backup, &target), words);
        refused(&gochat(&["backup", "verify", path(&backup)]), words);
        assert!(!target.exists(), "nothing was made");
    };
    for name in ["MANIFEST", "gochat.sqlite", "signing.key", "log/000000000001.log"] {
        let file = backup.join(name);
        let whole = std::fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x40;
        std::fs::write(&file, flipped).unwrap();
        each_refused(&["damaged"]);
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        each_refused(&["damaged"]);
        std::fs::remove_file(&file).unwrap();
        each_refused(&[name]);
        std::fs::write(&file, whole).unwrap();
    }
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("MANIFEST"), "a cargo of bananas").unwrap();
    refused(&restore(&foreign, &target), &["damaged"]);
    refused(&restore(&data, &target), &["no backup"]);
    refused(&restore(&dir.path().join("absent"), &target), &["no backup"]);
    assert!(!target.exists());

    // Never over something: another installation, a running one, a file.
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("letter"), "to whom it may concern").unwrap();
    refused(&restore(&backup, &target), &["not empty"]);
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
    refused(&restore(&backup, &data), &["not empty"]);
    refused(&restore(&backup, &target.join("letter")), &["cannot be used"]);
    assert_eq!(history(&api, &ann, &chat, 0).len(), 1, "the running one is as it was");

    // Into an empty one it goes; what was cut off does not start.
    std::fs::remove_file(target.join("letter")).unwrap();
    done(&["restore", path(&backup), "--data-dir", path(&target)]);
    std::fs::write(target.join("RESTORING"), "").unwrap();
    let args = ["--data-dir", path(&target), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    refused(&gochat(&args), &["restore", "did not finish"]);
    std::fs::remove_file(target.join("RESTORING")).unwrap();
    let restored = Server::start(&target);
    assert_eq!(history(&Api::new(restored.http), &bob, &chat, 0).len(), 1);
}

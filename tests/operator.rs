//! The operator's commands against the real binary, with its server running and without: accounts, roles in the world
//! room, and what the doctor finds. Backups have a file of their own.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::chat::{Ended, Session};
use support::{Api, PASSWORD, STUCK, Server, guest, history, login, open_chat, register, say};

/// Runs a command on a data directory.
fn gochat(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gochat"));
    command.args(args).arg("--data-dir").arg(dir).stdin(Stdio::null()).output().unwrap()
}

/// The standard output of a command that succeeds.
fn done(dir: &Path, args: &[&str]) -> String {
    let out = gochat(dir, args);
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

fn log_in(api: &Api, name: &str, password: &str) -> u16 {
    api.post("/api/auth/login", &json!({"username": name, "password": password})).status
}

/// The close code that a session ends with.
fn close_code(mut session: Session) -> Option<u16> {
    loop {
        match session.frame(STUCK) {
            Ok(Some(_)) => {}
            Err(Ended::Closed(code)) => return code,
            other => panic!("it was not closed: {other:?}"),
        }
    }
}

#[test]
fn accounts_are_disabled_and_enabled_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let socket = dir.path().join("operator.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    let session = Session::connect(server.http, &ann.token).unwrap();

    assert!(done(dir.path(), &["user", "disable", "ANN"]).contains("ann"), "names have no case");
    assert_eq!(close_code(session), Some(4003));
    assert_eq!(api.as_user(&ann.token).get("/api/users/profile").status, 401);
    assert_eq!(log_in(&api, "ann", PASSWORD), 423);
    let refresh = json!({"refreshToken": ann.refresh_token});
    assert_ne!(api.post("/api/auth/refresh", &refresh).status, 200);
    assert_eq!(api.as_user(&bob.token).get("/api/users/profile").status, 200, "nobody else is touched");
    done(dir.path(), &["user", "disable", "ann"]);

    done(dir.path(), &["user", "enable", "--id", &ann.id]);
    assert_eq!(api.as_user(&ann.token).get("/api/users/profile").status, 401, "tokens of before stay void");
    let again = login(&api, "ann");
    assert_eq!(api.as_user(&again.token).get("/api/users/profile").status, 200);
    assert_eq!(server.stop(), Some(0));
    assert!(!socket.exists(), "a server that ends takes its socket away");
}

#[test]
fn a_reset_password_is_shown_once_and_ends_all_logins() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    let ann = register(&api, "ann");
    let session = Session::connect(server.http, &ann.token).unwrap();
    let password = done(dir.path(), &["user", "reset-password", "ann"]).trim().to_owned();
    assert_eq!(close_code(session), Some(4001));
    assert_eq!(api.as_user(&ann.token).get("/api/users/profile").status, 401);
    assert_eq!(log_in(&api, "ann", PASSWORD), 401);
    assert_eq!(log_in(&api, "ann", &password), 200, "{password:?}");

    let from_stdin = |line: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gochat"))
            .args(["user", "reset-password", "ann", "--password-stdin", "--data-dir"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), line.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let out = from_stdin("battery staple\nmore\n");
    assert!(out.status.success() && out.stdout.is_empty(), "what was given is not repeated");
    assert_eq!(log_in(&api, "ann", "battery staple"), 200);
    refused(&from_stdin("x\n"), &["password"]);
    refused(&from_stdin(""), &["no line"]);
    assert_eq!(log_in(&api, "ann", "battery staple"), 200, "what is refused changes nothing");
    let visitor = guest(&api);
    refused(&gochat(dir.path(), &["user", "reset-password", &visitor.name]), &["guest"]);
}

#[test]
fn accounts_are_changed_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    server.kill();
    assert!(dir.path().join("operator.sock").exists(), "left behind, and in nobody's way");
    assert!(done(dir.path(), &["user", "disable", "ann"]).contains("no server runs"));
    let password = done(dir.path(), &["user", "reset-password", "bob"]).trim().to_owned();
    let users: Value = serde_json::from_str(&done(dir.path(), &["user", "list", "--json"])).unwrap();
    let seen: Vec<_> = users["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|u| (u["username"].as_str().unwrap(), u["status"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("ann", "disabled"), ("bob", "normal")]);
    assert_eq!(users["next"], Value::Null);

    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    for (user, password) in [(&ann, PASSWORD), (&bob, PASSWORD)] {
        assert_ne!(log_in(&api, &user.name, password), 200, "{}", user.name);
        assert_eq!(api.as_user(&user.token).get("/api/users/profile").status, 401, "{}", user.name);
    }
    assert_eq!(log_in(&api, "bob", &password), 200);
}

#[test]
fn lists_are_paged_and_narrowed_with_a_server_and_without() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tokens.csv");
    let minted = |prefix: &str, count: &str| {
        done(dir.path(), &["user", "mint", "--count", count, "--prefix", prefix, "--out", out.to_str().unwrap()]);
        std::fs::read_to_string(&out).unwrap()
    };
    assert_eq!(minted("cold", "7").lines().count(), 7);
    let look = |wanted: usize| {
        let (mut names, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut args = vec!["user", "list", "--json", "--limit", "5"];
            if let Some(after) = &after {
                args.extend(["--after", after]);
            }
            let page: Value = serde_json::from_str(&done(dir.path(), &args)).unwrap();
            let users = page["users"].as_array().unwrap();
            assert!(users.len() <= 5);
            names.extend(users.iter().map(|user| user["username"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(names.len(), wanted, "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), wanted, "every one once");
    };
    look(7);
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    let tokens = minted("warm", "505");
    let line: Vec<&str> = tokens.lines().last().unwrap().split(',').collect();
    assert_eq!(line[1], "warm505", "more than one order makes");
    assert_eq!(api.as_user(line[2]).get("/api/users/profile").data()["id"], line[0]);
    assert_eq!(api.as_user(line[2]).get("/api/conversations/world").status, 200, "they join as others do");
    let visitors = [guest(&api), guest(&api)];
    look(7 + 505 + 2);
    let named = |args: &[&str]| -> Vec<String> {
        let mut all = vec!["user", "list", "--json"];
        all.extend(args);
        let page: Value = serde_json::from_str(&done(dir.path(), &all)).unwrap();
        page["users"].as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(named(&["--prefix", "cold", "--limit", "3"]), ["cold1", "cold2", "cold3"]);
    assert_eq!(named(&["--guests"]), visitors.map(|visitor| visitor.name));
    let table = done(dir.path(), &["user", "list", "--prefix", "cold"]);
    assert!(table.lines().count() == 8 && table.starts_with("ID"), "{table}");
    refused(
        &gochat(dir.path(), &["user", "mint", "--count", "1", "--prefix", "cold", "--out", "/dev/null"]),
        &["exists", "--prefix"],
    );
}

#[test]
fn roles_in_the_world_room_are_given_by_operators() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    // Members of the world room may not list it, who has a role may.
    let roles = |api: &Api, asks: &support::User| -> Option<Vec<i64>> {
        let answer = api.as_user(&asks.token).get("/api/conversations/world/members?limit=100");
        if answer.status == 403 {
            return None;
        }
        let members = answer.data()["members"].as_array().unwrap().clone();
        let of = |user: &support::User| {
            let mine = members.iter().find(|member| member["userId"] == user.id.as_str());
            mine.map_or(0, |member| member["role"].as_i64().unwrap())
        };
        Some(vec![of(&ann), of(&bob)])
    };
    assert_eq!(roles(&api, &ann), None);
    done(dir.path(), &["world", "role", "ann", "admin"]);
    assert_eq!(roles(&api, &ann), Some(vec![2, 1]));
    assert_eq!(api.as_user(&bob.token).post("/api/conversations/world/leave", &json!({})).status, 200);
    assert_eq!(roles(&api, &ann), Some(vec![2, 0]));
    done(dir.path(), &["world", "role", "bob", "owner"]);
    assert_eq!(roles(&api, &ann), Some(vec![2, 3]), "who is not there joins");
    let visitor = guest(&api);
    refused(&gochat(dir.path(), &["world", "role", &visitor.name, "admin"]), &["guest"]);
    server.kill();
    done(dir.path(), &["world", "role", "ann", "member"]);
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    assert_eq!((roles(&api, &ann), roles(&api, &bob)), (None, Some(vec![1, 3])));
}

#[test]
fn what_cannot_be_done_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("none");
    refused(&gochat(&empty, &["user", "list"]), &["no installation", empty.to_str().unwrap()]);
    assert!(!empty.exists(), "a look makes nothing");
    for args in [
        &["user", "disable"][..],
        &["user", "list", "--limit", "0"],
        &["world", "role", "ann", "king"],
        &["backup"],
        &["user"],
    ] {
        assert_eq!(gochat(dir.path(), args).status.code(), Some(2), "{args:?}");
    }
    let data = dir.path().join("data");
    let server = Server::start(&data);
    register(&Api::new(server.http), "ann");
    for (args, words) in [
        (&["user", "disable", "nobody"][..], &["nobody", "user list"][..]),
        (&["user", "enable", "--id", "12345"], &["12345"]),
        (&["user", "enable", "--id", "ann"], &["id"]),
        (&["world", "role", "nobody", "admin"], &["nobody"]),
    ] {
        refused(&gochat(&data, args), words);
    }
    // Whoever speaks another language, or none, is told so and disturbs nobody.
    use std::io::{BufRead, BufReader, Write};
    for (said, word) in [
        ("{\"version\":99,\"order\":{\"command\":\"examine\"}}\n", "version 1"),
        ("{\"version\":1,\"order\":{\"command\":\"shutdown\"}}\n", "shutdown"),
        ("hello\n", "does not understand"),
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(data.join("operator.sock")).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert!(answer.contains("failed") && answer.contains(word), "{said:?} was answered {answer:?}");
    }
    done(&data, &["user", "list"]);
}

/// Findings by the name of their check.
fn doctor(dir: &Path, flags: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut args = vec!["doctor", "--json"];
    args.extend(flags);
    let out = gochat(dir, &args);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(report["ok"] == true, out.status.success());
    (out.status.code(), report["findings"].as_array().unwrap().clone())
}

/// What fails, by the names of the checks.
fn failed(findings: &[Value]) -> Vec<&str> {
    let failed = findings.iter().filter(|finding| finding["verdict"] == "fail");
    failed.map(|finding| finding["check"].as_str().unwrap()).collect()
}

const FREE: &[&str] = &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

#[test]
fn the_doctor_finds_nothing_wrong_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert_eq!(failed(&doctor(&data, FREE).1), [""; 0]);
    assert!(!data.exists(), "a look makes nothing");
    let server = Server::start(&data);
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    let chat = open_chat(&api, &ann, &bob);
    say(&api, &ann, &chat, "1", "hello");
    let (code, findings) = doctor(&data, FREE);
    assert_eq!((code, failed(&findings)), (Some(0), vec![]), "{findings:?}");
    let said =
        |check: &str| findings.iter().find(|f| f["check"] == check).unwrap()["says"].as_str().unwrap().to_owned();
    assert!(said("server").contains(&server.pid().to_string()));
    assert!(said("lock").contains(&server.pid().to_string()));
    assert!(said("port of clients").contains(&server.http.to_string()));
    let text = done(&data, &[&["doctor"], FREE].concat());
    assert!(text.lines().any(|line| line.starts_with("ok") && line.contains("database")), "{text}");
    history(&api, &ann, &chat, 0);
    assert_eq!(server.stop(), Some(0));
    let before = listing(&data);
    let (code, findings) = doctor(&data, FREE);
    assert_eq!((code, failed(&findings)), (Some(0), vec![]), "{findings:?}");
    assert_eq!(listing(&data), before, "a look changes nothing");
}

/// Names, sizes and times of change of all files, but for the index that SQLite keeps in shared memory.
fn listing(dir: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            files.extend(listing(&entry.path()));
        } else {
            files.push((entry.path().display().to_string(), metadata.len(), metadata.modified().unwrap()));
        }
    }
    files.retain(|(name, ..)| !name.ends_with("-shm"));
    files.sort();
    files
}

#[test]
fn the_doctor_finds_planted_faults() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let server = Server::start(data);
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    let chat = open_chat(&api, &ann, &bob);
    say(&api, &ann, &chat, "1", "hello");
    history(&api, &ann, &chat, 0);
    let other = doctor(&dir.path().join("other"), &["--listen", &server.http.to_string(), "--admin", "127.0.0.1:0"]).1;
    assert_eq!(failed(&other), ["port of clients"]);
    assert!(other.iter().any(|f| f["says"].as_str().unwrap().contains("by a gochat")), "{other:?}");
    assert_eq!(server.stop(), Some(0));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, findings) = doctor(data, &["--listen", "127.0.0.1:0", "--admin", &address]);
    assert_eq!((code, failed(&findings)), (Some(1), vec!["port of the admin"]));
    assert!(findings.iter().any(|f| f["remedy"].as_str().unwrap_or_default().contains("ss -ltnp")));

    let file = data.join("gochat.toml");
    std::fs::write(&file, "[ws]\nconections_max = 5\n").unwrap();
    let findings = doctor(data, &["--config", file.to_str().unwrap()]).1;
    assert_eq!(failed(&findings), ["configuration"]);
    std::fs::remove_file(&file).unwrap();

    for (name, check) in [("signing.key", "signing key"), ("gochat.sqlite", "database file")] {
        std::fs::set_permissions(data.join(name), PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(failed(&doctor(data, FREE).1), [check]);
        std::fs::set_permissions(data.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }

    park(data);
    assert_eq!(failed(&doctor(data, FREE).1), ["parked records"]);
    let server = Server::start(data);
    assert_eq!(failed(&doctor(data, FREE).1), ["parked records"], "the same while a server runs");
    server.kill();

    std::fs::rename(data.join("log"), data.join("log.away")).unwrap();
    assert_eq!(failed(&doctor(data, FREE).1), ["parked records", "log and database"]);
    std::fs::rename(data.join("log.away"), data.join("log")).unwrap();
    let segment = data.join("log/000000000001.log");
    let whole = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, b"this was a log once").unwrap();
    assert_eq!(failed(&doctor(data, FREE).1), ["parked records", "log"]);
    std::fs::write(&segment, whole).unwrap();
    std::fs::write(data.join("gochat.sqlite"), b"this was a database once, and a longer one").unwrap();
    assert!(failed(&doctor(data, FREE).1).contains(&"database"));
}

/// Puts a record into the store that could not be stored.
fn park(data: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = gochat_repo::SqliteConfig::new(data.join("gochat.sqlite"));
        let store = gochat_repo::open_sqlite(config).await.unwrap();
        let parked = gochat_repo::store::pipeline::Parked {
            partition: 0,
            log_offset: 1,
            conversation: "world".to_owned(),
            message_id: 0,
            reason: "planted".to_owned(),
            message: Default::default(),
            parked_at_ms: 1,
        };
        let mut tx = store.begin_persist(0, 1).await.unwrap();
        tx.park(&[parked]).await.unwrap();
        tx.commit().await.unwrap();
    });
}

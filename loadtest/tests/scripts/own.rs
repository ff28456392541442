//! Descriptions of one's own: headers and targets by connection, binary frames, sequence numbers, heartbeats, and mistakes.

use std::path::Path;

use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::Verdict;
use serde_json::{Value, json};

use crate::load;
use crate::server::{Fault, Protocol, serve};

/// Numbers every message; sends the fifth a second time, marked as such, changes the ninth, and numbers the eleventh as an
/// earlier one.
const COUNTING: Protocol = Protocol {
    target: "/counting?a=1",
    subprotocol: None,
    greeting: None,
    heard: |room, me, text| {
        let said: Value = serde_json::from_str(text).unwrap();
        match said["type"].as_str().unwrap() {
            "beat" => room.beats.push(me),
            "join" => {
                room.join(me, "all");
                room.say(me, r#"{"type":"noise"}"#);
                room.say(me, r#"{"type":"joined"}"#);
            }
            _ => {
                let count = room.count + 1;
                let seq = if count == 11 { 3 } else { count };
                let text = if count == 9 { &json!("other") } else { &said["text"] };
                let mut message = json!({"type": "said", "id": said["id"], "text": text, "seq": seq, "again": false});
                room.publish("all", None, &message.to_string());
                if count == 5 {
                    message["again"] = json!(true);
                    room.publish("all", None, &message.to_string());
                }
                room.say(me, &json!({"type": "ok", "id": said["id"], "seq": seq}).to_string());
            }
        }
    },
};

const DESCRIPTION: &str = r#"
target = "/counting?a=1&who=${user}"
frames = "binary"
[headers]
X-Token = "${token}"
[variables]
user = { counter = 7 }
token = { csv = "tokens.csv", column = "token" }
[[connect]]
send = '{"type":"join"}'
expect = { where = { "/type" = "joined" } }
[heartbeat]
every = "20ms"
send = '{"type":"beat"}'
[publish]
send = '{"type":"say","id":"${id}","text":"${content}"}'
sender_receives = true
[publish.acknowledgement]
match = { where = { "/type" = "ok" } }
id = "/id"
sequence = "/seq"
[publish.delivery]
match = { where = { "/type" = "said" } }
id = "/id"
content = "/text"
sequence = "/seq"
redelivered = "/again"
"#;

/// Lines of text: what one says, all hear.
const LINES: Protocol = Protocol {
    target: "/",
    subprotocol: None,
    greeting: None,
    heard: |room, me, line| match line.split_once(' ') {
        Some(("SAY", text)) => room.publish("all", None, &format!(":{me} SAID {text}\r\n")),
        _ => {
            room.join(me, "all");
            room.say(me, "WELCOME\r\n");
        }
    },
};

const LINES_DESCRIPTION: &str = r#"
[[connect]]
send = "JOIN"
expect = { prefix = "WELCOME" }
[publish]
send = "SAY ${id}${content}"
sender_receives = true
[publish.delivery]
match = { prefix = ":", has = ["after: SAID "] }
id = "after: SAID "
content = "after: SAID "
"#;

fn write(folder: &Path, description: &str) -> String {
    std::fs::write(folder.join("tokens.csv"), "user,token\na,t-one\nb,t-two\nc,t-three\n").unwrap();
    let file = folder.join("mine.toml");
    std::fs::write(&file, description).unwrap();
    file.display().to_string()
}

#[test]
fn each_connection_has_its_own_values_and_says_that_it_is_alive() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), DESCRIPTION);
    let (addr, room) = serve(&COUNTING, Fault::None);
    let line = format!("run connect --protocol script --script {file} --url ws://{addr}/ --connections 3 --hold 300ms");
    let report = load(&line).unwrap();
    assert_eq!((report.verdict, report.connections.established), (Verdict::Ok, 3), "{report}");
    let room = room.lock().unwrap();
    let mut asked = room.asked.clone();
    asked.sort();
    let wanted = [(7, "t-one"), (8, "t-two"), (9, "t-three")];
    assert_eq!(asked, wanted.map(|(n, token)| (format!("/counting?a=1&who={n}"), token.to_owned())));
    assert!((0..3).all(|member| room.beats.contains(&member)), "{:?}", room.beats);
}

#[test]
fn sequence_numbers_and_marked_redeliveries_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), DESCRIPTION);
    let (addr, _) = serve(&COUNTING, Fault::None);
    let report = load(&format!(
        "run publish --protocol script --script {file} --url ws://{addr}/ --connections 3 --rate 100 --duration 200ms \
         --warmup 100ms --drain 1s"
    ))
    .unwrap();
    let seen = report.messages.unwrap();
    let wanted = Messages {
        sent: seen.sent,
        acked: seen.sent,
        delivered: 3 * (seen.sent - 1),
        redelivered: 3,
        reordered: 3,
        corrupted: 3,
        ..Messages::default()
    };
    assert_eq!(seen, wanted, "{report}");
}

#[test]
fn an_id_may_stand_in_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), LINES_DESCRIPTION);
    for (fault, lost) in [(Fault::None, 0), (Fault::Drop, 1)] {
        let (addr, _) = serve(&LINES, fault);
        let line = format!(
            "run publish --protocol script --script {file} --url ws://{addr}/ --connections 3 --publishers 2 \
             --rate 200 --duration 200ms --warmup 100ms --drain 500ms"
        );
        let report = load(&line).unwrap();
        let seen = report.messages.unwrap();
        let wanted = Messages { sent: seen.sent, delivered: 3 * seen.sent - lost, lost, ..Messages::default() };
        assert_eq!(seen, wanted, "{report}");
    }
}

#[test]
fn who_writes_a_description_sees_what_it_does_not_cover() {
    let folder = tempfile::tempdir().unwrap();
    let (addr, _) = serve(&LINES, Fault::None);
    let run = |from: &str, to: &str| {
        let file = write(folder.path(), &LINES_DESCRIPTION.replace(from, to));
        load(&format!(
            "run publish --protocol script --script {file} --url ws://{addr}/ --connections 2 --rate 100 \
             --duration 100ms --warmup 50ms --drain 100ms"
        ))
    };
    let report = run("prefix = \":\"", "prefix = \";\"").unwrap();
    let told = |why: &String| why.contains("match nothing in the description, such as \":") && why.contains("SAID lt");
    assert!(report.verdict == Verdict::Failed && report.reasons.iter().any(told), "{report}");
    let said = run("prefix = \"WELCOME\"", "prefix = \"HELLO\"").unwrap_err().to_string();
    assert!(said.contains("expects what the server said: \"WELCOME\\r\\n\""), "{said}");
}

#[test]
fn mistakes_are_told_in_one_line_before_anything_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let run = |description: &str, flags: &str| {
        let file = write(folder.path(), description);
        let line = format!("run publish --protocol script --script {file} --url ws://127.0.0.1:9/ {flags}");
        load(&line).unwrap_err().to_string()
    };
    let said = run(&DESCRIPTION.replace("redelivered =", "redelivred ="), "--connections 2");
    assert!(said.ends_with("mine.toml: publish.delivery.redelivred: no such key; did you mean redelivered?"), "{said}");
    let said = run(DESCRIPTION, "--connections 4");
    assert!(said.ends_with("tokens.csv: it has 3 rows and the run has 4 connections: add rows or lower --connections"));
    let said = run(&DESCRIPTION.replace("sender_receives = true", ""), "--connections 2");
    assert!(said.contains("cannot reach"), "acknowledgements trigger a closed loop: {said}");
    let quiet = DESCRIPTION.replace("sender_receives = true", "");
    let (before, after) = quiet.split_once("[publish.acknowledgement]").unwrap();
    let quiet = format!("{before}[publish.delivery]{}", after.split_once("[publish.delivery]").unwrap().1);
    assert!(run(&quiet, "--connections 2").contains("give --rate"));
    for (flags, wanted) in [
        ("echo --payload binary", "frames = \"binary\""),
        ("echo --client tungstenite", "raw-echo only"),
        ("connect --tokens t.csv", "--set NAME=@FILE:COLUMN"),
        ("publish --tokens t.csv", "--set NAME=@FILE:COLUMN"),
    ] {
        let line = format!("run {flags} --protocol script --script stomp --url ws://127.0.0.1:9/");
        let said = load(&line).unwrap_err().to_string();
        assert!(said.contains(wanted), "{flags}: {said}");
    }
    let said = load("run echo --script stomp --url ws://127.0.0.1:9/").unwrap_err().to_string();
    assert!(said.contains("--script and --protocol script go together"), "{said}");
}

//! Whole descriptions: good ones are understood, bad ones say where and what to do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::message::{Key, mix};

const GOOD: &str = r#"
target = "/ws?n=${n}"
[headers]
X-Who = "${who}"
[variables]
who = "me"
n = { counter = 3 }
[[connect]]
send = "hello"
[[connect]]
expect = { where = { "/type" = "welcome" } }
[refusal]
match = { has = ["/error"] }
id = "/id"
code = "/error/code"
[publish]
send = '{"id":${number},"key":"${id}","text":"${content}"}'
number_from = 10
[publish.acknowledgement]
match = { where = { "/type" = "ack" } }
id = "/id"
sequence = "/seq"
[publish.delivery]
match = { where = { "/type" = "msg" } }
id = "/key"
content = "/text"
sequence = "/seq"
redelivered = "/again"
"#;

fn parse(text: &str, purpose: Purpose) -> Result<Script, LoadError> {
    Script::parse("d.toml", text, Path::new(""), &[], purpose, 7)
}

/// What each message of a frame is, in words.
fn meanings(script: &Script, frame: &str) -> Vec<String> {
    let mut seen = Vec::new();
    script.each(frame, |message| {
        seen.push(message.map_or("unreadable".to_owned(), |message| format!("{:?}", script.meaning(&message))));
    });
    seen
}

#[test]
fn what_is_built_in_serves_every_purpose() {
    for (name, _) in BUILT_IN {
        for purpose in [Purpose::Connect, Purpose::Echo, Purpose::Publish] {
            let script = Script::load(name, &[], purpose, 1).unwrap();
            assert_eq!(script.exchange.is_some(), purpose != Purpose::Connect, "{name}");
        }
    }
}

#[test]
fn a_description_says_what_is_sent_and_what_arrives() {
    let script = parse(GOOD, Purpose::Publish).unwrap();
    assert_eq!(script.target(2).as_deref(), Some("/ws?n=5"));
    assert_eq!(script.headers(0), [("X-Who".to_owned(), "me".to_owned())]);
    assert_eq!((script.steps(), script.step_waits(0), script.step_waits(1)), (2, false, true));
    let mut out = Vec::new();
    let parts = MessageParts { run: 1, key: Key::new(0, 2), number: 12, content: b"abc", intended_us: 0 };
    script.write_message(parts, &mut out);
    assert_eq!(out, br#"{"id":12,"key":"lt000000010000000000000002","text":"abc"}"#);
    let ack = meanings(&script, r#"{"type":"ack","id":12,"seq":4}"#);
    assert_eq!(ack, ["Acknowledgement { id: Number(12), sequence: Some(4) }"]);
    let msg = meanings(&script, r#"{"type":"msg","key":"k","text":"abc","seq":4,"again":true}"#);
    assert!(
        msg[0].contains("Text(\"k\"), content: Some(Text(\"abc\")), sequence: Some(4), redelivered: true"),
        "{msg:?}"
    );
    assert!(meanings(&script, r#"{"error":{"code":5},"id":12}"#)[0].contains("code: Number(5)"));
    assert_eq!(meanings(&script, r#"{"error":null,"type":"x"}"#), ["Nothing"]);
    assert_eq!(meanings(&script, r#"{"type":"ack","#), ["unreadable"]);
}

#[test]
fn one_frame_may_hold_several_messages() {
    let [ack, other] = [r#"{"type":"ack","id":1}"#, "{}"];
    let lines = parse(&format!("several = \"lines\"\n{GOOD}"), Purpose::Publish).unwrap();
    assert_eq!(meanings(&lines, &format!("{ack}\n{other}\n\n{ack}\n")).len(), 3);
    let list = parse(&format!("several = \"array\"\n{GOOD}"), Purpose::Publish).unwrap();
    let seen = meanings(&list, &format!("[{ack},{other}]"));
    assert!(seen[0].starts_with("Ack") && seen[1] == "Nothing" && seen.len() == 2, "{seen:?}");
    assert!(meanings(&list, ack)[0].starts_with("Ack"), "a single one without a list");
    assert_eq!(meanings(&list, "[{}").last().map(String::as_str), Some("unreadable"));
}

#[test]
fn no_frame_of_a_server_is_too_strange() {
    let frames = [
        "{\"id\":7,\"publish\":{}}\n{\"push\":{\"channel\":\"loadtest\",\"pub\":{\"data\":{\"id\":\"lt\",\"content\":\"é\"}}}}\n{}",
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}},{\"id\":\"p\",\"method\":\"ping\"},{\"error\":{\"code\":-32601}}]",
        "42[\"message\",{\"id\":\"lt\",\"content\":\"a\\u00e9\"}]",
        "MESSAGE\r\nsubscription:0\nlt-id:lté\n\nbody\0\n",
    ];
    let (mut state, mut read, mut broken) = (1, 0, 0);
    for (name, _) in BUILT_IN {
        let script = Script::load(name, &[], Purpose::Publish, 1).unwrap();
        for round in 0..3000 {
            let mut frame = frames[round % frames.len()].as_bytes().to_vec();
            for _ in 0..round % 4 {
                state = mix(state);
                let at = state as usize % frame.len();
                match state >> 62 {
                    0 => frame.truncate(at.max(1)),
                    1 => frame[at] = (state >> 32) as u8,
                    2 => frame.insert(at, b"{}[]\",:\n\0~"[(state >> 40) as usize % 10]),
                    _ => drop(frame.remove(at.min(frame.len() - 1))),
                }
                frame.resize(frame.len().max(1), b' ');
            }
            script.each(&String::from_utf8_lossy(&frame), |message| match message {
                Some(message) => {
                    script.write_answer(&message, 0, &mut Vec::new());
                    read += usize::from(script.meaning(&message) != Meaning::Nothing || !message.shown().is_empty());
                }
                None => broken += 1,
            });
        }
    }
    assert!(read > 1000 && broken > 1000, "{read} {broken}");
}

#[test]
fn mistakes_name_file_and_key_and_say_what_to_do() {
    let change = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replacen(from, to, 1), Purpose::Publish).unwrap_err().to_string()
    };
    for (from, to, wanted) in [
        ("target", "targt", "d.toml: targt: no such key; did you mean target?"),
        ("redelivered", "redeliverd", "publish.delivery.redeliverd: no such key; did you mean redelivered?"),
        ("\"/again\"", "\"again\"", "publish.delivery.redelivered: \"again\" must be a JSON pointer"),
        ("\"/again\"", "\"/a~2\"", "neither ~0"),
        ("${who}", "${whom}", "headers.X-Who: ${whom} is no variable; did you mean who?"),
        ("n = { counter = 3 }", "n = { count = 3 }", "variables.n.count: no such key; did you mean counter?"),
        ("n = { counter = 3 }", "n = 3", "variables.n: it must be a text, { counter = N }"),
        ("n = { counter = 3 }", "n = { counter = -3 }", "variables.n.counter: it must be a whole number"),
        ("n = { counter = 3 }", "n = { csv = \"no.csv\", column = \"a\" }", "no.csv: No such file"),
        ("send = \"hello\"", "", "connect[0].send: a step needs send, expect or both"),
        ("{ where = { \"/type\" = \"welcome\" } }", "{}", "connect[1].expect: it matches everything"),
        ("${id}", "id", "publish.send: it has no ${id}"),
        ("${content}", "x", "publish.send: it has no ${content}"),
        ("id = \"/key\"", "", "publish.delivery.id: it is missing"),
        ("/ws?n", "ws?n", "target: it must begin with /"),
        ("number_from = 10", "number_from = \"10\"", "publish.number_from: it must be a whole number"),
        ("match = { has = [\"/error\"] }", "match = { has = \"/error\" }", "refusal.match.has: it must be a list"),
        ("[headers]", "[headers", "d.toml: line 3: "),
    ] {
        let said = change(from, to);
        assert!(said.contains(wanted) && !said.contains('\n'), "{said:?} should say {wanted:?}");
    }
    let said = parse(&format!("several = \"line\"\n{GOOD}"), Purpose::Publish).unwrap_err().to_string();
    assert!(said.contains("several: it must be one of no, lines, array; did you mean lines?"), "{said}");
    let said = parse(GOOD, Purpose::Echo).unwrap_err().to_string();
    assert!(said.contains("echo: it is missing and `run echo` needs it"), "{said}");
    let said = Script::load("stmp", &[], Purpose::Echo, 1).unwrap_err().to_string();
    assert!(said.contains("built in are centrifugo, jsonrpc, socketio, stomp"), "{said}");
    let set = |setting: &str| Script::load("stomp", &[setting.to_owned()], Purpose::Echo, 1).map(|_| ());
    assert!(set("logn=x").unwrap_err().to_string().contains("did you mean login?"));
    assert!(set("login").unwrap_err().to_string().contains("NAME=VALUE"));
}

#[test]
fn the_page_names_every_key_and_its_example_is_good() {
    let page = include_str!("../../../docs/loadtest-scripts.md");
    let places = [WHOLE, STEP, DELIVERY, ACKNOWLEDGEMENT, ANSWER, HEARTBEAT, REFUSAL, ECHO, PUBLISH, rule::MATCH_KEYS];
    for key in places.concat() {
        let ways = [format!("`{key}`"), format!("`[{key}]`"), format!("`[[{key}]]`"), format!(".{key}`")];
        assert!(ways.iter().any(|way| page.contains(way)), "{key}");
    }
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokens.csv"), "token\nx\n").unwrap();
    let script = Script::parse("page", example, dir.path(), &[], Purpose::Publish, 1).unwrap();
    assert_eq!(script.headers(0), [("Authorization".to_owned(), "Bearer x".to_owned())]);
}

#[test]
fn columns_have_a_row_for_each_connection() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.csv");
    std::fs::write(&file, "id,token\n1,aa\n\n2,bb\n").unwrap();
    let load = |column: &str| {
        let set = [format!("token=@{}:{column}", file.display())];
        Script::load("centrifugo", &set, Purpose::Connect, 1)
    };
    let sent = |script: &Script, client| {
        let mut out = Vec::new();
        assert!(script.write_step(0, client, &mut out));
        String::from_utf8(out).unwrap()
    };
    let mut script = load("token").unwrap();
    assert!(sent(&script, 0).contains("\"aa\"") && sent(&script, 1).contains("\"bb\""));
    assert!(script.seat(0, 2).is_ok());
    assert!(script.seat(0, 3).unwrap_err().to_string().contains("it has 2 rows and the run has 3 connections"));
    assert!(script.seat(1, 2).is_err() && script.seat(1, 1).is_ok());
    assert!(sent(&script, 0).contains("\"bb\""), "another agent has the first");
    assert!(sent(&load("2").unwrap(), 0).contains("\"token\""), "by number there is no line of names");
    assert!(load("tokn").unwrap_err().to_string().contains("did you mean token?"));
    assert!(load("3").unwrap_err().to_string().contains("line 1: it has too few columns"));
}

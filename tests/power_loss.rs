//! The checks of the kill test over a file system that, as a power failure does, forgets or tears what was written since
//! the last sync (`kill -9` alone keeps the page cache); and what the server does when a sync fails.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::json;
use std::path::Path;
use std::time::Duration;
use support::chat::{Session, send_message};
use support::lossy::LossyDisk;
use support::{Api, Seeded, Server, open_chat, register};

/// When a client sends a message again that was not answered.
const RESEND: Duration = Duration::from_secs(3);

/// Segments of the smallest size: this disk lives in memory.
fn small_segments(dir: &Path) -> String {
    let file = dir.join("config.toml");
    std::fs::write(&file, "[bus]\nsegment_bytes = 4194304\n[auth]\nbcrypt_cost = 4\n").unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn nothing_acknowledged_is_lost_with_the_power() {
    let losses = std::env::var("GOCHAT_KILLS").map_or(4, |text| text.parse().unwrap());
    let seed = support::seed();
    let (mut random, outside) = (Seeded::new(seed), tempfile::tempdir().unwrap());
    let (disk, mount) = (LossyDisk::new(), outside.path().join("disk"));
    std::fs::create_dir(&mount).unwrap();
    let config = small_segments(outside.path());
    let flags = ["--limits", "off", "--config", &config];
    let mut mounted = Some(disk.mount(&mount));
    let dir = mount.join("data");
    support::load::run_with_deaths(&dir, &flags, losses, 2, seed, || {
        mounted.take().unwrap().umount_and_join().unwrap();
        disk.crash(&mut random);
        mounted = Some(disk.mount(&mount));
    });
    drop(mounted);
}

#[test]
fn a_failing_sync_stops_the_intake_and_loses_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let (disk, mount) = (LossyDisk::new(), outside.path().join("disk"));
    std::fs::create_dir(&mount).unwrap();
    let config = small_segments(outside.path());
    let flags = ["--limits", "off", "--config", &config];
    let mounted = disk.mount(&mount);
    let server = Server::start_with(&mount.join("data"), &flags);
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    let chat = open_chat(&api, &ann, &bob);
    let mut session = Session::connect(server.http, &ann.token).unwrap();
    session.send(&send_message(&chat, "before", "stored")).unwrap();
    let ack = session.expect("message-ack");

    disk.fail_syncs(true);
    session.send(&send_message(&chat, "after", "not acknowledged")).unwrap();
    // What was on its way when the disk failed is left unanswered: the client sends it again, and is refused.
    let refusal = loop {
        match session.frame(RESEND) {
            Ok(Some(frame)) if frame["type"] == "message-ack" => panic!("acknowledged without a sync: {frame}"),
            Ok(Some(frame)) if frame["type"] == "error" => break frame["data"].clone(),
            Ok(Some(_)) => {}
            Ok(None) => session.send(&send_message(&chat, "after", "not acknowledged")).unwrap(),
            Err(ended) => panic!("the session ended: {ended:?}"),
        }
    };
    assert_eq!(refusal["code"], "SERVICE_UNAVAILABLE", "{refusal}");
    assert_eq!(refusal["details"]["client_msg_id"], "after", "{refusal}");
    let ready = Api::new(server.admin).try_get("/ready").map(|answer| answer.status);
    assert!(!matches!(ready, Ok(200)), "a process that cannot store says that it is ready");

    server.kill();
    disk.fail_syncs(false);
    mounted.umount_and_join().unwrap();
    disk.crash(&mut Seeded::new(7));
    let mounted = disk.mount(&mount);
    let server = Server::start_with(&mount.join("data"), &flags);
    let api = Api::new(server.http).as_user(&ann.token);
    let history = api.get(&format!("/api/conversations/{chat}/messages")).data();
    let first = &history["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(first["id"], ack["data"]["messageId"]);
    assert_eq!(first["clientMsgId"], "before");
    let again = api.post(
        &format!("/api/conversations/{chat}/messages"),
        &json!({"messageType": 1, "content": "not acknowledged", "client_msg_id": "after"}),
    );
    assert_eq!(again.status, 201, "{again:?}");
    drop(server);
    drop(mounted);
}

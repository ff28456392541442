//! What the small servers speak: enough of each protocol for a run, written after its specification and not after the
//! descriptions that are tested. Owns no connections.

use serde_json::{Value, json};

use crate::server::{Protocol, Room};

/// Commands and replies one a line; `{}` is the server's ping and the client's answer.
pub(crate) const CENTRIFUGO: Protocol = Protocol {
    target: "/connection/websocket",
    subprotocol: Some("centrifuge-json"),
    greeting: None,
    heard: |room, me, text| text.lines().for_each(|line| centrifugo(room, me, &serde_json::from_str(line).unwrap())),
};

fn centrifugo(room: &mut Room, me: usize, command: &Value) {
    let id = &command["id"];
    if let Some(connect) = command.get("connect") {
        let reply = match connect["token"] == "bad" {
            true => json!({"id": id, "error": {"code": 101, "message": "unauthorized"}}),
            false => json!({"id": id, "connect": {"client": "c", "version": "5", "ping": 25, "pong": true}}),
        };
        room.say(me, &reply.to_string());
    } else if let Some(subscribe) = command.get("subscribe") {
        room.join(me, subscribe["channel"].as_str().unwrap());
        room.say(me, &format!("{}\n{{}}", json!({"id": id, "subscribe": {}})));
    } else if let Some(publish) = command.get("publish") {
        if room.refuses() {
            return room.say(me, &json!({"id": id, "error": {"code": 108, "message": "x"}}).to_string());
        }
        let channel = publish["channel"].as_str().unwrap();
        let offset = room.count + 1;
        let push = json!({"push": {"channel": channel, "pub": {"data": publish["data"], "offset": offset}}});
        room.publish(channel, None, &push.to_string());
        room.say(me, &json!({"id": id, "publish": {}}).to_string());
    } else {
        assert_eq!(command, &json!({}));
        room.pongs += 1;
    }
}

/// Requests, results and notifications; the server pings with a request of its own.
pub(crate) const JSONRPC: Protocol = Protocol {
    target: "/",
    subprotocol: None,
    greeting: None,
    heard: |room, me, text| jsonrpc(room, me, &serde_json::from_str(text).unwrap()),
};

fn jsonrpc(room: &mut Room, me: usize, request: &Value) {
    assert_eq!(request["jsonrpc"], "2.0");
    let (id, params) = (&request["id"], &request["params"]);
    let result = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    match request["method"].as_str() {
        Some("echo") => room.echo(me, &result(params.clone()).to_string()),
        Some("subscribe") => {
            room.join(me, params["room"].as_str().unwrap());
            let ping = json!({"jsonrpc": "2.0", "id": "p\"1", "method": "ping"});
            room.say(me, &json!([result(json!(true)), ping]).to_string());
        }
        Some("publish") => {
            let event = json!({"jsonrpc": "2.0", "method": "message", "params": params});
            room.publish(params["room"].as_str().unwrap(), None, &event.to_string());
            room.say(me, &result(json!({})).to_string());
        }
        other => {
            assert_eq!((other, id, &request["result"]), (None, &json!("p\"1"), &json!("pong")));
            room.pongs += 1;
        }
    }
}

/// Packets with types in digits: 0 open, 2 ping, 3 pong, 40 connect, 42 event, 43 acknowledgement.
pub(crate) const SOCKETIO: Protocol = Protocol {
    target: "/socket.io/?EIO=4&transport=websocket",
    subprotocol: None,
    greeting: Some(r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#),
    heard: socketio,
};

fn socketio(room: &mut Room, me: usize, packet: &str) {
    match packet {
        "40" => {
            room.say(me, r#"40{"sid":"b"}"#);
            room.say(me, "2");
        }
        "3" => room.pongs += 1,
        _ => {
            let rest = packet.strip_prefix("42").unwrap();
            let (id, event) = rest.split_at(rest.find('[').unwrap());
            let event: Value = serde_json::from_str(event).unwrap();
            match event[0].as_str().unwrap() {
                "echo" => room.echo(me, packet),
                "join" => room.join(me, event[1].as_str().unwrap()),
                "publish" => {
                    room.publish("loadtest", Some(me), &format!("42{}", json!(["message", event[1]])));
                }
                other => panic!("event {other}"),
            }
            if !id.is_empty() {
                room.say(me, &format!("43{id}[]"));
            }
        }
    }
}

/// Frames of a command, headers, an empty line and a body that ends with NUL; a line feed alone is a heartbeat.
pub(crate) const STOMP: Protocol =
    Protocol { target: "/ws", subprotocol: Some("v12.stomp"), greeting: None, heard: stomp };

fn stomp(room: &mut Room, me: usize, frame: &str) {
    if frame == "\n" {
        return room.beats.push(me);
    }
    let (head, body) = frame.strip_suffix('\0').unwrap().split_once("\n\n").unwrap();
    let (command, headers) = head.split_once('\n').unwrap();
    let header = |name: &str| {
        headers.lines().filter_map(|line| line.split_once(':')).find(|(its, _)| *its == name).map(|(_, value)| value)
    };
    match command {
        "CONNECT" => {
            assert_eq!((header("login"), header("accept-version")), (Some("me"), Some("1.2")));
            room.say(me, "CONNECTED\nversion:1.2\nheart-beat:0,20000\n\n\0");
        }
        "SUBSCRIBE" => room.join(me, header("destination").unwrap()),
        "SEND" => {
            let (to, id) = (header("destination").unwrap(), header("lt-id").unwrap());
            let number = room.count;
            let message =
                format!("MESSAGE\nsubscription:0\nmessage-id:{number}\ndestination:{to}\nlt-id:{id}\n\n{body}\0");
            room.publish(to, None, &message);
        }
        other => panic!("command {other}"),
    }
    if let Some(receipt) = header("receipt") {
        room.say(me, &format!("RECEIPT\nreceipt-id:{receipt}\n\n\0"));
    }
}

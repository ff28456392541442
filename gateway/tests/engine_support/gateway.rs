//! Chat shards over real sockets with the test in the place of control.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gochat_gateway::bridge::{
    ControlEnd, Downlink, DownlinkBatch, FrameClass, Opened, OutFrame, UplinkEvent, UplinkRecord,
};
use gochat_gateway::config::{ChatConfig, DataPlaneConfig, SessionPolicy};
use gochat_gateway::data_plane::DataPlane;
use gochat_infra::token::{Claims, ISSUER, TokenKey, TokenKind};
use gochat_proto::ids::{Address, GatewayId};
use gochat_ring::ReactorChoice;
use serde_json::{Value, json};

use super::{Got, Wire, config, reactors, text};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub fn key() -> TokenKey {
    TokenKey::hs256(&[7; 32]).unwrap()
}

pub fn claims(user_id: i64) -> Claims {
    Claims {
        iss: ISSUER.into(),
        sub: user_id.to_string(),
        user_id: user_id.to_string(),
        kind: TokenKind::Access,
        jti: format!("jti-{user_id}"),
        iat: now_s(),
        exp: now_s() + 3600,
        guest: false,
        ver: 3,
        fam: "f".into(),
        sxp: 0,
        ath: String::new(),
    }
}

pub fn bearer(user_id: i64) -> String {
    format!("Bearer {}", key().sign(&claims(user_id)).unwrap())
}

/// A data plane of one shard, with the test as control.
pub struct Gateway {
    pub plane: DataPlane,
    pub control: ControlEnd,
    pub events: Vec<UplinkEvent>,
    pub records: Vec<UplinkRecord>,
}

impl Gateway {
    pub fn start(reactor: ReactorChoice, change: impl FnOnce(&mut DataPlaneConfig)) -> Gateway {
        let mut config = DataPlaneConfig {
            engine: config(reactor),
            chat: ChatConfig {
                gateway: GatewayId::new(9).unwrap(),
                incarnation: 77,
                upstream_partitions: 16,
                token_key: key(),
                allow_query_token: true,
                allowed_origins: None,
                rate_limits: false,
                world_messages_per_minute: 10,
                session_policy: SessionPolicy::Single,
                heartbeat_interval_s: 30,
            },
        };
        change(&mut config);
        let (plane, control) = DataPlane::start(&config).unwrap();
        let gateway = Gateway { plane, control, events: Vec::new(), records: Vec::new() };
        gateway.tell(Downlink::Accepting(true));
        gateway
    }

    /// On every reactor of this machine.
    pub fn on_each(change: impl Fn(&mut DataPlaneConfig), test: impl Fn(Gateway)) {
        for reactor in reactors() {
            test(Gateway::start(reactor, &change));
        }
    }

    pub fn tell(&self, item: Downlink) {
        let mut batch = self.control.shards[0].batch();
        batch.push(item);
        self.push(batch);
    }

    pub fn push(&self, batch: DownlinkBatch) {
        self.control.shards[0].try_send(batch).map_err(|_| "downlink full").unwrap();
    }

    pub fn frame(&self, to: Address, payload: &str, class: FrameClass) {
        let mut batch = self.control.shards[0].batch();
        batch.frame([to], OutFrame::text(payload.as_bytes(), class));
        self.push(batch);
    }

    pub fn poll(&mut self) {
        match self.control.uplinks.try_recv() {
            Some(mut batch) => {
                self.records.extend(batch.records());
                self.events.append(&mut batch.events);
                self.control.uplinks.recycle(batch);
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }

    /// The first event that `pick` takes; the others stay.
    pub fn event<T>(&mut self, pick: impl Fn(&UplinkEvent) -> Option<T>) -> T {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some((at, found)) = self.events.iter().enumerate().find_map(|(at, e)| Some((at, pick(e)?))) {
                self.events.remove(at);
                return found;
            }
            assert!(Instant::now() < give_up, "the event did not come; there are {:?}", self.events);
            self.poll();
        }
    }

    pub fn opened(&mut self) -> Opened {
        self.event(|event| if let UplinkEvent::Opened(opened) = event { Some((**opened).clone()) } else { None })
    }

    pub fn closed(&mut self, of: Address) -> (u16, bool) {
        self.event(|event| match event {
            UplinkEvent::Closed { address, code, handover, .. } if *address == of => Some((*code, *handover)),
            _ => None,
        })
    }

    pub fn record(&mut self) -> UplinkRecord {
        let give_up = Instant::now() + PATIENCE;
        while self.records.is_empty() {
            assert!(Instant::now() < give_up, "no record came");
            self.poll();
        }
        self.records.remove(0)
    }

    pub fn connect(&self, fields: &[(&str, &str)]) -> (Wire, String) {
        Wire::request(self.plane.addr(), "/ws", fields)
    }

    /// A registered and greeted session.
    pub fn session(&mut self, user_id: i64) -> (Wire, Address) {
        let (mut wire, head) = self.connect(&[("Authorization", &bearer(user_id))]);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let address = self.opened().address;
        self.tell(Downlink::Registered { address, degraded: false });
        assert_eq!(json_of(wire.read())["type"], "connected");
        (wire, address)
    }
}

pub fn json_of(got: Got) -> Value {
    match got {
        Got::Frame(0x81, payload) => serde_json::from_slice(&payload).unwrap(),
        other => panic!("not a text frame: {other:?}"),
    }
}

pub fn code_of(got: &Got) -> Option<u16> {
    match got {
        Got::Frame(0x88, payload) => Some(u16::from_be_bytes(*payload.first_chunk().unwrap())),
        _ => None,
    }
}

/// The `closing` frame and the close frame that follow.
pub fn assert_closes(wire: &mut Wire, code: u16) {
    let closing = json_of(wire.read());
    assert_eq!((&closing["type"], &closing["data"]["code"]), (&json!("closing"), &json!(code)));
    assert_eq!(code_of(&wire.read()), Some(code));
}

pub fn send_message(client_msg_id: &str) -> Vec<u8> {
    let data =
        json!({ "conversationId": "single_1_2", "content": "hi", "messageType": 1, "client_msg_id": client_msg_id });
    text(&json!({ "type": "send-message", "data": data }).to_string())
}

//! The client's side of the opening handshake, and both sides against tungstenite.

mod support;

use std::io::{self, Read, Write};

use gochat_ws::handshake::{
    ClientRequest, HeadError, HeadLimits, InvalidClientRequest, ResponseError, Upgrade, accept_value, parse_request,
    parse_response, write_accept, write_request,
};

const KEY: [u8; 16] = *b"the sample nonce";
const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn request() -> ClientRequest<'static> {
    ClientRequest { host: "localhost:8080", target: "/ws?token=t", key: KEY, protocols: &[], headers: &[] }
}

#[test]
fn the_request_is_what_the_server_side_takes() {
    let request = ClientRequest { protocols: &["a", "b"], headers: &[("Origin", "http://x")], ..request() };
    let mut out = Vec::new();
    assert_eq!(write_request(&request, &mut out), Ok(()));
    assert_eq!(
        String::from_utf8_lossy(&out),
        "GET /ws?token=t HTTP/1.1\r\nHost: localhost:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: a, b\r\nOrigin: http://x\r\n\r\n"
    );
    let parsed = parse_request(&out, &HeadLimits::default()).unwrap_or_default();
    let upgrade = parsed.as_ref().map(Upgrade::from_request);
    let Some(Ok(upgrade)) = upgrade else { panic!("{upgrade:?}") };
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_request_that_would_break_the_head_is_not_written() {
    let cases = [
        (ClientRequest { host: "a\r\nX: y", ..request() }, InvalidClientRequest::Host),
        (ClientRequest { host: "", ..request() }, InvalidClientRequest::Host),
        (ClientRequest { target: "/ HTTP/1.1", ..request() }, InvalidClientRequest::Target),
        (ClientRequest { target: "ws", ..request() }, InvalidClientRequest::Target),
        (ClientRequest { target: "", ..request() }, InvalidClientRequest::Target),
        (ClientRequest { protocols: &["a b"], ..request() }, InvalidClientRequest::Protocol),
        (ClientRequest { headers: &[("A B", "c")], ..request() }, InvalidClientRequest::Header),
        (ClientRequest { headers: &[("A", "c\nd")], ..request() }, InvalidClientRequest::Header),
    ];
    for (request, error) in cases {
        let mut out = Vec::new();
        assert_eq!(write_request(&request, &mut out), Err(error));
        assert!(out.is_empty());
    }
}

fn verdict(response: &str, offered: &[&str]) -> Result<Option<String>, ResponseError> {
    match parse_response(response.as_bytes(), &HeadLimits::default())? {
        Some(response) => response.verify(KEY, offered).map(|protocol| protocol.map(str::to_owned)),
        None => panic!("incomplete: {response:?}"),
    }
}

#[test]
fn section_4_1_responses() {
    use ResponseError::*;
    let with = |line: &str| GOOD.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1);
    assert_eq!(verdict(GOOD, &[]), Ok(None));
    assert_eq!(verdict(&GOOD.replace("websocket", "WebSocket").replace(": Upgrade", ": x, UPGRADE"), &[]), Ok(None));
    assert_eq!(verdict(&with("Sec-WebSocket-Protocol: b"), &["a", "b"]), Ok(Some("b".into())));
    let cases = [
        (GOOD.replace("101", "200"), Refused(200)),
        (GOOD.replace("101", "426"), Refused(426)),
        (GOOD.replace("Upgrade: websocket\r\n", ""), MissingUpgrade),
        (GOOD.replace("Upgrade: websocket", "Upgrade: h2c"), MissingUpgrade),
        (GOOD.replace("Connection: Upgrade", "Connection: close"), MissingConnectionUpgrade),
        (GOOD.replace("s3pP", "S3pP"), InvalidAccept),
        (GOOD.replace("Sec-WebSocket-Accept", "X-Accept"), InvalidAccept),
        (with("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), InvalidAccept),
        (with("Sec-WebSocket-Extensions: permessage-deflate"), UnexpectedExtension),
        (with("Sec-WebSocket-Protocol: c"), UnexpectedProtocol),
        (with("Sec-WebSocket-Protocol: a, b"), UnexpectedProtocol),
        (with("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b"), UnexpectedProtocol),
        (GOOD.replace("HTTP/1.1 101", "HTTP/2 101"), InvalidStatusLine),
        (GOOD.replace(" 101 ", " 1010 "), InvalidStatusLine),
        (GOOD.replace(" 101 ", " 10 "), InvalidStatusLine),
        (GOOD.replace(" 101 ", " 999 "), InvalidStatusLine),
        (with("A : b"), Head(HeadError::SpaceBeforeColon)),
    ];
    for (response, error) in cases {
        assert_eq!(verdict(&response, &["a", "b"]), Err(error), "{response:?}");
    }
    for end in 0..GOOD.len() {
        assert_eq!(parse_response(&GOOD.as_bytes()[..end], &HeadLimits::default()), Ok(None));
    }
    let limits = HeadLimits { head_bytes_max: 60, fields_max: 10 };
    assert_eq!(parse_response(GOOD.as_bytes(), &limits), Err(HeadTooLarge));
}

/// A peer in memory: `answer` makes of everything written what is read next.
struct Peer<F> {
    written: Vec<u8>,
    readable: Vec<u8>,
    answer: F,
}

impl<F: FnMut(&[u8]) -> Option<Vec<u8>>> Read for Peer<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.readable.len().min(buf.len());
        buf[..len].copy_from_slice(&self.readable[..len]);
        self.readable.drain(..len);
        Ok(len)
    }
}

impl<F: FnMut(&[u8]) -> Option<Vec<u8>>> Write for Peer<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(buf);
        if let Some(answer) = (self.answer)(&self.written) {
            self.readable.extend(answer);
            self.written.clear();
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_tungstenite_client_is_accepted() {
    let peer = Peer {
        written: Vec::new(),
        readable: Vec::new(),
        answer: |written: &[u8]| {
            let request = parse_request(written, &HeadLimits::default()).unwrap_or_else(|error| panic!("{error}"))?;
            let upgrade = Upgrade::from_request(&request).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((request.path, request.query), ("/ws", Some("token=t")));
            let mut out = Vec::new();
            write_accept(upgrade.key, upgrade.protocols().next(), &mut out);
            Some(out)
        },
    };
    let (_, response) = tungstenite::client::client("ws://localhost/ws?token=t", peer)
        .unwrap_or_else(|error| panic!("tungstenite refused the answer: {error}"));
    assert_eq!(response.status(), 101);
}

#[test]
fn a_tungstenite_server_accepts() {
    let mut readable = Vec::new();
    assert_eq!(write_request(&request(), &mut readable), Ok(()));
    let peer = Peer { written: Vec::new(), readable, answer: |_: &[u8]| None };
    let socket = tungstenite::accept(peer).unwrap_or_else(|error| panic!("tungstenite refused the request: {error}"));
    let written = &socket.get_ref().written;
    let response = parse_response(written, &HeadLimits::default()).unwrap_or_default();
    assert_eq!(response.map(|response| response.verify(KEY, &[])), Some(Ok(None)));
    assert_eq!(&accept_value(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

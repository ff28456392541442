//! The step "upgrade": a browser's request is parsed, judged and answered with 101.

use std::hint::black_box;

use gochat_ws::handshake::{RequestLimits, Upgrade, parse_request, write_accept};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};

use super::Outcome;
use super::case::{Case, OURS, Work, checked};

const REQUEST: &[u8] = b"GET /ws?token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.x HTTP/1.1\r\n\
Host: chat.example.org\r\n\
Connection: Upgrade\r\n\
Pragma: no-cache\r\n\
Cache-Control: no-cache\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
Upgrade: websocket\r\n\
Origin: https://chat.example.org\r\n\
Sec-WebSocket-Version: 13\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// Of the key above (RFC 6455 section 1.3).
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("upgrade", OURS, ours), Case::new("upgrade", "tungstenite", theirs)]
}

fn is_accepted(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 101 ") && answer.windows(ACCEPT.len()).any(|part| part == ACCEPT)
}

fn ours() -> Outcome<Work> {
    let answer = |answer: &mut Vec<u8>| -> Option<()> {
        let request = parse_request(black_box(REQUEST), &RequestLimits::default()).ok()??;
        let upgrade = Upgrade::from_request(&request).ok()?;
        write_accept(upgrade.key, None, answer);
        Some(())
    };
    whole(answer)
}

fn theirs() -> Outcome<Work> {
    let answer = |answer: &mut Vec<u8>| -> Option<()> {
        let (_, request) = Request::try_parse(black_box(REQUEST)).ok()??;
        let response = create_response(&request).ok()?;
        write_response(answer, &response).ok()
    };
    whole(answer)
}

fn whole(step: impl Fn(&mut Vec<u8>) -> Option<()> + 'static) -> Outcome<Work> {
    let mut answer = Vec::with_capacity(512);
    step(&mut answer).ok_or("the request is refused")?;
    if !is_accepted(&answer) {
        return Err("the answer is not the one of RFC 6455".into());
    }
    checked(&Some(()), move || {
        answer.clear();
        step(&mut answer)
    })
}

//! The server's side of the opening handshake: every malformed request RFC 9112 and RFC 6455 name, and its answer.

mod support;

use gochat_ws::handshake::{
    Body, HeadError, Request, RequestError, RequestLimits, Upgrade, UpgradeError, Version, accept_value,
    is_websocket_upgrade, parse_request, write_accept, write_refusal,
};

/// The client's request of RFC 6455 section 1.2.
const SAMPLE: &str = "GET /chat?token=a%20b HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn parse(head: &[u8]) -> Result<Option<Request<'_>>, RequestError> {
    parse_request(head, &RequestLimits::default())
}

fn complete(head: &str) -> Request<'_> {
    parse(head.as_bytes()).unwrap_or_else(|error| panic!("{head:?}: {error}")).unwrap_or_else(|| panic!("{head:?}"))
}

fn refused(head: &[u8], error: RequestError, status: u16) {
    assert_eq!(parse(head), Err(error), "{}", head.escape_ascii());
    assert_eq!(error.status(), status, "{error}");
}

/// SAMPLE without the lines that begin with `name`, and with `lines` added.
fn altered(name: &str, lines: &str) -> String {
    let kept: String =
        SAMPLE.trim_end().split("\r\n").filter(|line| !line.starts_with(name)).fold(String::new(), |mut head, line| {
            head.push_str(line);
            head.push_str("\r\n");
            head
        });
    format!("{kept}{lines}\r\n")
}

#[test]
fn rfc_6455_section_1_2_sample() {
    let stream = format!("{SAMPLE}frames");
    let request = complete(&stream);
    assert_eq!((request.method, request.target), ("GET", "/chat?token=a%20b"));
    assert_eq!((request.path, request.query), ("/chat", Some("token=a%20b")));
    assert_eq!((request.host, request.version), (Some("server.example.com"), Version::Http11));
    assert_eq!((request.body, request.head_len), (Body::None, SAMPLE.len()));
    assert_eq!(request.fields.get_str("ORIGIN"), Some("http://example.com"));
    assert_eq!(request.fields.get("authorization"), None);
    assert_eq!(request.fields.iter().count(), 7);
    assert!(is_websocket_upgrade(&request));
    let upgrade = Upgrade::from_request(&request).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    assert_eq!(&accept_value(upgrade.key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut response = Vec::new();
    write_accept(upgrade.key, Some("chat"), &mut response);
    assert_eq!(
        String::from_utf8_lossy(&response),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
}

#[test]
fn every_prefix_of_a_good_request_is_incomplete() {
    for end in 0..SAMPLE.len() {
        assert_eq!(parse(&SAMPLE.as_bytes()[..end]), Ok(None), "{end}");
    }
}

#[test]
fn request_lines() {
    use RequestError::*;
    let cases: &[(&str, RequestError, u16)] = &[
        // One empty line in front is skipped, a second is not.
        ("\r\n", InvalidRequestLine, 400),
        (" GET / HTTP/1.1", InvalidRequestLine, 400),
        ("GET", InvalidRequestLine, 400),
        ("GET /", InvalidRequestLine, 400),
        ("GET  / HTTP/1.1", InvalidRequestLine, 400),
        ("GET /  HTTP/1.1", InvalidRequestLine, 400),
        ("GET / HTTP/1.1 ", InvalidRequestLine, 400),
        ("GET /a b HTTP/1.1", InvalidRequestLine, 400),
        ("GET\t/\tHTTP/1.1", InvalidRequestLine, 400),
        ("GE(T / HTTP/1.1", InvalidRequestLine, 400),
        ("G\u{e9}T / HTTP/1.1", InvalidRequestLine, 400),
        ("GET / http/1.1", InvalidVersion, 400),
        ("GET / HTTP/1", InvalidVersion, 400),
        ("GET / HTTP/1.10", InvalidVersion, 400),
        ("GET / HTTP/01.1", InvalidVersion, 400),
        ("GET / HTTP/1.x", InvalidVersion, 400),
        ("GET / HTTPS/1.1", InvalidVersion, 400),
        ("GET / HTTP/0.9", UnsupportedVersion, 505),
        ("GET / HTTP/2.0", UnsupportedVersion, 505),
        ("PRI * HTTP/2.0", UnsupportedVersion, 505),
        ("CONNECT example.com:443 HTTP/1.1", MethodNotImplemented, 501),
        ("AMETHODTHATISLONGERTHANANYTHATEXISTS / HTTP/1.1", MethodNotImplemented, 501),
    ];
    for (line, error, status) in cases {
        refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), *error, *status);
        // The line alone is enough to refuse.
        refused(format!("{line}\r\n").as_bytes(), *error, *status);
    }
    for (line, version) in [("HTTP/1.1", Version::Http11), ("HTTP/1.0", Version::Http10), ("HTTP/1.7", Version::Http11)]
    {
        let head = format!("DELETE /x {line}\r\nHost: a\r\n\r\n");
        let request = complete(&head);
        assert_eq!((request.method, request.version), ("DELETE", version));
    }
    let head = format!("\r\n{SAMPLE}");
    assert_eq!(complete(&head).head_len, head.len());
}

#[test]
fn targets() {
    let accepted: &[(&str, &str, Option<&str>, &str)] = &[
        ("/", "/", None, "field"),
        ("/?", "/", Some(""), "field"),
        ("//a/./b", "//a/./b", None, "field"),
        ("/a:b@c;d=e,f?q=/?&%7e", "/a:b@c;d=e,f", Some("q=/?&%7e"), "field"),
        ("/x?raw=[]{}|^`\\", "/x", Some("raw=[]{}|^`\\"), "field"),
        ("http://other", "/", None, "other"),
        ("HTTP://other:80?q", "/", Some("q"), "other:80"),
        ("https://[::1]:8080/p?q", "/p", Some("q"), "[::1]:8080"),
    ];
    for (target, path, query, host) in accepted {
        let head = format!("GET {target} HTTP/1.1\r\nHost: field\r\n\r\n");
        let request = complete(&head);
        assert_eq!((request.path, request.query, request.host), (*path, *query, Some(*host)), "{target}");
    }
    let malformed = [
        "x",
        "example.com:80",
        "*",
        "?q",
        "/#f",
        "/a#",
        "/a%",
        "/a%2",
        "/a%2g",
        "/a?%zz",
        "/\"",
        "/<",
        "/a\\b",
        "/{}",
        "/|",
        "/\u{e9}",
        "/?\u{e9}",
        "/?<",
        "http://",
        "http:///p",
        "http:/p",
        "http://u@h/",
        "http://u:p@h/",
        "http://h:99999/",
        "http://h:8x/",
        "http://[::1/",
        "http://[x]/",
        "http://a b/",
        "ws://h/",
        "ftp://h/",
        "http://h#f",
    ];
    for target in malformed {
        let head = format!("GET {target} HTTP/1.1\r\nHost: field\r\n\r\n");
        let error = if target.contains(' ') { RequestError::InvalidRequestLine } else { RequestError::InvalidTarget };
        refused(head.as_bytes(), error, 400);
    }
    assert_eq!(complete("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path, "*");
}

#[test]
fn field_lines() {
    use HeadError::*;
    let cases: &[(&[u8], HeadError)] = &[
        (b"A: b\n", BareLineFeed),
        (b"A: b\nB: c\r\n", BareLineFeed),
        (b"A: b\rC: d\r\n", BareCarriageReturn),
        (b"A: b\r\r\n", BareCarriageReturn),
        (b"A: b\0c\r\n", ControlCharacter),
        (b"A: b\x01\r\n", ControlCharacter),
        (b"A: b\x7f\r\n", ControlCharacter),
        (b"A\x0b: b\r\n", ControlCharacter),
        (b" A: b\r\n", FoldedLine),
        (b"\tA: b\r\n", FoldedLine),
        (b"A: b\r\n folded\r\n", FoldedLine),
        (b"A: b\r\n \r\n", FoldedLine),
        (b"no colon\r\n", MissingColon),
        (b"A : b\r\n", SpaceBeforeColon),
        (b"A\t: b\r\n", SpaceBeforeColon),
        (b": b\r\n", InvalidName),
        (b"A b: c\r\n", InvalidName),
        (b"A(b): c\r\n", InvalidName),
        (b"\xc3\xa9: c\r\n", InvalidName),
        (b"A\"b\": c\r\n", InvalidName),
        (b"A/b: c\r\n", InvalidName),
    ];
    for (lines, error) in cases {
        let head = [b"GET / HTTP/1.1\r\n", *lines, b"Host: a\r\n\r\n"].concat();
        refused(&head, RequestError::Head(*error), 400);
    }
    let head = b"GET / HTTP/1.1\r\nHost:a\r\nX-Empty:\r\nX-Space: \t in \t side \t\r\nX-Text: \xe9\xff\r\n\r\n";
    let Ok(Some(request)) = parse(head) else { panic!("a valid head was refused") };
    let fields: Vec<_> = request.fields.iter().collect();
    let expected: &[(&str, &[u8])] =
        &[("Host", b"a"), ("X-Empty", b""), ("X-Space", b"in \t side"), ("X-Text", b"\xe9\xff")];
    assert_eq!(fields, expected);
    assert_eq!(request.fields.get_str("x-text"), None);
}

#[test]
fn what_is_not_http_is_refused_at_once() {
    let tls_client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    refused(tls_client_hello, RequestError::Head(HeadError::ControlCharacter), 400);
    refused(b"\n", RequestError::Head(HeadError::BareLineFeed), 400);
    refused(b"GET / HTTP/1.1\n", RequestError::Head(HeadError::BareLineFeed), 400);
    refused(&[0xff, 0x00], RequestError::Head(HeadError::ControlCharacter), 400);
}

#[test]
fn hosts() {
    use RequestError::*;
    refused(b"GET / HTTP/1.1\r\n\r\n", MissingHost, 400);
    refused(b"GET http://a/ HTTP/1.1\r\n\r\n", MissingHost, 400);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", MultipleHosts, 400);
    refused(b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", MultipleHosts, 400);
    assert_eq!(complete("GET / HTTP/1.0\r\n\r\n").host, None);
    for host in
        ["", "a b", "a, b", "a/b", "u@a", "a:b", "a:80:80", "a:65536", "[::1", "[::g]", "[::1]x", ":80", "a%2", "a?"]
    {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), InvalidHost, 400);
    }
    for host in ["a", "a:", "a:65535", "A-b_c.example", "127.0.0.1:80", "[::1]", "[2001:db8::1]:443", "a%2eb"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(complete(&head).host, Some(host));
    }
}

#[test]
fn bodies() {
    use RequestError::*;
    let head = |version: &str, lines: &str| format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n");
    let refusals: &[(&str, &str, RequestError, u16)] = &[
        ("1.1", "Content-Length: 5\r\nContent-Length: 6", MultipleContentLengths, 400),
        ("1.1", "Content-Length: 5\r\ncontent-length: 5", MultipleContentLengths, 400),
        ("1.1", "Content-Length: 5, 5", InvalidContentLength, 400),
        ("1.1", "Content-Length:", InvalidContentLength, 400),
        ("1.1", "Content-Length: -1", InvalidContentLength, 400),
        ("1.1", "Content-Length: +1", InvalidContentLength, 400),
        ("1.1", "Content-Length: 0x10", InvalidContentLength, 400),
        ("1.1", "Content-Length: 1 0", InvalidContentLength, 400),
        ("1.1", "Content-Length: 18446744073709551616", InvalidContentLength, 400),
        ("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked", LengthWithTransferEncoding, 400),
        ("1.0", "Transfer-Encoding: chunked", TransferEncodingInHttp10, 400),
        ("1.1", "Transfer-Encoding: gzip", InvalidTransferEncoding, 400),
        ("1.1", "Transfer-Encoding: identity", InvalidTransferEncoding, 400),
        ("1.1", "Transfer-Encoding:", InvalidTransferEncoding, 400),
        ("1.1", "Transfer-Encoding: chunked, gzip", InvalidTransferEncoding, 400),
        ("1.1", "Transfer-Encoding: chunked, chunked", InvalidTransferEncoding, 400),
        ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", InvalidTransferEncoding, 400),
        ("1.1", "Transfer-Encoding: xchunked", InvalidTransferEncoding, 400),
        ("1.1", "Transfer-Encoding: chunked;q=1", InvalidTransferEncoding, 400),
        ("1.1", "Transfer-Encoding: gzip, chunked", UnsupportedTransferCoding, 501),
        ("1.1", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", UnsupportedTransferCoding, 501),
    ];
    for (version, lines, error, status) in refusals {
        refused(head(version, lines).as_bytes(), *error, *status);
    }
    for (lines, body) in [
        ("X: y", Body::None),
        ("Content-Length: 0", Body::Length(0)),
        ("Content-Length: 0042", Body::Length(42)),
        ("Content-Length: 18446744073709551615", Body::Length(u64::MAX)),
        ("Transfer-Encoding: Chunked", Body::Chunked),
        ("Transfer-Encoding: , chunked ,", Body::Chunked),
    ] {
        assert_eq!(complete(&head("1.1", lines)).body, body, "{lines}");
    }
}

#[test]
fn limits() {
    let limits = RequestLimits { head_bytes_max: 100, fields_max: 3 };
    let of_length = |length: usize, fields: usize| {
        let start = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "B:\r\n".repeat(fields - 2));
        let filler = "x".repeat(length - start.len() - 6);
        format!("{start}C:{filler}\r\n\r\n")
    };
    assert!(matches!(parse_request(of_length(100, 3).as_bytes(), &limits), Ok(Some(_))));
    let long = of_length(101, 3);
    assert_eq!(parse_request(&long.as_bytes()[..99], &limits), Ok(None));
    assert_eq!(parse_request(&long.as_bytes()[..100], &limits), Err(RequestError::HeadTooLarge));
    assert_eq!(parse_request(long.as_bytes(), &limits), Err(RequestError::HeadTooLarge));
    assert_eq!(RequestError::HeadTooLarge.status(), 431);
    let many = RequestError::Head(HeadError::TooManyFields);
    assert_eq!(parse_request(of_length(90, 4).as_bytes(), &limits), Err(many));
    assert_eq!(many.status(), 431);
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100));
    assert_eq!(parse_request(target.as_bytes(), &limits), Err(RequestError::TargetTooLong));
    assert_eq!(RequestError::TargetTooLong.status(), 414);
    // An empty line in front counts too, so that a buffer of the limit always decides.
    let padded = format!("\r\n{}", of_length(99, 3));
    assert_eq!(parse_request(&padded.as_bytes()[..100], &limits), Err(RequestError::HeadTooLarge));
}

#[test]
fn upgrades_to_refuse() {
    use UpgradeError::*;
    let cases: &[(&str, &str, UpgradeError)] = &[
        ("GET", "", NotGet),
        ("Upgrade", "", MissingUpgrade),
        ("Upgrade", "Upgrade: h2c\r\n", MissingUpgrade),
        ("Upgrade", "Upgrade: websocket/13\r\n", MissingUpgrade),
        ("Upgrade", "Upgrade: web socket\r\n", MissingUpgrade),
        ("Connection", "", MissingConnectionUpgrade),
        ("Connection", "Connection: keep-alive\r\n", MissingConnectionUpgrade),
        ("Connection", "Connection: upgraded\r\n", MissingConnectionUpgrade),
        ("Sec-WebSocket-Key", "", MissingKey),
        ("", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", MultipleKeys),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key:\r\n", InvalidKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ=\r\n", InvalidKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", InvalidKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=\r\n", InvalidKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy\r\n", InvalidKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25-ZQ==\r\n", InvalidKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZ SBub25jZQ==\r\n", InvalidKey),
        ("Sec-WebSocket-Version", "", UnsupportedVersion),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8\r\n", UnsupportedVersion),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 013\r\n", UnsupportedVersion),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8\r\n", UnsupportedVersion),
        ("", "Sec-WebSocket-Version: 13\r\n", MultipleVersions),
        ("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol:\r\n", InvalidProtocols),
        ("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a b\r\n", InvalidProtocols),
        ("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a/b\r\n", InvalidProtocols),
        ("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a, b, a\r\n", InvalidProtocols),
        ("", "Sec-WebSocket-Protocol: chat\r\n", InvalidProtocols),
        ("", "Sec-WebSocket-Extensions:\r\n", InvalidExtensions),
        ("", "Sec-WebSocket-Extensions: a b\r\n", InvalidExtensions),
        ("", "Sec-WebSocket-Extensions: a;\r\n", InvalidExtensions),
        ("", "Sec-WebSocket-Extensions: a; b=\r\n", InvalidExtensions),
        ("", "Sec-WebSocket-Extensions: a; b=\"\"\r\n", InvalidExtensions),
        ("", "Sec-WebSocket-Extensions: a; b=\"c d\"\r\n", InvalidExtensions),
        ("", "Content-Length: 5\r\n", UnexpectedBody),
        ("", "Transfer-Encoding: chunked\r\n", UnexpectedBody),
    ];
    for (without, lines, error) in cases {
        let head = match without {
            &"GET" => SAMPLE.replacen("GET", "POST", 1),
            &"" => altered("Nothing", lines),
            name => altered(name, lines),
        };
        assert_eq!(Upgrade::from_request(&complete(&head)), Err(*error), "{lines:?}");
        assert_eq!(error.status(), if *error == UnsupportedVersion { 426 } else { 400 });
    }
    let old = SAMPLE.replacen("HTTP/1.1", "HTTP/1.0", 1);
    assert_eq!(Upgrade::from_request(&complete(&old)), Err(NotHttp11));
}

#[test]
fn upgrades_to_accept() {
    let cases = [
        ("Upgrade", "UPGRADE: h2c, WebSocket\r\n"),
        ("Upgrade", "Upgrade: h2c\r\nUpgrade: websocket\r\n"),
        ("Connection", "connection: keep-alive, UPGRADE\r\n"),
        ("Connection", "Connection: keep-alive\r\nConnection: upgrade\r\n"),
        ("Sec-WebSocket-Key", "sec-websocket-key:AAAAAAAAAAAAAAAAAAAAAB==\r\n"),
        ("Nothing", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x; y=\"z\"; w=1\r\n"),
        ("Nothing", "Content-Length: 0\r\n"),
        ("Nothing", "Sec-WebSocket-Protocol: , gochat.v1,, bearer.a-b_c.d\r\n"),
    ];
    for (name, lines) in cases {
        let head = altered(name, lines);
        let verdict = Upgrade::from_request(&complete(&head)).map(|upgrade| upgrade.protocols().count());
        let offered = if lines.contains("gochat") { 4 } else { 2 };
        assert_eq!(verdict, Ok(offered), "{lines:?}");
    }
}

#[test]
fn only_a_get_that_names_websocket_is_an_upgrade() {
    let plain = "GET /api HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    assert!(!is_websocket_upgrade(&complete(plain)));
    assert!(!is_websocket_upgrade(&complete(&SAMPLE.replacen("GET", "POST", 1))));
    // Flawed, yet meant as one: it gets the refusal of a handshake.
    assert!(is_websocket_upgrade(&complete(&altered("Sec-WebSocket-Key", ""))));
}

#[test]
fn refusals() {
    let mut out = Vec::new();
    let error = UpgradeError::UnsupportedVersion;
    write_refusal(error.status(), error.headers(), "", b"", &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 426 Upgrade Required\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
    );
    out.clear();
    write_refusal(503, &[("Retry-After", "5")], "application/json", b"{\"a\":12345}", &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
         Content-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"a\":12345}"
    );
}

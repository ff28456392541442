//! The two answers of a server to an upgrade: accepted, or refused and closed. Never answers ordinary requests.

use alloc::vec::Vec;

use super::accept::accept_value;

/// Appends the 101 response to a request with this `key` (RFC 6455 section 4.2.2). `protocol` must be one the client
/// offered; extensions are declined by leaving them out.
pub fn write_accept(key: &[u8], protocol: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept_value(key));
    if let Some(protocol) = protocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a whole response after which the connection is closed. `headers` and `content_type` are the caller's own,
/// free of line ends; the body may be empty.
pub fn write_refusal(status: u16, headers: &[(&str, &str)], content_type: &str, body: &[u8], out: &mut Vec<u8>) {
    let upgrade = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(usize::from(status), out);
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    // Upgrade is a connection option (RFC 9110 section 7.8).
    out.extend_from_slice(if upgrade { b"\r\nConnection: close, Upgrade" } else { b"\r\nConnection: close" });
    for (name, value) in headers {
        for part in ["\r\n", name, ": ", value] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if !body.is_empty() {
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(content_type.as_bytes());
    }
    out.extend_from_slice(b"\r\nContent-Length: ");
    push_decimal(body.len(), out);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

fn push_decimal(mut number: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The standard phrase of the statuses a handshake is refused with; empty, which is allowed, for others.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        423 => "Locked",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

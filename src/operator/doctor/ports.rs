//! The two addresses: free, taken by this installation's server, or taken by somebody else.

use super::finding::Finding;
use crate::config::Config;
use crate::operator::order::Vitals;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(2);

pub(super) fn examine(config: &Config, vitals: Option<&Vitals>) -> Vec<Finding> {
    let ours = |of: fn(&Vitals) -> &String| vitals.map(|vitals| of(vitals).as_str());
    vec![
        port("port of clients", config.listen, ours(|vitals| &vitals.listen)),
        port("port of the admin", config.admin, ours(|vitals| &vitals.admin)),
    ]
}

fn port(check: &'static str, wanted: SocketAddr, ours: Option<&str>) -> Finding {
    if let Some(ours) = ours {
        return match TcpStream::connect_timeout(&ours.parse().unwrap_or(wanted), WAIT) {
            Ok(_) => Finding::ok(check, format!("the server answers on {ours}")),
            Err(error) => Finding::fail(
                check,
                format!("the server does not answer on {ours}: {error}"),
                "it may be stopping: look at its log, restart it",
            ),
        };
    }
    match TcpListener::bind(wanted) {
        Ok(_) => Finding::ok(check, format!("{wanted} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_gochat(wanted) => Finding::fail(
            check,
            format!("{wanted} is in use by a gochat on another data directory"),
            "stop that one, or give this one another address",
        ),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::fail(
            check,
            format!("{wanted} is in use by another program"),
            format!("`ss -ltnp 'sport = :{}'` names it; stop it, or take another address", wanted.port()),
        ),
        Err(error) => {
            Finding::fail(check, format!("{wanted} cannot be used: {error}"), "take an address of this machine")
        }
    }
}

/// Both listeners of a gochat answer `/health` with JSON that has a status and a time.
fn is_gochat(addr: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&addr, WAIT)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        // Whatever came until it was cut off will do.
        let _ = stream.take(4096).read_to_end(&mut answer);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().is_ok_and(|answer| {
        answer.starts_with("HTTP/1.1") && answer.contains("\"status\":") && answer.contains("\"time\":")
    })
}

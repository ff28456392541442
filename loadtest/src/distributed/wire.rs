//! What coordinator and agent say to each other: one JSON object a line over TCP. Owns the messages, their version and the
//! bounds of a line; decides nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::merge::{Second, Share};

/// Rises when a message changes; both sides must have the same.
pub(super) const VERSION: u32 = 3;
/// The longest line before the other side is known.
pub(super) const HELLO_BYTES_MAX: u64 = 4096;
/// The longest line of one who is known: 100,000 users and their tokens.
pub(super) const LINE_BYTES_MAX: u64 = 64 << 20;

/// From the coordinator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToAgent {
    /// First of all.
    Hello { version: u32, token: Option<String> },
    /// Connect, and wait with all connections standing.
    Prepare(Assignment),
    /// Begin after so many milliseconds.
    Go { after_ms: u64 },
    /// The other agents sent so many messages into the shared room.
    Others { sent: u64 },
}

/// An agent's share of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Assignment {
    /// The command line from `run` on.
    pub(super) command: Vec<String>,
    /// Lines of the users that are this agent's; empty where the run has none.
    pub(super) users: Vec<String>,
    /// Clients of the agents before this one.
    pub(super) first_client: u32,
    /// Clients of all agents.
    pub(super) clients: u32,
    /// The run's id where the clients of all agents are in one room.
    pub(super) shared_run: Option<u32>,
}

/// From an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromAgent {
    /// The agent is free and waits for its assignment.
    Welcome { version: u32 },
    /// It is not, or does not like the coordinator.
    Refused { why: String },
    /// So many connections stand.
    Prepared { connections: u32 },
    /// It has heard when to begin.
    Begun,
    /// It sends no more, and has sent so many messages.
    Sent { messages: u64 },
    /// A second has passed.
    Second(Box<Second>),
    /// The share is carried out.
    Done(Box<Share>),
    /// It cannot be.
    Failed { why: String },
}

/// One end of a conversation: reads lines.
pub(super) struct Lines {
    reader: BufReader<TcpStream>,
}

impl Lines {
    pub(super) fn new(stream: TcpStream) -> Lines {
        Lines { reader: BufReader::new(stream) }
    }

    /// The next line, of at most `bytes_max` bytes; or why there is none.
    pub(super) fn next<T: DeserializeOwned>(&mut self, bytes_max: u64) -> Result<T, String> {
        let mut line = Vec::new();
        (&mut self.reader).take(bytes_max).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        match line.last() {
            Some(b'\n') => serde_json::from_slice(&line).map_err(|e| format!("it sent what nobody understands: {e}")),
            None => Err("it closed the connection".to_owned()),
            Some(_) if line.len() as u64 == bytes_max => Err(format!("it sent a line of more than {bytes_max} bytes")),
            Some(_) => Err("it closed the connection in the middle of a line".to_owned()),
        }
    }
}

/// Writes one line.
pub(super) fn tell(mut stream: &TcpStream, message: &impl Serialize) -> Result<(), String> {
    let mut line = serde_json::to_vec(message).map_err(|e| e.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn lines_are_read_up_to_their_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut lines = Lines::new(listener.accept().unwrap().0);
        tell(&sender, &ToAgent::Go { after_ms: 7 }).unwrap();
        assert!(matches!(lines.next(100), Ok(ToAgent::Go { after_ms: 7 })));
        sender.write_all(b"{\"type\":\"stay\"}\n0123456789\nhalf").unwrap();
        drop(sender);
        let mut why = |max| lines.next::<ToAgent>(max).unwrap_err();
        assert!(why(100).contains("nobody understands"));
        assert_eq!(why(5), "it sent a line of more than 5 bytes");
        assert!(why(100).contains("nobody understands"), "the rest of that line");
        assert_eq!(why(100), "it closed the connection in the middle of a line");
        assert_eq!(why(100), "it closed the connection");
    }
}

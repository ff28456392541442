//! An echo server that does something wrong with one of every so many messages of all its connections, and counts how
//! often it did. Owns no assertions.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use std::io::{ErrorKind, Write};
use tungstenite::{Error, WebSocket};

/// What is done to a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wrong {
    Drop,
    Duplicate,
    /// It is echoed after the next message of its connection.
    Reorder,
    /// Its last byte is changed.
    Corrupt,
    /// It goes to another connection instead.
    Foreign,
    /// From it on, its connection gets no answer; the period counts messages of one connection.
    Stall,
    /// The connection ends without a close frame; the period counts messages of one connection.
    Hangup,
}

/// A running server.
pub(crate) struct Faulty {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    wrong: Wrong,
    period: u64,
    seen: AtomicU64,
    done: AtomicU64,
    /// The sending halves of all connections.
    writers: Mutex<Vec<TcpStream>>,
}

/// When a held message is let go if nothing overtakes it.
const HOLD: Duration = Duration::from_millis(100);

impl Faulty {
    /// Serves until the test ends; every `period`th message meets `wrong`.
    pub(crate) fn serve(wrong: Wrong, period: u64) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            wrong,
            period,
            seen: AtomicU64::new(0),
            done: AtomicU64::new(0),
            writers: Mutex::new(Vec::new()),
        });
        let of_listener = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&of_listener);
                thread::spawn(move || shared.echo(stream.unwrap()));
            }
        });
        Faulty { addr, shared }
    }

    /// How many messages met the fault.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Ends at whatever error: the tool sees it.
    fn echo(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut socket: WebSocket<TcpStream> = tungstenite::accept(stream).ok()?;
        let own = {
            let mut writers = self.writers.lock().unwrap();
            writers.push(socket.get_ref().try_clone().ok()?);
            writers.len() - 1
        };
        socket.get_ref().set_read_timeout(Some(HOLD)).ok()?;
        let (mut held, mut of_this): (Option<Vec<u8>>, u64) = (None, 0);
        loop {
            let message = match socket.read() {
                Ok(message) if message.is_text() || message.is_binary() => message.into_data(),
                Ok(_) => continue,
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    held.take().map_or(Some(()), |held| self.send(own, &[&held]))?;
                    continue;
                }
                Err(_) => return None,
            };
            of_this += 1;
            let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
            let due = match self.wrong {
                Wrong::Stall | Wrong::Hangup => of_this >= self.period,
                _ => number.is_multiple_of(self.period),
            };
            match (held.take(), due) {
                (Some(held), _) => {
                    self.done.fetch_add(1, Ordering::SeqCst);
                    self.send(own, &[&message, &held])?;
                }
                (None, false) => self.send(own, &[&message])?,
                (None, true) => {
                    self.done.fetch_add(u64::from(self.wrong != Wrong::Reorder), Ordering::SeqCst);
                    match self.wrong {
                        Wrong::Drop | Wrong::Stall => {}
                        Wrong::Duplicate => self.send(own, &[&message, &message])?,
                        Wrong::Reorder => held = Some(message.to_vec()),
                        Wrong::Corrupt => {
                            let (_, start) = message.split_last()?;
                            self.send(own, &[&[start, b"~"].concat()])?;
                        }
                        Wrong::Foreign => self.send(own ^ 1, &[&message])?,
                        Wrong::Hangup => return socket.get_ref().shutdown(std::net::Shutdown::Both).ok(),
                    }
                }
            }
        }
    }

    /// Sends short text messages in one write, so that frames of two threads never mix.
    fn send(&self, to: usize, messages: &[&[u8]]) -> Option<()> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend([0x81, u8::try_from(message.len()).ok().filter(|len| *len < 126)?]);
            bytes.extend_from_slice(message);
        }
        self.writers.lock().unwrap().get_mut(to)?.write_all(&bytes).ok()
    }
}

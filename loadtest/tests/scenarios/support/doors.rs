//! An echo server that is choosy about who comes in after the first, or that restarts once, and counts. Owns no assertions.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tungstenite::WebSocket;

/// What happens to those that come once as many as `first` have been let in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Door {
    Open,
    /// Every third of them gets a 503.
    EveryThird,
    /// All of them do.
    Shut,
    /// At so many messages all connections end, and nothing listens for a moment.
    RestartAt(u64),
}

/// A running server.
pub(crate) struct Doors {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    door: Door,
    first: u64,
    came: AtomicU64,
    refused: AtomicU64,
    inside: AtomicU64,
    messages: AtomicU64,
    down: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Doors {
    /// Serves until the test ends.
    pub(crate) fn serve(door: Door, first: u64) -> Doors {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let count = AtomicU64::default;
        let shared = Arc::new(Shared {
            door,
            first,
            came: count(),
            refused: count(),
            inside: count(),
            messages: count(),
            down: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let of_listener = Arc::clone(&shared);
        thread::spawn(move || of_listener.listen(listener, addr));
        Doors { addr, shared }
    }

    /// Connections let in, over the whole time.
    pub(crate) fn let_in(&self) -> u64 {
        self.shared.came.load(Ordering::SeqCst) - self.refused()
    }

    /// Connections refused.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Waits until nobody is connected.
    pub(crate) fn wait_until_empty(&self) {
        while self.shared.inside.load(Ordering::SeqCst) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Shared {
    fn listen(self: Arc<Shared>, mut listener: TcpListener, addr: SocketAddr) {
        loop {
            let (stream, _) = listener.accept().unwrap();
            if self.down.load(Ordering::SeqCst) {
                drop(stream);
                drop(listener);
                thread::sleep(Duration::from_millis(100));
                for stream in self.streams.lock().unwrap().drain(..) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                listener = TcpListener::bind(addr).unwrap();
                self.down.store(false, Ordering::SeqCst);
                continue;
            }
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.enter(stream));
        }
    }

    fn enter(&self, mut stream: TcpStream) -> Option<()> {
        let number = self.came.fetch_add(1, Ordering::SeqCst);
        let refuse = number >= self.first
            && match self.door {
                Door::Open | Door::RestartAt(_) => false,
                Door::EveryThird => (number - self.first) % 3 == 2,
                Door::Shut => true,
            };
        if refuse {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 1024]);
            return stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").ok();
        }
        self.streams.lock().unwrap().push(stream.try_clone().ok()?);
        self.inside.fetch_add(1, Ordering::SeqCst);
        self.echo(stream);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Some(())
    }

    /// Ends at whatever error: the tool sees it.
    fn echo(&self, stream: TcpStream) -> Option<()> {
        let addr = stream.local_addr().ok()?;
        stream.set_nodelay(true).ok()?;
        let mut socket: WebSocket<TcpStream> = tungstenite::accept(stream).ok()?;
        loop {
            let message = socket.read().ok()?;
            if !message.is_text() && !message.is_binary() {
                continue;
            }
            if self.door == Door::RestartAt(self.messages.fetch_add(1, Ordering::SeqCst) + 1) {
                self.down.store(true, Ordering::SeqCst);
                // Wakes the listener.
                let _ = TcpStream::connect(addr);
            }
            socket.send(message).ok()?;
        }
    }
}

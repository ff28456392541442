//! Command line of the engine's examples, and the server they start. Knows no application.

use std::net::SocketAddr;
use std::process::exit;

use gochat_gateway::engine::{App, AppMaker, EngineConfig, start};
use gochat_gateway::limits::{Limits, Timeouts};
use gochat_ring::{ReactorChoice, RingConfig};

/// The longest message the examples take.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

struct Arguments {
    listen: SocketAddr,
    reactor: ReactorChoice,
    shards: usize,
    connections: u32,
    pin: bool,
}

/// Serves until the process is killed. `make` makes the applications of so many shards.
pub(crate) fn serve<A: App + 'static>(make: impl FnOnce(usize) -> Vec<AppMaker<A>>) {
    let arguments = parse(std::env::args().skip(1)).unwrap_or_else(|problem| fail(&problem));
    let shards = arguments.shards;
    let config = EngineConfig {
        listen: arguments.listen,
        backlog: 4096,
        reactor: arguments.reactor,
        shards,
        pin: arguments.pin,
        ring: RingConfig { connections_max: arguments.connections, outgoing_max: 0, ..RingConfig::default() },
        limits: Limits {
            connections_max: arguments.connections as usize,
            handshakes_max: arguments.connections as usize,
            message_bytes_max: MESSAGE_BYTES_MAX,
            queue_frames_max: 16_384,
            queue_bytes_max: 4 * MESSAGE_BYTES_MAX,
            shard_queue_bytes_max: 1 << 30,
            shard_partial_bytes_max: 1 << 30,
        },
        timeouts: Timeouts::default(),
    };
    let running = start(&config, |_| make(shards)).unwrap_or_else(|error| fail(&error.to_string()));
    say(&format!("listening on {} with {} and {shards} shard(s)", running.addr, running.reactor));
    if let Err(error) = running.join() {
        fail(&error.to_string());
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        listen: SocketAddr::from(([127, 0, 0, 1], 9001)),
        reactor: ReactorChoice::Auto,
        shards: 1,
        connections: 16_384,
        pin: true,
    };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let wrong = |what: &str| format!("{word}: {value:?} is not {what}");
        match word.as_str() {
            "--listen" => arguments.listen = value.parse().map_err(|_| wrong("an address like 127.0.0.1:9001"))?,
            "--reactor" => arguments.reactor = value.parse()?,
            "--shards" => arguments.shards = value.parse().map_err(|_| wrong("a number"))?,
            "--connections" => arguments.connections = value.parse().map_err(|_| wrong("a number"))?,
            "--pin" => arguments.pin = value == "on",
            _ => {
                return Err(format!(
                    "unknown argument {word}; there are --listen ADDR, --reactor auto|uring|epoll, --shards N, \
                     --connections N (per shard), --pin on|off"
                ));
            }
        }
    }
    if (1..=256).contains(&arguments.shards) { Ok(arguments) } else { Err("--shards must be 1 to 256".to_owned()) }
}

#[allow(clippy::print_stderr, reason = "this is a command")]
fn fail(problem: &str) -> ! {
    eprintln!("error: {problem}");
    exit(1)
}

#[allow(clippy::print_stderr, reason = "this is a command")]
fn say(text: &str) {
    eprintln!("{text}");
}

//! The command line's way to an installation: through the socket of the server that runs, or, when none does, by opening
//! the data directory itself.

use super::order::{Order, Outcome, PROTOCOL, Reply, Request};
use super::socket::Place;
use super::{Notes, Operator};
use crate::config::Config;
use crate::data::{Acquired, DataDir};
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// How long a server that starts or stops is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(200);

/// A way to an installation.
pub(crate) enum Way {
    /// A server runs; its socket.
    Server(Place),
    /// None does; the directory is ours meanwhile.
    Here(Box<Operator>),
}

impl Way {
    /// Finds it. A directory that does not exist is made only when `may_make`.
    ///
    /// # Errors
    /// One line: nothing there, not permitted, or in use by something that does not answer.
    pub(crate) async fn find(config: &Config, may_make: bool) -> Result<Way, String> {
        let dir = &config.data_dir;
        if !may_make && !dir.join("gochat.sqlite").exists() {
            return Err(match std::fs::read_dir(dir) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => not_permitted(config),
                _ => format!(
                    "there is no installation in {}: name its directory with --data-dir, or its --config",
                    dir.display()
                ),
            });
        }
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(place) = server(config).await? {
                return Ok(Way::Server(place));
            }
            match DataDir::try_acquire(dir)? {
                Acquired::Ours(dir) => return Ok(Way::Here(Box::new(Operator::alone(dir, config.clone()).await?))),
                Acquired::InUse(why) if Instant::now() >= until => {
                    return Err(format!("{why}, which does not answer operators: it is starting, stopping or stuck"));
                }
                Acquired::InUse(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Has an order done.
    ///
    /// # Errors
    /// One line for the operator.
    pub(crate) async fn run(&self, order: Order, notes: &Notes) -> Result<Outcome, String> {
        match self {
            Way::Here(operator) => operator.run(order, notes).await,
            Way::Server(place) => ask(place, order, notes).await,
        }
    }

    /// Whether a server runs.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self, Way::Server(_))
    }
}

/// The socket, when somebody listens on it.
pub(crate) async fn server(config: &Config) -> Result<Option<Place>, String> {
    let Ok(place) = Place::of(&config.data_dir) else { return Ok(None) };
    match UnixStream::connect(&place.path).await {
        Ok(_) => Ok(Some(place)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(not_permitted(config)),
        Err(_) => Ok(None),
    }
}

fn not_permitted(config: &Config) -> String {
    format!("the installation in {} belongs to another user: run this as that user", config.data_dir.display())
}

/// Sends one order to a server and waits for its end.
pub(crate) async fn ask(place: &Place, order: Order, notes: &Notes) -> Result<Outcome, String> {
    let failed = |error: std::io::Error| format!("the server cannot be asked: {error}");
    let stream = UnixStream::connect(&place.path).await.map_err(failed)?;
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(&Request { version: PROTOCOL, order }).map_err(|error| error.to_string())?;
    line.push(b'\n');
    write.write_all(&line).await.map_err(failed)?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        let reply = serde_json::from_str(&line);
        match reply.map_err(|_| "the server answered what this version does not understand".to_owned())? {
            Reply::Note(text) => drop(notes.send(text)),
            Reply::Done(outcome) => return Ok(outcome),
            Reply::Failed(why) => return Err(why),
        }
    }
    Err("the server ended before it answered: look at its log, then ask again".to_owned())
}

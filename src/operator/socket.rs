//! The operator socket of a running server: `operator.sock` in the data directory, mode 0600, for its own user and root.
//! Owns connections and their limits; what is ordered is done by [`Operator`].

use super::Operator;
use super::order::{ORDER_BYTES_MAX, Order, PROTOCOL, Reply, Request};
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Its name in the data directory.
const FILE: &str = "operator.sock";
/// Orders at once; further ones wait.
const ORDERS_MAX: usize = 16;
/// How long an order may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// What a socket's address holds, less some.
const PATH_BYTES_MAX: usize = 100;

/// Where the socket of a data directory is. Keep it while the path is used.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    _dir: Option<File>,
}

impl Place {
    /// A path that is too long for an address goes through the directory's descriptor.
    pub(super) fn of(data_dir: &Path) -> std::io::Result<Place> {
        let path = data_dir.join(FILE);
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Place { path, _dir: None });
        }
        let dir = File::open(data_dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{FILE}", dir.as_raw_fd()));
        Ok(Place { path, _dir: Some(dir) })
    }
}

/// Opens the socket of the operator's data directory, whose lock is held, and serves it as long as the answer is polled.
///
/// # Errors
/// One line that says why it cannot be opened.
pub(crate) fn listen(operator: Operator) -> Result<impl Future<Output = ()>, String> {
    let data_dir = operator.config.data_dir.clone();
    let failed = |error: std::io::Error| format!("cannot open {}/{FILE}: {error}", data_dir.display());
    let place = Place::of(&data_dir).map_err(failed)?;
    // Left by a process that was killed: the lock says that there is none.
    match fs::remove_file(&place.path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&place.path).map_err(failed)?;
    fs::set_permissions(&place.path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(serve(Arc::new(operator), listener, place))
}

async fn serve(operator: Arc<Operator>, listener: UnixListener, place: Place) {
    let _remove = Remove(place);
    let room = Arc::new(Semaphore::new(ORDERS_MAX));
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(sessions.spawn(converse(operator.clone(), room.clone(), stream))),
                Err(error) => {
                    tracing::warn!(%error, "the operator socket did not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// A socket that nobody serves is taken away.
struct Remove(Place);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0.path);
    }
}

/// One connection: one order.
async fn converse(operator: Arc<Operator>, room: Arc<Semaphore>, stream: UnixStream) {
    let me = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == me || peer.uid() == 0 => {}
        // The file's mode keeps others out; this keeps out those to whom it was given.
        _ => return tracing::warn!("the operator socket turned somebody else away"),
    }
    let Ok(_permit) = room.acquire_owned().await else { return };
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let reply = match tokio::time::timeout(ARRIVAL, order(&mut read)).await {
        Ok(Ok(order)) => work(&operator, order, read, &mut write).await,
        Ok(Err(why)) => Some(Reply::Failed(why)),
        Err(_) => None,
    };
    if let Some(reply) = reply {
        say(&mut write, &reply).await;
    }
}

async fn order(read: &mut BufReader<OwnedReadHalf>) -> Result<Order, String> {
    let mut line = String::new();
    read.take(ORDER_BYTES_MAX).read_line(&mut line).await.map_err(|error| error.to_string())?;
    if !line.ends_with('\n') {
        return Err(format!("an order is one line of JSON, at most {ORDER_BYTES_MAX} bytes"));
    }
    let version = serde_json::from_str::<serde_json::Value>(&line).ok().and_then(|json| json["version"].as_u64());
    if version.is_some_and(|version| version != u64::from(PROTOCOL)) {
        return Err(format!(
            "the running server (gochat {}) understands version {PROTOCOL} of operator orders: use the `gochat` that it was started with",
            env!("CARGO_PKG_VERSION")
        ));
    }
    serde_json::from_str::<Request>(&line).map(|request| request.order).map_err(|error| {
        format!("the running server (gochat {}) does not understand this order: {error}", env!("CARGO_PKG_VERSION"))
    })
}

/// Does it and tells how far it is. `None` when a backup was given up, as nobody waits for it.
async fn work(
    operator: &Operator,
    order: Order,
    mut read: BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
) -> Option<Reply> {
    // What is short is done whether somebody waits or not: half of it would be worse.
    let given_up = matches!(order, Order::Backup { .. });
    let (notes, mut said) = mpsc::unbounded_channel();
    let work = operator.run(order, &notes);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(match done {
                Ok(outcome) => Reply::Done(outcome),
                Err(why) => Reply::Failed(why),
            }),
            Some(text) = said.recv() => say(write, &Reply::Note(text)).await,
            _ = read.read_u8(), if given_up => {
                tracing::warn!("a backup was given up: whoever asked for it is gone");
                return None;
            }
        }
    }
}

/// Whoever is gone hears nothing.
async fn say(write: &mut OwnedWriteHalf, reply: &Reply) {
    if let Ok(mut line) = serde_json::to_vec(reply) {
        line.push(b'\n');
        let _ = write.write_all(&line).await;
    }
}

//! The operator's work on one installation: the same code in the running server, which is asked over a Unix socket, and
//! in a command line that finds no server and opens the data directory itself.

mod accounts;
mod backup;
pub(crate) mod client;
pub(crate) mod doctor;
mod examine;
mod manifest;
mod mint;
pub(crate) mod order;
pub(crate) mod restore;
mod socket;
mod world;

use crate::config::Config;
use crate::data::{DataDir, Embedded};
use gochat_infra::rpc::request;
use gochat_proto::failure::Failure;
use order::{Order, Outcome};
pub(crate) use socket::listen;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tonic::{Request, Response, Status};

/// How long one call to repo may take; only a store in trouble takes a second of it.
const CALL: Duration = Duration::from_secs(30);

/// Where a command says how far it is. Nobody has to listen.
pub(crate) type Notes = mpsc::UnboundedSender<String>;

/// Does what is ordered.
pub(crate) struct Operator {
    parts: Arc<Embedded>,
    config: Config,
    /// Of the server that this runs in, if it does.
    live: Option<Live>,
    /// One backup at a time.
    backing_up: Mutex<()>,
}

/// What only a running server knows.
pub(crate) struct Live {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) reactor: String,
    pub(crate) takes_messages: watch::Receiver<bool>,
}

impl Operator {
    /// In the running server.
    pub(crate) fn live(parts: Arc<Embedded>, config: Config, live: Live) -> Operator {
        Operator { parts, config, live: Some(live), backing_up: Mutex::default() }
    }

    /// On a data directory that is nobody else's, which exists.
    async fn alone(dir: DataDir, config: Config) -> Result<Operator, String> {
        let parts = Arc::new(dir.open(&config).await?);
        let highest = parts.store.highest_id().await.map_err(|error| error.to_string())?;
        parts.uid.start_above(highest).map_err(|error| error.to_string())?;
        Ok(Operator { parts, config, live: None, backing_up: Mutex::default() })
    }

    /// Does it.
    ///
    /// # Errors
    /// One line for the operator: what went wrong and what to do.
    pub(crate) async fn run(&self, order: Order, notes: &Notes) -> Result<Outcome, String> {
        match order {
            Order::UserList { after, limit, prefix, guests } => self.list(after, limit, prefix, guests).await,
            Order::UserDisable { user } => self.set_enabled(&user, false).await,
            Order::UserEnable { user } => self.set_enabled(&user, true).await,
            Order::UserResetPassword { user, password } => self.reset_password(&user, &password).await,
            Order::UserMint { first, count, prefix, password } => self.mint(first, count, &prefix, &password).await,
            Order::WorldRole { user, role } => self.world_role(&user, role).await,
            Order::Backup { dest } => self.back_up(&dest, notes).await,
            Order::Examine => self.examine().await,
        }
    }
}

/// A call to repo with the deadline of this module.
fn call<T>(message: T) -> Request<T> {
    request(message, CALL)
}

/// What repo answered, or its refusal as one line.
fn answer<T>(answered: Result<Response<T>, Status>) -> Result<T, String> {
    answered.map(Response::into_inner).map_err(|status| {
        let failure = Failure::from_status(&status);
        if failure.message.is_empty() { format!("{:?}", failure.code) } else { failure.message }
    })
}

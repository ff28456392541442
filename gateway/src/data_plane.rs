//! The data plane of one gateway: chat shards and the bridge to them, started together. Ends when control drains it or
//! goes away.

use std::net::SocketAddr;
use std::sync::Arc;

use gochat_ring::ReactorKind;

use crate::bridge::{ControlEnd, bridge};
use crate::config::DataPlaneConfig;
use crate::engine::{AppMaker, Metric, Published, Shards, StartError, start};
use crate::shard::Chat;

/// Running chat shards.
#[derive(Debug)]
pub struct DataPlane {
    shards: Shards,
}

impl DataPlane {
    /// Binds, starts the shards, and gives control its end of the bridge. No session is accepted until control sends
    /// [`Downlink::Accepting`](crate::bridge::Downlink::Accepting) to each shard; HTTP is handed over from the start.
    ///
    /// # Errors
    /// The address is in use or cannot be bound, or the reactor does not work here.
    pub fn start(config: &DataPlaneConfig) -> Result<(DataPlane, ControlEnd), StartError> {
        let chat = Arc::new(config.chat.clone());
        let mut control = None;
        let shards = start(&config.engine, |wakers| {
            let (control_end, shard_ends) = bridge(wakers.to_vec());
            control = Some(control_end);
            let make = |(number, end)| {
                let chat = Arc::clone(&chat);
                Box::new(move || Chat::new(number as u8, chat, end)) as AppMaker<Chat>
            };
            shard_ends.into_iter().enumerate().map(make).collect()
        })?;
        let control = control.ok_or_else(|| StartError::Thread("no shard asked for its application".to_owned()))?;
        Ok((DataPlane { shards }, control))
    }

    /// Where it listens, with the port the kernel chose when 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.shards.addr
    }

    /// The reactor in use.
    pub fn reactor(&self) -> ReactorKind {
        self.shards.reactor
    }

    /// Why that reactor, in one sentence.
    pub fn reactor_reason(&self) -> &str {
        &self.shards.reactor_reason
    }

    /// The numbers of each shard, for `/metrics`.
    pub fn published(&self) -> &[Arc<Published>] {
        &self.shards.published
    }

    /// A metric summed over the shards.
    pub fn sum(&self, metric: Metric) -> u64 {
        self.shards.published.iter().map(|shard| shard.get(metric)).sum()
    }

    /// Whether every shard runs; when not, the gateway cannot go on.
    pub fn is_alive(&self) -> bool {
        self.shards.are_alive()
    }

    /// Waits for the shards to end after [`Downlink::Drain`](crate::bridge::Downlink::Drain), or after the control end
    /// was dropped. Blocks: call it from a thread that may.
    ///
    /// # Errors
    /// A shard did not end in order.
    pub fn join(self) -> Result<(), StartError> {
        self.shards.join()
    }
}

//! When an installation may begin, and whether it takes messages: the store has caught up with its log, and all that
//! stands between a message and the store works.

use crate::config::Config;
use crate::data::Embedded;
use gochat_infra::bus::Bus;
use gochat_infra::bus::log::BusHealth;
use gochat_infra::rpc::request;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::{AwaitPositionsRequest, GetPositionsRequest, Position};
use gochat_proto::topics;
use std::time::Duration;
use tokio::sync::watch;

/// Refuses a store that is ahead of its log (pipeline.md J2), then waits until everything in the log is stored, so that
/// ids start above every one ever used (C3).
pub(crate) async fn catch_up(
    parts: &Embedded,
    config: &Config,
    storing: &watch::Receiver<gochat_task::Health>,
) -> Result<(), String> {
    let mut ends = Vec::new();
    for partition in 0..config.bus.partitions {
        let end = parts.bus.end_offset(topics::MESSAGES_PERSIST, partition).await.map_err(|error| error.to_string())?;
        ends.push(Position { partition, offset: end });
    }
    let mut repo = PipelineServiceClient::new(parts.repo.clone());
    let stored = repo.get_positions(request(GetPositionsRequest {}, Duration::from_secs(5))).await;
    for stored in stored.map_err(|status| status.message().to_owned())?.into_inner().positions {
        let end = ends.iter().find(|end| end.partition == stored.partition).map_or(0, |end| end.offset);
        if stored.offset > end {
            return Err(format!(
                "the database in {dir} has stored the log up to offset {} of partition {}, the log in {dir}/log ends at {end}: one of \
                 them is not of this installation or was restored from an older copy; restore both from one backup",
                stored.offset,
                stored.partition,
                dir = config.data_dir.display()
            ));
        }
    }
    loop {
        let wait = AwaitPositionsRequest { positions: ends.clone(), timeout_ms: 500 };
        let answer = repo.await_positions(request(wait, Duration::from_secs(5))).await;
        if answer.map_err(|status| status.message().to_owned())?.into_inner().passed {
            break;
        }
        if let gochat_task::Health::Stopped(reason) = &*storing.borrow() {
            return Err(reason.clone());
        }
        tracing::info!("storing what the log held when the last process ended");
    }
    let highest = parts.store.highest_id().await.map_err(|error| error.to_string())?;
    parts.uid.start_above(highest).map_err(|error| error.to_string())
}

/// Whether messages are taken: the log and the store work, and so do those who read the log.
pub(crate) fn takes_messages(
    parts: &Embedded,
    mut preparing: watch::Receiver<gochat_logic::Health>,
    mut storing: watch::Receiver<gochat_task::Health>,
) -> watch::Receiver<bool> {
    let (tell, told) = watch::channel(true);
    let mut log = parts.bus.health();
    let mut store = parts.store.health();
    tokio::spawn(async move {
        loop {
            let takes = *log.borrow_and_update() == BusHealth::Ok
                && *store.borrow_and_update()
                && *preparing.borrow_and_update() == gochat_logic::Health::Working
                && *storing.borrow_and_update() == gochat_task::Health::Working;
            if tell.send_replace(takes) != takes {
                tracing::warn!(takes, log = ?*log.borrow(), store = *store.borrow(), "whether messages are taken has changed");
            }
            let changed = tokio::select! {
                changed = log.changed() => changed,
                changed = store.changed() => changed,
                changed = preparing.changed() => changed,
                changed = storing.changed() => changed,
            };
            // Whoever watched over a part that is gone says no more: it ends with the process.
            if changed.is_err() || tell.is_closed() {
                return;
            }
        }
    });
    told
}

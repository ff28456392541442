//! What only the running server knows about itself, for `gochat doctor`.

use super::order::{Outcome, Vitals};
use super::{Operator, answer, call};
use gochat_infra::bus::Bus;
use gochat_infra::bus::log::BusHealth;
use gochat_proto::im::repo::v1::GetPositionsRequest;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::topics;
use rustix::process::{Resource, getrlimit};

impl Operator {
    /// Looks, and changes nothing.
    pub(super) async fn examine(&self) -> Result<Outcome, String> {
        let Some(live) = &self.live else { return Err("no server runs here".to_owned()) };
        let health = self.parts.bus.health().borrow().clone();
        let log = match health {
            BusHealth::Ok => "ok".to_owned(),
            BusHealth::DiskFull => "disk full".to_owned(),
            BusHealth::Stopped(reason) => reason,
        };
        let takes_messages = *live.takes_messages.borrow();
        let lag = self.lag().await?;
        let backlog = self.parts.store.backlog().await.map_err(|error| error.to_string())?;
        let vitals = Vitals {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: live.listen.to_string(),
            admin: live.admin.to_string(),
            reactor: live.reactor.clone(),
            takes_messages,
            log,
            lag,
            parked: backlog.parked,
            outbox: backlog.outbox,
            descriptors_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        };
        Ok(Outcome::Examined(Box::new(vitals)))
    }

    /// Records that are durable and not stored yet.
    async fn lag(&self) -> Result<i64, String> {
        let mut repo = PipelineServiceClient::new(self.parts.repo.clone());
        let stored = answer(repo.get_positions(call(GetPositionsRequest {})).await)?.positions;
        let mut lag = 0;
        for partition in 0..self.config.bus.partitions {
            let end = self.parts.bus.end_offset(topics::MESSAGES_PERSIST, partition).await;
            let end = end.map_err(|error| error.to_string())?;
            let at = stored.iter().find(|stored| stored.partition == partition).map_or(0, |stored| stored.offset);
            lag += (end - at).max(0);
        }
        Ok(lag)
    }
}

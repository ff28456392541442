//! The one writer of one upstream partition: read, prepare, append, check, answer, push, commit (architecture.md §4).
//!
//! Owns the partition's stream and the order of these steps. The next batch is prepared only when this one's append is
//! confirmed (A2); the upstream offset is committed only when the downstream records are out.

use std::sync::Arc;
use std::time::Duration;

use gochat_infra::backoff::{Backoff, asked_to_stop, sleep_until};
use gochat_infra::bus::{BatchLimits, BusError, Consumed, Offset, PartitionStream, StartAt};
use gochat_infra::clock::Clock;
use gochat_infra::gateways::Gateways;
use gochat_infra::lanes::Lanes;
use gochat_infra::uid::{Snowflake, UidError};
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1::PreparedConversation;
use tokio::time::Instant;

use super::audience::Audience;
use super::batch::{Batch, PERSIST_BYTES_MAX, RECORD_OVERHEAD, Verdict};
use super::fanout::{self, Outgoing};
use super::unstored::Unstored;
use super::writer::{Halt, Reign, Writer};
use crate::config::PipelineConfig;

/// Bytes of upstream records prepared together. With [`RECORD_OVERHEAD`] a record, the batch's persist record stays
/// below its limit.
const BATCH_BYTES_MAX: usize = 700 << 10;
/// Records that fit beside [`BATCH_BYTES_MAX`].
pub(crate) const RECORDS_MAX: usize = 2_000;
const _: () = assert!(BATCH_BYTES_MAX + RECORDS_MAX * RECORD_OVERHEAD <= PERSIST_BYTES_MAX);

/// How often the writer asks where persistence stands.
const POSITION_PERIOD: Duration = Duration::from_millis(200);

/// How long a recall waits for what it names to be stored; then its sender is told to try again (D3).
const TARGET_WAIT_MAX: Duration = Duration::from_secs(10);

/// One partition's worker.
pub(crate) struct Worker {
    pub(crate) writer: Writer,
    pub(crate) stream: Box<dyn PartitionStream>,
    pub(crate) lanes: Lanes,
    pub(crate) gateways: Gateways,
    pub(crate) config: PipelineConfig,
    pub(crate) uid: Arc<Snowflake>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Of the upstream topic.
    pub(crate) partitions: u32,
    pub(crate) progress: Progress,
}

/// What was read, appended and committed.
#[derive(Default)]
pub(crate) struct Progress {
    /// Records read and not done, in order; they survive a redraw of the epoch.
    pending: Vec<Consumed>,
    unstored: Unstored,
    asked_position: Option<Instant>,
    /// Behind the last record that is done.
    done: Offset,
    committed: Offset,
}

/// Repo's answers by index of the batch's conversation.
type Prepared = Vec<Option<PreparedConversation>>;

impl Worker {
    /// Works until the partition is taken away, the process shuts down or the bus stops; says which.
    pub(crate) async fn run(mut self) -> Halt {
        let partition = self.writer.partition;
        let halt = match self.work().await {
            Ok(never) => match never {},
            Err(halt) => halt,
        };
        match &halt {
            Halt::Stopped(reason) => tracing::error!(partition, reason, "the bus stopped: messages are not taken"),
            Halt::Stale | Halt::Revoked | Halt::Shutdown => tracing::info!(partition, ?halt, "upstream worker ended"),
        }
        halt
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, Halt> {
        let mut backoff = Backoff::default();
        while let Err(error) = self.stream.seek(StartAt::Committed).await {
            self.writer.bus_failed("seek", error, &mut backoff).await?;
        }
        loop {
            match self.reign().await {
                Ok(never) => match never {},
                Err(Halt::Stale) => {
                    self.writer.stats.stale.inc();
                    if !self.stream.is_owned() {
                        return Err(Halt::Revoked);
                    }
                    // Two who both believe they own the partition must not take it from each other without pause.
                    self.writer.pause(Backoff::default().next_delay()).await?;
                }
                Err(halt) => return Err(halt),
            }
        }
    }

    /// From the draw of an epoch until it is superseded.
    async fn reign(&mut self) -> Result<std::convert::Infallible, Halt> {
        self.progress.unstored = Unstored::default();
        let (epoch, incarnation) = self.writer.draw_epoch().await?;
        if !self.config.without.marker_wait {
            self.writer.pass_marker(epoch).await?;
        }
        let end_at_draw = self.writer.upstream_end().await?;
        let mut reign = Reign { epoch, incarnation, end_at_draw };
        loop {
            if self.progress.pending.is_empty() {
                self.progress.pending = self.read().await?;
            }
            self.process(&mut reign).await?;
        }
    }

    /// The next records; meanwhile what is held back for gateways is tried again.
    async fn read(&mut self) -> Result<Vec<Consumed>, Halt> {
        let records_max = self.config.records_max.clamp(1, RECORDS_MAX);
        let limits = BatchLimits { records_max, bytes_max: BATCH_BYTES_MAX };
        let mut backoff = Backoff::default();
        loop {
            let due = self.lanes.due();
            tokio::select! {
                biased;
                () = asked_to_stop(&mut self.writer.shutdown) => return Err(Halt::Shutdown),
                () = sleep_until(due) => {
                    self.lanes.retry().await.map_err(stopped)?;
                    self.commit().await;
                }
                read = self.stream.next_batch(limits) => match read {
                    Ok(records) => return Ok(records),
                    Err(error) => self.writer.bus_failed("read", error, &mut backoff).await?,
                },
            }
        }
    }

    async fn process(&mut self, reign: &mut Reign) -> Result<(), Halt> {
        let mut batch = self.decode().await?;
        self.writer.stats.batch_records.record(self.progress.pending.len() as u64);
        self.forget_stored().await?;
        self.progress.unstored.settle(&mut batch);
        let prepared = self.prepare(reign, &mut batch).await?;
        let messages =
            batch.lend_appends(|conversation| prepared[conversation].as_ref().map_or(0, |answer| answer.r#type));
        if !messages.is_empty() {
            let (offset, messages) = self.writer.append(reign.epoch, messages, batch.created_at_ms).await?;
            batch.take_back(messages);
            self.progress.unstored.remember(&batch, offset);
        }
        if !self.config.without.epoch_check {
            self.writer.check_epoch(reign.epoch).await?;
        }
        self.deliver(&batch, &prepared).await?;
        self.count(&batch);
        self.progress.pending.retain(|record| record.offset >= batch.next);
        self.progress.done = batch.next;
        self.commit().await;
        Ok(())
    }

    async fn decode(&mut self) -> Result<Batch, Halt> {
        let ids = loop {
            match self.uid.next_many(self.progress.pending.len()) {
                Ok(ids) => break ids,
                Err(UidError::Exhausted { wait }) => self.writer.pause(wait).await?,
                Err(error) => {
                    tracing::error!(%error, "no message ids");
                    self.writer.pause(Duration::from_secs(1)).await?;
                }
            }
        };
        let now = self.clock.unix_ms();
        Ok(Batch::decode(&self.progress.pending, self.writer.partition, self.partitions, now, &ids))
    }

    /// A3 and B3: asks until the answer holds for the claim space that was waited for, and until every recall can be
    /// judged (D3).
    async fn prepare(&mut self, reign: &mut Reign, batch: &mut Batch) -> Result<Prepared, Halt> {
        let mut prepared: Prepared = vec![None; batch.conversations.len()];
        let mut targets_final = self.config.without.target_wait;
        loop {
            let asked = batch.question(|conversation| self.progress.unstored.top_seq(conversation));
            if asked.conversations.is_empty() {
                return Ok(prepared);
            }
            let answer = self.writer.prepare(reign, targets_final, || batch.ask(&asked)).await?;
            if answer.incarnation != reign.incarnation {
                tracing::warn!(
                    partition = self.writer.partition,
                    "the claim space is a new one, waiting for the store"
                );
                if !self.config.without.marker_wait {
                    self.writer.pass_marker(reign.epoch).await?;
                }
                reign.incarnation = answer.incarnation;
                continue;
            }
            let unjudged = batch.unjudged(&asked, &answer.conversations);
            if !unjudged.is_empty() && !targets_final {
                targets_final = self.writer.await_appended(TARGET_WAIT_MAX).await?;
                if !targets_final {
                    batch.refuse(&unjudged, ErrorCode::ServiceUnavailable);
                }
                continue;
            }
            let repeat_known = !self.config.without.known_again;
            if let Err(error) = batch.settle(&asked, &answer.conversations, reign.end_at_draw, repeat_known) {
                tracing::error!(partition = self.writer.partition, %error, "repo's answer cannot be used");
                self.writer.pause(Backoff::default().next_delay()).await?;
                // A new epoch waits for the store again, above whose numbers repo goes on.
                return Err(Halt::Stale);
            }
            for (asked, conversation) in asked.conversations.iter().zip(answer.conversations) {
                prepared[asked.conversation] = Some(conversation);
            }
            return Ok(prepared);
        }
    }

    /// Answers and pushes, in upstream order for each gateway. Answers do not wait for presence.
    async fn deliver(&mut self, batch: &Batch, prepared: &Prepared) -> Result<(), Halt> {
        let mut audience = Audience::of(batch, prepared, self.config.room_members_max);
        let users = audience.users(prepared);
        let mut answered = false;
        let mut backoff = Backoff::default();
        while !users.is_empty() {
            match self.writer.online(&users).await {
                Ok(statuses) => {
                    audience.sessions.add(statuses);
                    break;
                }
                Err(status) => {
                    if !std::mem::replace(&mut answered, true) {
                        self.send(batch, fanout::answers(batch)).await?;
                    }
                    self.writer.failed("GetUsersOnlineStatus", &status, &mut backoff).await?;
                }
            }
        }
        let rooms = audience.rooms();
        let gateways = rooms.iter().map(|room| self.gateways.of(&batch.conversations[*room]));
        let gateways = futures::future::join_all(gateways).await;
        audience.gateways.extend(rooms.into_iter().zip(gateways));
        self.send(batch, fanout::everything(batch, prepared, &audience, !answered)).await
    }

    async fn send(&mut self, batch: &Batch, outgoing: Outgoing) -> Result<(), Halt> {
        let parcels = outgoing.parcels(&batch.conversations);
        self.lanes.send(parcels, batch.first, batch.created_at_ms).await.map_err(stopped)
    }

    /// Forgets own claims that persistence has passed; while there are too many, goes on at persistence's pace (B3).
    async fn forget_stored(&mut self) -> Result<(), Halt> {
        while self.progress.unstored.len() >= self.config.unstored_max
            && let Some(oldest) = self.progress.unstored.oldest()
        {
            self.writer.await_persisted(oldest + 1).await?;
            let position = self.writer.persisted().await.unwrap_or(0);
            self.progress.unstored.forget_below(position.max(oldest + 1));
        }
        if self.progress.unstored.len() == 0 {
            return Ok(());
        }
        if self.progress.asked_position.is_none_or(|at| at.elapsed() >= POSITION_PERIOD) {
            self.progress.asked_position = Some(Instant::now());
            if let Some(position) = self.writer.persisted().await {
                self.progress.unstored.forget_below(position);
            }
        }
        Ok(())
    }

    /// Commits what is done and out. A commit that fails is caught up by a later one.
    async fn commit(&mut self) {
        let upto = self.lanes.oldest_batch().map_or(self.progress.done, |held| held.min(self.progress.done));
        if upto <= self.progress.committed {
            return;
        }
        match self.stream.commit(upto).await {
            Ok(()) => self.progress.committed = upto,
            Err(error) => tracing::warn!(partition = self.writer.partition, %error, "upstream commit failed"),
        }
    }

    fn count(&self, batch: &Batch) {
        let settled = batch.items.iter().filter(|i| matches!(i.verdict, Verdict::Settled { .. })).count();
        self.writer.stats.acknowledged.add(settled as u64);
        self.writer.stats.refused.add((batch.items.len() - settled) as u64);
        self.writer.stats.undecodable.add(batch.undecodable as u64);
    }
}

fn stopped(error: BusError) -> Halt {
    Halt::Stopped(error.to_string())
}

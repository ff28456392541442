//! The downstream loop, one per partition of this gateway's topic: reads from the end seen at the start, without a group
//! (pipeline.md F3), and waits for full shards instead of dropping.

use std::sync::Arc;
use std::time::Duration;

use gochat_infra::bus::{BatchLimits, Bus, BusError, Durability, Offset, PartitionStream, StartAt, TopicSpec};
use gochat_infra::clock::Clock;
use gochat_proto::ids::GatewayId;
use gochat_proto::topics;
use tokio::sync::mpsc;

use super::deliver::{Deliverer, Sorted};
use super::frames::FrameWriter;
use super::room_loop::RoomInput;
use super::shards::Shards;
use super::stats::DownlinkStats;
use super::waiting::Waiting;

const LIMITS: BatchLimits = BatchLimits { records_max: 1024, bytes_max: 4 << 20 };
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What every partition's loop works with.
#[derive(Clone)]
pub(crate) struct Downstream {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gateway: GatewayId,
    pub(crate) incarnation: u64,
    pub(crate) shards: Shards,
    pub(crate) rooms: mpsc::Sender<RoomInput>,
    pub(crate) waiting: Waiting,
    pub(crate) stats: DownlinkStats,
}

/// One partition, positioned.
pub(crate) struct Position {
    stream: Box<dyn PartitionStream>,
    next: Offset,
    partition: u32,
}

impl Downstream {
    /// Makes the topic where it is missing, and positions a reader at the end of each of its partitions.
    pub(crate) async fn position(&self, partitions: u32) -> Result<Vec<Position>, BusError> {
        let topic = topics::downstream(self.gateway);
        let spec = TopicSpec { name: topic.clone(), partitions, durability: Durability::Written };
        match self.bus.create_topic(spec).await {
            // Made by an earlier life with another setting: its shape stays.
            Ok(()) | Err(BusError::TopicMismatch { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut positions = Vec::new();
        for partition in 0..self.bus.partitions(&topic).await? {
            let next = self.bus.end_offset(&topic, partition).await?;
            let stream = self.bus.assign(&topic, partition, StartAt::Offset(next)).await?;
            positions.push(Position { stream, next, partition });
        }
        Ok(positions)
    }

    /// Delivers one partition until the bus is closed or stopped.
    pub(crate) async fn run(self, mut position: Position) {
        let frames = FrameWriter::default();
        let mut deliverer =
            Deliverer { gateway: self.gateway, incarnation: self.incarnation, frames, stats: self.stats.clone() };
        loop {
            let records = match position.stream.next_batch(LIMITS).await {
                Ok(records) => records,
                Err(error @ (BusError::Closed | BusError::Stopped(_))) => {
                    return tracing::info!(partition = position.partition, %error, "downstream reader ends");
                }
                Err(error) => {
                    tracing::warn!(partition = position.partition, %error, "downstream records cannot be read");
                    self.again(&mut position).await;
                    continue;
                }
            };
            let mut sorted = Sorted { batches: self.shards.batches(), outcomes: Vec::new(), rooms: Vec::new() };
            deliverer.frames.now_s = self.clock.unix_ms() / 1000;
            for record in records {
                position.next = record.offset + 1;
                deliverer.record(record.value, &mut sorted);
            }
            sorted.batches.send().await;
            if !sorted.rooms.is_empty() && self.rooms.send(RoomInput::Entries(sorted.rooms)).await.is_err() {
                return tracing::info!(partition = position.partition, "downstream reader ends with the rooms");
            }
            for (request, outcome) in sorted.outcomes {
                self.waiting.complete(request, outcome).await;
            }
        }
    }

    /// Takes the partition up again where it stood.
    async fn again(&self, position: &mut Position) {
        tokio::time::sleep(RETRY_AFTER).await;
        let topic = topics::downstream(self.gateway);
        match self.bus.assign(&topic, position.partition, StartAt::Offset(position.next)).await {
            Ok(stream) => position.stream = stream,
            Err(error) => tracing::warn!(%error, "the downstream partition cannot be taken up again"),
        }
    }
}

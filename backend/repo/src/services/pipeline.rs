//! PipelineService: the message pipeline's calls (pipeline.proto).

use super::fail;
use crate::pipeline::positions::Positions;
use crate::pipeline::prepare::Preparer;
use crate::pipeline::save::Saver;
use crate::store::Store;
use crate::store::pipeline::OutboxRow;
use gochat_infra::cache::Cache;
use gochat_proto::bus::v1::{Ack, OutboxEvent};
use gochat_proto::im::repo::v1::pipeline_service_server::PipelineService;
use gochat_proto::im::repo::v1::{
    AwaitPositionsRequest, AwaitPositionsResponse, CheckEpochRequest, CheckEpochResponse, DeleteOutboxRequest,
    DeleteOutboxResponse, DrawEpochRequest, DrawEpochResponse, GetPositionsRequest, GetPositionsResponse,
    ListOutboxRequest, ListOutboxResponse, OutboxEntry, Position, PrepareMessagesRequest, PrepareMessagesResponse,
    SaveRecordsRequest, SaveRecordsResponse,
};
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Outbox entries an answer holds at most.
const OUTBOX_PAGE_MAX: u32 = 1000;
/// Longest wait for one.
const OUTBOX_WAIT_MS_MAX: u32 = 60_000;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) preparer: Arc<Preparer>,
    pub(crate) saver: Arc<Saver>,
    pub(crate) positions: Arc<Positions>,
}

#[tonic::async_trait]
impl PipelineService for Pipeline {
    async fn draw_epoch(&self, request: Request<DrawEpochRequest>) -> Result<Response<DrawEpochResponse>, Status> {
        let epoch = self.store.draw_epoch(request.into_inner().partition).await.map_err(fail::store)?;
        let incarnation = self.cache.incarnation().await.map_err(fail::cache)?;
        Ok(Response::new(DrawEpochResponse { epoch, incarnation }))
    }

    async fn check_epoch(&self, request: Request<CheckEpochRequest>) -> Result<Response<CheckEpochResponse>, Status> {
        let request = request.into_inner();
        let epoch = self.store.epoch(request.partition).await.map_err(fail::store)?;
        Ok(Response::new(CheckEpochResponse { stands: epoch == request.epoch }))
    }

    async fn prepare_messages(
        &self,
        request: Request<PrepareMessagesRequest>,
    ) -> Result<Response<PrepareMessagesResponse>, Status> {
        self.preparer.prepare(request.into_inner()).await.map(Response::new).map_err(fail::prepare)
    }

    async fn save_records(
        &self,
        request: Request<SaveRecordsRequest>,
    ) -> Result<Response<SaveRecordsResponse>, Status> {
        self.saver.save(request.into_inner()).await.map(Response::new).map_err(fail::store)
    }

    async fn get_positions(&self, _: Request<GetPositionsRequest>) -> Result<Response<GetPositionsResponse>, Status> {
        let positions = self.positions.read().await.map_err(fail::store)?;
        let positions = positions.into_iter().map(|(partition, offset)| Position { partition, offset }).collect();
        Ok(Response::new(GetPositionsResponse { positions }))
    }

    async fn await_positions(
        &self,
        request: Request<AwaitPositionsRequest>,
    ) -> Result<Response<AwaitPositionsResponse>, Status> {
        let request = request.into_inner();
        let wanted: Vec<(u32, i64)> = request.positions.iter().map(|p| (p.partition, p.offset)).collect();
        let timeout = Duration::from_millis(request.timeout_ms.into());
        let passed = self.positions.wait(&wanted, timeout).await.map_err(fail::store)?;
        Ok(Response::new(AwaitPositionsResponse { passed }))
    }

    async fn list_outbox(&self, request: Request<ListOutboxRequest>) -> Result<Response<ListOutboxResponse>, Status> {
        let request = request.into_inner();
        let limit = request.limit.clamp(1, OUTBOX_PAGE_MAX);
        let deadline = Instant::now() + Duration::from_millis(request.wait_ms.min(OUTBOX_WAIT_MS_MAX).into());
        // Enlisted before the look, so that nothing committed after it goes unnoticed.
        let mut commits = self.store.outbox_commits();
        let mut rows = self.store.outbox(limit).await.map_err(fail::store)?;
        while rows.is_empty() && matches!(tokio::time::timeout_at(deadline, commits.changed()).await, Ok(Ok(()))) {
            rows = self.store.outbox(limit).await.map_err(fail::store)?;
        }
        let entries = rows.into_iter().map(|(id, row)| entry(id, row)).collect::<Result<_, Status>>()?;
        Ok(Response::new(ListOutboxResponse { entries }))
    }

    async fn delete_outbox(
        &self,
        request: Request<DeleteOutboxRequest>,
    ) -> Result<Response<DeleteOutboxResponse>, Status> {
        self.store.delete_outbox(&request.into_inner().ids).await.map_err(fail::store)?;
        Ok(Response::new(DeleteOutboxResponse {}))
    }
}

fn entry(id: i64, row: OutboxRow) -> Result<OutboxEntry, Status> {
    let entry = OutboxEntry { id, ..OutboxEntry::default() };
    let entry = match row {
        OutboxRow::Ack(ack) => Ack::decode(ack).map(|ack| OutboxEntry { ack: Some(ack), ..entry }),
        OutboxRow::Event(event) => OutboxEvent::decode(event).map(|event| OutboxEntry { event: Some(event), ..entry }),
    };
    entry.map_err(|error| Status::internal(format!("outbox entry {id}: {error}")))
}

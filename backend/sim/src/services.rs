//! What stands between a process and repo: the pipeline's calls with lost answers, and a presence that knows everybody.
//!
//! Owns no rule: the calls go on to the real services.

use std::sync::Arc;

use gochat_infra::rpc::Channel;
use gochat_proto::im::repo::v1::online_status_service_server::OnlineStatusService;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::pipeline_service_server::PipelineService;
use gochat_proto::im::repo::v1::{
    AwaitPositionsRequest, AwaitPositionsResponse, CheckEpochRequest, CheckEpochResponse, DeleteOutboxRequest,
    DeleteOutboxResponse, DrawEpochRequest, DrawEpochResponse, GetPositionsRequest, GetPositionsResponse,
    GetUsersOnlineStatusRequest, GetUsersOnlineStatusResponse, ListOutboxRequest, ListOutboxResponse, OnlineStatus,
    PrepareMessagesRequest, PrepareMessagesResponse, SaveRecordsRequest, SaveRecordsResponse, Session,
};
use tonic::{Request, Response, Status, async_trait};

use crate::chaos::{Chaos, Fate, Place, Process};

/// The pipeline's calls of one process.
pub(crate) struct DisturbedPipeline {
    pub(crate) inner: PipelineServiceClient<Channel>,
    pub(crate) chaos: Arc<Chaos>,
    pub(crate) process: Arc<Process>,
}

impl DisturbedPipeline {
    async fn disturbed<T>(
        &self,
        place: Option<Place>,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let lost = || Status::unavailable("simulated");
        self.process.running().await;
        self.chaos.jitter().await;
        self.process.running().await;
        let fate = self.chaos.fate(place);
        if fate == Fate::Refused {
            return Err(lost());
        }
        let result = call.await;
        self.chaos.jitter().await;
        if let Some(place) = place {
            self.chaos.pass(place, &self.process);
        }
        self.process.running().await;
        if fate == Fate::AnswerLost { Err(lost()) } else { result }
    }
}

macro_rules! forward {
    ($($name:ident($request:ty) -> $response:ty, $place:expr;)*) => {
        #[async_trait]
        impl PipelineService for DisturbedPipeline {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                let mut inner = self.inner.clone();
                let message = request.into_inner();
                self.disturbed($place, async move { inner.$name(message).await }).await
            })*
        }
    };
}

forward! {
    draw_epoch(DrawEpochRequest) -> DrawEpochResponse, None;
    check_epoch(CheckEpochRequest) -> CheckEpochResponse, Some(Place::Check);
    prepare_messages(PrepareMessagesRequest) -> PrepareMessagesResponse, Some(Place::Prepare);
    save_records(SaveRecordsRequest) -> SaveRecordsResponse, None;
    get_positions(GetPositionsRequest) -> GetPositionsResponse, None;
    await_positions(AwaitPositionsRequest) -> AwaitPositionsResponse, None;
    list_outbox(ListOutboxRequest) -> ListOutboxResponse, None;
    delete_outbox(DeleteOutboxRequest) -> DeleteOutboxResponse, None;
}

/// Everybody is connected to gateway 1, at the address of their user id.
pub(crate) struct Everybody {
    pub(crate) chaos: Arc<Chaos>,
}

#[async_trait]
impl OnlineStatusService for Everybody {
    async fn get_users_online_status(
        &self,
        request: Request<GetUsersOnlineStatusRequest>,
    ) -> Result<Response<GetUsersOnlineStatusResponse>, Status> {
        self.chaos.jitter().await;
        if self.chaos.fate(None) != Fate::Done {
            return Err(Status::unavailable("simulated"));
        }
        let status = |user_id: String| OnlineStatus {
            sessions: vec![Session {
                gateway_id: "gateway-1".to_owned(),
                gateway_incarnation: 1,
                address: user_id.parse().unwrap_or(0),
                ..Session::default()
            }],
            is_online: true,
            user_id,
            ..OnlineStatus::default()
        };
        let statuses = request.into_inner().user_ids.into_iter().map(status).collect();
        Ok(Response::new(GetUsersOnlineStatusResponse { statuses }))
    }
}

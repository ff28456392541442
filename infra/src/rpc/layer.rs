//! The tower layer around every gRPC server, in process and on the network.
//!
//! In order: authentication, deadline, trace id, a task of its own (panics and aborts stay inside), concurrency bound.
//! The deadline covers the call up to its response head; all our methods are unary.

use super::context::{self, TRACE_HEADER, TraceId};
use super::stats::{MethodTable, Recorder};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceExt as _};
use tracing::Instrument as _;

/// Metadata key of the service token.
pub const SERVICE_TOKEN_HEADER: &str = "x-service-token";

/// No call may ask for more time than this.
pub const DEADLINE_MAX: Duration = Duration::from_secs(3600);

const TIMEOUT_HEADER: &str = "grpc-timeout";

/// What the layer enforces.
#[derive(Clone)]
pub struct RpcOptions {
    /// Calls without this token are UNAUTHENTICATED; `None` asks for none.
    pub service_token: Option<String>,
    /// For calls that name no deadline.
    pub default_deadline: Duration,
    /// Handlers at work at once; more wait within their deadline. `None` is unbounded.
    pub concurrency_max: Option<usize>,
}

impl Default for RpcOptions {
    fn default() -> Self {
        RpcOptions { service_token: None, default_deadline: Duration::from_secs(10), concurrency_max: None }
    }
}

impl fmt::Debug for RpcOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcOptions")
            .field("service_token", &self.service_token.as_ref().map(|_| "***"))
            .field("default_deadline", &self.default_deadline)
            .field("concurrency_max", &self.concurrency_max)
            .finish()
    }
}

/// Wraps gRPC services in an [`RpcService`].
#[derive(Clone)]
pub struct RpcLayer {
    shared: Arc<Shared>,
}

struct Shared {
    service_token: Option<Box<[u8]>>,
    default_deadline: Duration,
    permits: Option<Arc<Semaphore>>,
    methods: MethodTable,
}

impl RpcLayer {
    /// A layer with its own concurrency bound.
    pub fn new(options: &RpcOptions) -> Self {
        let shared = Shared {
            service_token: options.service_token.as_ref().map(|token| token.as_bytes().into()),
            default_deadline: options.default_deadline.min(DEADLINE_MAX),
            permits: options.concurrency_max.map(|max| Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)))),
            methods: MethodTable::default(),
        };
        RpcLayer { shared: Arc::new(shared) }
    }
}

impl<S> Layer<S> for RpcLayer {
    type Service = RpcService<S>;

    fn layer(&self, inner: S) -> RpcService<S> {
        RpcService { inner, shared: self.shared.clone() }
    }
}

/// A gRPC service under the layer. It never fails: every error is a gRPC status in the response.
#[derive(Clone)]
pub struct RpcService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for RpcService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Error: fmt::Display + Send,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let now = Instant::now();
        let recorder = Recorder::start(self.shared.methods.get(request.uri().path()), now);
        if !self.shared.is_authentic(request.headers()) {
            recorder.answer(Code::Unauthenticated);
            let status = Status::unauthenticated("service token missing or wrong");
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        let deadline = now + self.shared.deadline(request.headers());
        let trace_id = request
            .headers()
            .get(TRACE_HEADER)
            .and_then(|value| TraceId::from_bytes(value.as_bytes()))
            .unwrap_or_else(TraceId::generate);
        let span = tracing::error_span!("rpc", method = recorder.method(), %trace_id);
        let (inner, permits) = (self.inner.clone(), self.shared.permits.clone());
        let handler = async move {
            // The semaphore is never closed; were it, the call would merely run unbounded.
            let _permit = match permits {
                Some(permits) => permits.acquire_owned().await.ok(),
                None => None,
            };
            inner.oneshot(request).await.map_err(|error| error.to_string())
        };
        let task = tokio::spawn(context::serve(trace_id.clone(), deadline, handler).instrument(span));
        Box::pin(finish(AbortOnDrop(task), deadline, trace_id, recorder))
    }
}

/// Waits for the handler's task or its deadline, whichever comes first.
async fn finish(
    mut task: AbortOnDrop<Result<Response<Body>, String>>,
    deadline: Instant,
    trace_id: TraceId,
    recorder: Recorder,
) -> Result<Response<Body>, Infallible> {
    let response = match tokio::time::timeout_at(deadline, &mut task.0).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(error))) => Status::internal(error).into_http(),
        Ok(Err(error)) => failed_task(error, &trace_id, &recorder).into_http(),
        Err(_) => Status::deadline_exceeded("deadline passed before the handler answered").into_http(),
    };
    recorder.answer(code_of(response.headers()));
    Ok(response)
}

fn failed_task(error: JoinError, trace_id: &TraceId, recorder: &Recorder) -> Status {
    if error.is_cancelled() {
        return Status::unavailable("the runtime is shutting down");
    }
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(method = recorder.method(), %trace_id, panic = text.unwrap_or("(no text)"), "handler panicked");
    Status::internal("handler panicked")
}

/// Status code of a response head: only failures carry it there (trailers-only), a success ends with trailers.
fn code_of(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

impl Shared {
    fn deadline(&self, headers: &HeaderMap) -> Duration {
        headers
            .get(TIMEOUT_HEADER)
            .and_then(|value| context::parse_timeout(value.as_bytes()))
            .map_or(self.default_deadline, |timeout| timeout.min(DEADLINE_MAX))
    }

    fn is_authentic(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = &self.service_token else { return true };
        let given = headers.get(SERVICE_TOKEN_HEADER).map_or(&b""[..], |value| value.as_bytes());
        // Compared without an early exit, so that the time taken tells nothing about a guess.
        given.len() == expected.len() && given.iter().zip(expected).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

/// A task that ends when nobody waits for it any more.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

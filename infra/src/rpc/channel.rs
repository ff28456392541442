//! The client side: a channel that generated clients call through, routed to servers in this process.
//!
//! Never serialises differently from the network: messages are encoded and decoded as on the wire, so both forms
//! accept and refuse the same.

use super::context::{self, TRACE_HEADER};
use super::layer::{RpcLayer, RpcOptions, RpcService, SERVICE_TOKEN_HEADER};
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response};
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::{Layer, Service, ServiceExt as _};

/// A way to the servers of one service group; cheap to clone, one type whatever it leads to.
#[derive(Clone)]
pub struct Channel {
    service: RpcService<Router>,
    service_token: Option<HeaderValue>,
}

impl Channel {
    /// Begins a channel to servers in this process.
    pub fn in_process() -> InProcess {
        InProcess { routes: HashMap::new() }
    }

    /// The same channel, calling with another service token; a token that is not visible ASCII is sent as none.
    pub fn with_service_token(mut self, token: &str) -> Self {
        self.service_token = token_value(token);
        self
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let headers = request.headers_mut();
        if let Some(token) = &self.service_token {
            headers.insert(HeaderName::from_static(SERVICE_TOKEN_HEADER), token.clone());
        }
        if !headers.contains_key(TRACE_HEADER)
            && let Some(trace_id) = context::current_trace_id()
            && let Ok(value) = HeaderValue::from_maybe_shared(trace_id.as_bytes().clone())
        {
            headers.insert(HeaderName::from_static(TRACE_HEADER), value);
        }
        self.service.call(request)
    }
}

/// Builds an in-process [`Channel`].
pub struct InProcess {
    routes: HashMap<&'static str, Box<dyn Route>>,
}

impl InProcess {
    /// Adds a generated server, reached by its service name; a second one of the same name replaces the first.
    // A builder's verb, as in tonic's own.
    #[allow(clippy::should_implement_trait)]
    pub fn add<S>(mut self, server: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.routes.insert(S::NAME, Box::new(server));
        self
    }

    /// The channel. Its own calls carry the token that the layer asks for.
    pub fn build(self, options: RpcOptions) -> Channel {
        let service_token = options.service_token.as_deref().and_then(token_value);
        let router = Router { routes: Arc::new(self.routes) };
        Channel { service: RpcLayer::new(&options).layer(router), service_token }
    }
}

fn token_value(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(token).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Finds the server by the service name in the path.
#[derive(Clone)]
struct Router {
    routes: Arc<HashMap<&'static str, Box<dyn Route>>>,
}

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service);
        match self.routes.get(service) {
            Some(route) => route.route(request),
            None => {
                let status = Status::unimplemented(format!("no server for {path}"));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

trait Route: Send + Sync {
    fn route(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>>;
}

impl<S> Route for S
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn route(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        Box::pin(self.clone().oneshot(request))
    }
}

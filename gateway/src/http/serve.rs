//! HTTP on connections that shards hand over: one task each, a bounded number of them, ended gracefully when draining.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use axum::body::Body;
use gochat_infra::telemetry::metrics::{Gauge, gauge};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::edge::Edge;
use super::replay::Replayed;
use crate::bridge::HttpHandover;
use crate::control::status::Phase;
use crate::limits::HEAD_BYTES_MAX;

/// For a request head to arrive, and so for a connection to be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
const FIELDS_MAX: usize = 100;

/// Serves connections.
pub(crate) struct Server {
    edge: Edge,
    connections_max: usize,
    phase: watch::Receiver<Phase>,
    open: Gauge,
}

impl Server {
    pub(crate) fn new(edge: Edge, connections_max: usize, phase: watch::Receiver<Phase>) -> Server {
        let open = gauge("gochat_http_connections", "Connections served over HTTP.", &[]);
        Server { edge, connections_max, phase, open }
    }

    /// Runs until nobody hands connections over any more and the last one has ended.
    pub(crate) async fn run(self, mut handovers: mpsc::Receiver<HttpHandover>) {
        let mut connections = JoinSet::new();
        loop {
            self.open.set(connections.len() as i64);
            tokio::select! {
                handover = handovers.recv(), if connections.len() < self.connections_max => match handover {
                    Some(handover) => {
                        connections.spawn(serve(handover, self.edge.clone(), self.phase.clone()));
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        while connections.join_next().await.is_some() {}
        self.open.set(0);
    }
}

async fn serve(handover: HttpHandover, edge: Edge, mut phase: watch::Receiver<Phase>) {
    let peer = handover.peer;
    let stream = match adopt(handover) {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%peer, %error, "a connection for HTTP cannot be used"),
    };
    let answer = service_fn(move |request| respond(edge.clone(), peer, request));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(FIELDS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let finished = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = draining(&mut phase) => None,
    };
    let ended = match finished {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an HTTP connection broke");
    }
}

/// Resolves when draining has begun.
async fn draining(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
}

fn adopt(handover: HttpHandover) -> io::Result<Replayed> {
    let stream = StdStream::from(handover.fd);
    stream.set_nonblocking(true)?;
    Ok(Replayed::new(TcpStream::from_std(stream)?, handover.received))
}

async fn respond(
    edge: Edge,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    request.extensions_mut().insert(peer);
    Ok(edge.answer(request.map(Body::new)).await)
}

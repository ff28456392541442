//! Per-method call counters and latencies for `/metrics`.
//!
//! Never labels by anything a caller can invent without bound: past [`METHODS_MAX`] methods all count as one.

use crate::telemetry::metrics::{self, Counter, Histogram};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tokio::time::Instant;
use tonic::Code;

const METHODS_MAX: usize = 256;

/// What one method has done.
pub(crate) struct MethodStats {
    /// `package.Service/Method`.
    pub(crate) name: Box<str>,
    handled: [OnceLock<Counter>; 17],
    latency: Histogram,
}

impl MethodStats {
    fn new(name: &str) -> Self {
        let (service, method) = name.split_once('/').unwrap_or((name, ""));
        let labels = [("service", service), ("method", method)];
        let latency = metrics::histogram("grpc_server_handling_seconds", "Time to answer a call.", &labels);
        MethodStats { name: name.into(), handled: Default::default(), latency }
    }

    fn handled(&self, code: Code) -> &Counter {
        self.handled[code as usize % 17].get_or_init(|| {
            let (service, method) = self.name.split_once('/').unwrap_or((&self.name, ""));
            let code = format!("{code:?}");
            let labels = [("service", service), ("method", method), ("code", &code)];
            metrics::counter("grpc_server_handled_total", "Calls answered, by status code.", &labels)
        })
    }
}

/// The methods called so far.
#[derive(Default)]
pub(crate) struct MethodTable {
    by_path: RwLock<HashMap<Box<str>, Arc<MethodStats>>>,
}

impl MethodTable {
    /// Stats of the method at an HTTP path `/package.Service/Method`.
    pub(crate) fn get(&self, path: &str) -> Arc<MethodStats> {
        let name = path.strip_prefix('/').unwrap_or(path);
        if let Some(stats) = self.by_path.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return stats.clone();
        }
        let mut by_path = self.by_path.write().unwrap_or_else(PoisonError::into_inner);
        let name = if by_path.len() < METHODS_MAX { name } else { "other" };
        by_path.entry(name.into()).or_insert_with(|| Arc::new(MethodStats::new(name))).clone()
    }
}

/// One call being counted; counts as cancelled when it is dropped without an answer.
pub(crate) struct Recorder {
    stats: Arc<MethodStats>,
    started: Instant,
    code: Code,
}

impl Recorder {
    pub(crate) fn start(stats: Arc<MethodStats>, now: Instant) -> Self {
        Recorder { stats, started: now, code: Code::Cancelled }
    }

    pub(crate) fn answer(mut self, code: Code) {
        self.code = code;
    }

    pub(crate) fn method(&self) -> &str {
        &self.stats.name
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stats.handled(self.code).inc();
        self.stats.latency.observe(self.started.elapsed());
    }
}

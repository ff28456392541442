//! What travels with a call: its trace id and its deadline, kept task-local while the call is served.
//!
//! Never enforces anything: the layer does.

use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Metadata key of the trace id, on HTTP and gRPC alike.
pub const TRACE_HEADER: &str = "x-trace-id";

/// Longest trace id taken over from outside, bytes.
const TRACE_ID_BYTES_MAX: usize = 64;

/// The id that ties the log lines of one request together: 1 to 64 visible ASCII characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceId(Bytes);

impl TraceId {
    /// A new one: 32 hex digits, unpredictable enough to be unique, not secret.
    pub fn generate() -> Self {
        static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        let hash = u128::from(KEYS.0.hash_one(count)) << 64 | u128::from(KEYS.1.hash_one(count));
        let mut hex = Vec::with_capacity(32);
        for nibble in (0..32).rev() {
            hex.push(b"0123456789abcdef"[(hash >> (nibble * 4)) as usize & 15]);
        }
        TraceId(hex.into())
    }

    /// A trace id that came from outside; `None` unless it is 1 to 64 visible ASCII characters.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Option<Self> {
        let bytes = bytes.as_ref();
        let valid = (1..=TRACE_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        valid.then(|| TraceId(Bytes::copy_from_slice(bytes)))
    }

    /// Its characters, as record headers carry them.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Its characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone)]
struct CallContext {
    trace_id: TraceId,
    deadline: Option<Instant>,
}

tokio::task_local! {
    static CONTEXT: CallContext;
}

/// Trace id of the call being served, or a new one outside of any.
pub fn trace_id() -> TraceId {
    current_trace_id().unwrap_or_else(TraceId::generate)
}

pub(crate) fn current_trace_id() -> Option<TraceId> {
    CONTEXT.try_with(|context| context.trace_id.clone()).ok()
}

/// Runs a future as part of a trace, for work that does not begin with a call: a record drawn, an HTTP request. A
/// deadline that already stands stays.
pub async fn with_trace<F: Future>(trace_id: TraceId, future: F) -> F::Output {
    let deadline = CONTEXT.try_with(|context| context.deadline).ok().flatten();
    CONTEXT.scope(CallContext { trace_id, deadline }, future).await
}

/// Runs a handler under its call's trace id and deadline.
pub(crate) async fn serve<F: Future>(trace_id: TraceId, deadline: Instant, handler: F) -> F::Output {
    CONTEXT.scope(CallContext { trace_id, deadline: Some(deadline) }, handler).await
}

/// A request with a deadline from now, shortened to what is left of the call being served.
pub fn request<T>(message: T, deadline: Duration) -> tonic::Request<T> {
    let left = CONTEXT
        .try_with(|context| context.deadline)
        .ok()
        .flatten()
        .map_or(deadline, |until| deadline.min(until.saturating_duration_since(Instant::now())));
    let mut request = tonic::Request::new(message);
    request.set_timeout(left);
    request
}

/// Reads a `grpc-timeout` value (gRPC over HTTP/2): up to 8 digits and a unit of H, M, S, m, u, n.
pub(crate) fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn timeouts_parse_as_the_protocol_says() {
        assert_eq!(parse_timeout(b"5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout(b"99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(parse_timeout(b"0n"), Some(Duration::ZERO));
        assert_eq!(parse_timeout(b"2H"), Some(Duration::from_secs(7200)));
        for bad in [&b""[..], b"S", b"5", b"5x", b"-5S", b"123456789S", b" 5S"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn trace_ids_are_distinct_and_checked() {
        let ids: HashSet<TraceId> = (0..1000).map(|_| TraceId::generate()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.as_str().len() == 32));
        assert!(TraceId::from_bytes("abc-1").is_some());
        for bad in ["", "a b", "a\nb", "é", &"x".repeat(65)] {
            assert_eq!(TraceId::from_bytes(bad), None, "{bad:?}");
        }
    }
}

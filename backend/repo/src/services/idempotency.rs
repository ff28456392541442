//! IdempotencyService: replay protection of HTTP creations, in the cache (H4).

use super::fail;
use bytes::Bytes;
use gochat_infra::cache::{Cache, Entry};
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::idempotency_service_server::IdempotencyService;
use gochat_proto::im::repo::v1::{
    CheckOrSetRequest, CheckOrSetResponse, ClearRequest, ClearResponse, SetRequest, SetResponse,
};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

const VALUE_BYTES_MAX: usize = 64 * 1024;
const TRIES: usize = 3;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Idempotency {
    pub(crate) cache: Arc<dyn Cache>,
}

fn key_of(key: &str) -> Result<String, Status> {
    match key.len() {
        1..=400 => Ok(format!("idempotent:{key}")),
        _ => Err(fail::invalid("key has 1 to 400 bytes")),
    }
}

fn checked_value(value: String) -> Result<Bytes, Status> {
    match value.len() {
        0..=VALUE_BYTES_MAX => Ok(Bytes::from(value)),
        _ => Err(fail::invalid("value has at most 65536 bytes")),
    }
}

fn lifetime(seconds: i32) -> Result<Duration, Status> {
    let seconds = u64::try_from(seconds).ok().filter(|s| *s > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| fail::invalid("ttl_seconds is not positive"))
}

#[tonic::async_trait]
impl IdempotencyService for Idempotency {
    async fn check_or_set(&self, request: Request<CheckOrSetRequest>) -> Result<Response<CheckOrSetResponse>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.key)?;
        let ttl = lifetime(request.ttl_seconds)?;
        let entry = Entry { key: key.clone(), value: checked_value(request.value)?, ttl: Some(ttl) };
        // What is there may end between the two looks: then the next try is the first.
        for _ in 0..TRIES {
            if self.cache.set_if_absent(entry.clone()).await.map_err(fail::cache)? {
                return Ok(Response::new(CheckOrSetResponse { first: true, existing_value: String::new() }));
            }
            let found = self.cache.get(std::slice::from_ref(&key)).await.map_err(fail::cache)?.pop().flatten();
            if let Some(value) = found {
                let existing_value = String::from_utf8_lossy(&value).into_owned();
                return Ok(Response::new(CheckOrSetResponse { first: false, existing_value }));
            }
        }
        Err(Failure::new(ErrorCode::ServiceUnavailable, "the key comes and goes").into())
    }

    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        let request = request.into_inner();
        let (key, ttl) = (key_of(&request.key)?, lifetime(request.ttl_seconds)?);
        let entry = Entry { key, value: checked_value(request.value)?, ttl: Some(ttl) };
        self.cache.set(vec![entry]).await.map_err(fail::cache)?;
        Ok(Response::new(SetResponse {}))
    }

    async fn clear(&self, request: Request<ClearRequest>) -> Result<Response<ClearResponse>, Status> {
        let key = key_of(&request.into_inner().key)?;
        self.cache.delete(&[key]).await.map_err(fail::cache)?;
        Ok(Response::new(ClearResponse { success: true }))
    }
}

//! Work that goes on to its end when its caller has gone: a commit and what must be forgotten after it are not to be parted.

use tonic::Status;

/// Does the work in a task of its own.
pub(super) async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    tokio::spawn(work).await.map_err(|error| Status::internal(error.to_string()))?
}

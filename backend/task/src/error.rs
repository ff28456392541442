//! Why a job did not finish. It is always run again.

use gochat_infra::bus::BusError;

/// What a job met.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error("repo: {0}")]
    Repo(#[from] tonic::Status),
    #[error("bus: {0}")]
    Bus(#[from] BusError),
}

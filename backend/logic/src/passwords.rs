//! bcrypt, on blocking threads and only so many at a time.
//!
//! Owns the bound and the dummy hash that makes an unknown name cost what a wrong password costs. Never sees a stored
//! hash: repo verifies those.

use std::sync::Arc;

use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use tokio::sync::Semaphore;

use crate::names::{self, PASSWORD_BYTES_MAX};

/// Checks and hashes a password on this thread, for the operator's tools.
///
/// # Errors
/// The rule that the password breaks.
pub fn hash_password(password: &str, cost: u32) -> Result<String, Failure> {
    names::password(password)?;
    bcrypt::hash(password, cost.clamp(4, 31)).map_err(|error| Failure::new(ErrorCode::InternalError, error.to_string()))
}

/// A bounded pool of bcrypt work.
#[derive(Clone)]
pub(crate) struct Passwords {
    cost: u32,
    permits: Arc<Semaphore>,
}

impl Passwords {
    /// `cost` is clamped to what bcrypt knows, 4..=31.
    pub(crate) fn new(cost: u32, hashes_max: usize) -> Passwords {
        Passwords { cost: cost.clamp(4, 31), permits: Arc::new(Semaphore::new(hashes_max.max(1))) }
    }

    /// Hash of a password to be stored.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Failure> {
        let cost = self.cost;
        self.run(move || bcrypt::hash(password, cost)).await
    }

    /// Spends the time of a verification.
    pub(crate) async fn waste(&self, password: String) -> Result<(), Failure> {
        let cost = self.cost;
        let bounded: Vec<u8> = password.into_bytes().into_iter().take(PASSWORD_BYTES_MAX - 1).collect();
        self.run(move || bcrypt::hash_with_salt(bounded, cost, [0; 16])).await.map(|_| ())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, bcrypt::BcryptError> + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| ErrorCode::ServiceUnavailable)?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match done.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::new(ErrorCode::InternalError, error.to_string())),
            Err(error) => Err(Failure::new(ErrorCode::InternalError, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[tokio::test]
    async fn a_hash_verifies_its_password_only() {
        let passwords = Passwords::new(4, 1);
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(bcrypt::verify("correct horse", &hash).unwrap());
        assert!(!bcrypt::verify("correct house", &hash).unwrap());
    }

    #[tokio::test]
    async fn any_text_can_be_wasted_on() {
        for text in ["", "a\0b", &"x".repeat(10_000)] {
            assert!(Passwords::new(4, 1).waste(text.into()).await.is_ok());
        }
    }
}

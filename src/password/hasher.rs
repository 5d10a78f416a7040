//! Argon2id, off the threads that serve requests, with a bounded queue in front.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Semaphore, TryAcquireError};

/// 19 MiB, two passes, one lane: the first choice of OWASP's Password Storage Cheat Sheet.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const PARALLELISM: u32 = 1;

/// How many may wait for each core. A hash takes some 20 ms, so the last in the queue waits about a second.
const QUEUE_PER_CORE: usize = 48;

/// Why a password was not hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum HasherError {
    /// The queue is full: come back in a second.
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    /// A stored hash does not parse, or the hash was aborted.
    #[error("hashing failed: {0}")]
    Failed(String),
}

/// Hashes and checks passwords, at most one at a time for each core.
#[derive(Clone, Debug)]
pub struct Hasher {
    /// One permit for everybody who is hashing or waiting.
    queue: Arc<Semaphore>,
    /// One permit for each core.
    cores: Arc<Semaphore>,
    /// What the password of somebody who does not exist is checked against, so that the answer takes as long.
    nobody: Arc<str>,
}

impl Hasher {
    /// A hasher for this machine.
    ///
    /// # Errors
    /// [`HasherError::Failed`], if Argon2 refuses its parameters.
    pub fn new() -> Result<Self, HasherError> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            queue: Arc::new(Semaphore::new(cores * (QUEUE_PER_CORE + 1))),
            cores: Arc::new(Semaphore::new(cores)),
            nobody: hash(&[])?.into(),
        })
    }

    /// The hash of a password, in the PHC string format, with a random salt.
    ///
    /// # Errors
    /// [`HasherError::Busy`] at once, when the queue is full.
    pub async fn hash(&self, password: SecretString) -> Result<String, HasherError> {
        self.run(move || hash(password.expose_secret().as_bytes())).await?
    }

    /// Whether this is the password that was hashed. With no hash, for somebody who does not exist, the answer is no
    /// and takes as long.
    ///
    /// # Errors
    /// [`HasherError::Busy`] at once, when the queue is full; [`HasherError::Failed`] for a hash that does not parse.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, HasherError> {
        let nobody = Arc::clone(&self.nobody);
        self.run(move || {
            let parsed = PasswordHash::new(hash.as_deref().unwrap_or(&nobody))
                .map_err(|error| HasherError::Failed(error.to_string()))?;
            // The parameters are those of the hash; what this instance would use for a new one does not matter.
            let matches =
                Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok();
            Ok(matches && hash.is_some())
        })
        .await?
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HasherError> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => HasherError::Busy,
            TryAcquireError::Closed => HasherError::Failed("the hasher is closed".into()),
        })?;
        let core = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(|error| HasherError::Failed(error.to_string()))?;
        tokio::task::spawn_blocking(move || {
            // Held until the work is done, also when the request that asked for it is gone.
            let _held = (place, core);
            work()
        })
        .await
        .map_err(|error| HasherError::Failed(error.to_string()))
    }
}

fn hash(password: &[u8]) -> Result<String, HasherError> {
    let failed = |error: &dyn std::fmt::Display| HasherError::Failed(error.to_string());
    let params = Params::new(MEMORY_KIB, PASSES, PARALLELISM, None).map_err(|error| failed(&error))?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password)
        .map(|hash| hash.to_string())
        .map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let hasher = Hasher::new().unwrap();
        let hash = hasher.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hasher.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify("Correct horse".into(), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_has_a_password() {
        let hasher = Hasher::new().unwrap();
        assert!(!hasher.verify("".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_says_so_at_once() {
        let hasher = Hasher::new().unwrap();
        let all = u32::try_from(hasher.queue.available_permits()).unwrap();
        let _full = hasher.queue.acquire_many(all).await.unwrap();
        assert!(matches!(hasher.hash("anything".into()).await, Err(HasherError::Busy)));
    }
}

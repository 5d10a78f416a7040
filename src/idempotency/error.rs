//! Where the rules of repeated requests meet status codes.

use sea_orm::DbErr;

use crate::{error::ServiceError, http::Problem};

/// Why a request with a key is neither done nor answered again.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    /// The key came with another body before.
    #[error("the key was used with another body")]
    Reused,
    /// Another request with this key is not decided yet.
    #[error("a request with this key is being worked on")]
    InFlight,
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for IdempotencyError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<IdempotencyError> for Problem {
    fn from(error: IdempotencyError) -> Self {
        match error {
            IdempotencyError::Reused => Self::idempotency_key_reused(),
            IdempotencyError::InFlight => Self::idempotency_in_flight(),
            IdempotencyError::Service(error) => error.into(),
        }
    }
}

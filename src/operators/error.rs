//! Where the rules about operators meet status codes.

use sea_orm::DbErr;
use tenants::{Fault, fault};

use crate::{error::ServiceError, http::Problem, password::PasswordError};

/// Why something could not be done with operators or their keys.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Another operator has the address.
    #[error("there is an operator with this e-mail address already")]
    EmailTaken,
    /// There is no such operator, or no such key.
    #[error("there is none")]
    NotFound,
    /// Nobody would be left.
    #[error("this is the last operator")]
    LastOperator,
    /// The key with which it was asked for may not do this itself.
    #[error("a key can neither make nor delete one that can do more than itself")]
    Denied,
    /// The key would be refused from the start.
    #[error("the end lies in the past")]
    AlreadyExpired,
    /// Whoever asks was removed since the request came in.
    #[error("the operator is gone")]
    CallerGone,
    /// The password is too easily guessed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for OperatorError {
    fn from(error: DbErr) -> Self {
        match fault(&error) {
            Fault::Unique(name) if name == "operators_email_key" => Self::EmailTaken,
            _ => Self::Service(error.into()),
        }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::EmailTaken => {
                Self::field("email", "An operator with this e-mail address already exists.")
            }
            OperatorError::NotFound => Self::not_found(),
            OperatorError::LastOperator => Self::conflict(
                "last_operator",
                "Somebody has to run the installation: make another operator first.",
            ),
            OperatorError::Denied => Self::permission_denied(),
            OperatorError::AlreadyExpired => {
                Self::field("expires_at", "Ensure this value lies in the future.")
            }
            OperatorError::CallerGone => Self::token_not_valid(),
            OperatorError::Password(error) => error.into(),
            OperatorError::Service(error) => error.into(),
        }
    }
}

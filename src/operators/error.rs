//! Why something cannot be done with operators.

use sea_orm::DbErr;
use tenants::{Fault, fault};

use crate::{error::ServiceError, password::PasswordError};

/// Why an operator could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Another operator has the address.
    #[error("there is an operator with this e-mail address already")]
    EmailTaken,
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

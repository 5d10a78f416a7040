//! Where the rules about passwords meet status codes.

use std::time::Duration;

use sea_orm::DbErr;

use super::HasherError;
use crate::{
    error::ServiceError,
    http::{FieldErrors, Problem, input::Wrong},
    throttle::ThrottleError,
};

/// Why a password was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It is too easily guessed: the sentences for the person who chose it.
    #[error("{}", .0.join(" "))]
    Refused(Wrong),
    /// The present password was given wrong.
    #[error("the password is wrong")]
    WrongPassword,
    /// The link does not work: it is none, was used, or has expired.
    #[error("the link does not work")]
    InvalidToken,
    /// There were too many wrong ones: again after this time.
    #[error("too many attempts, the next after {} s", .0.as_secs())]
    Throttled(Duration),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl PasswordError {
    /// What is answered where the password is this field of the input.
    #[must_use]
    pub fn about(self, field: &'static str) -> Problem {
        match self {
            Self::Refused(sentences) => {
                let mut fields = FieldErrors::new();
                fields.extend(field, sentences);
                Problem::invalid(fields)
            }
            Self::WrongPassword => {
                let sentence = "Your old password was entered incorrectly. Please enter it again.";
                Problem::field("old_password", sentence)
            }
            Self::InvalidToken => Problem::field("token", "Invalid value."),
            Self::Throttled(after) => Problem::throttled(after),
            Self::Service(error) => error.into(),
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        error.about("password")
    }
}

impl From<ThrottleError> for PasswordError {
    fn from(error: ThrottleError) -> Self {
        match error {
            ThrottleError::Throttled(after) => Self::Throttled(after),
            ThrottleError::Service(error) => Self::Service(error),
        }
    }
}

impl From<HasherError> for PasswordError {
    fn from(error: HasherError) -> Self {
        Self::Service(error.into())
    }
}

impl From<DbErr> for PasswordError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

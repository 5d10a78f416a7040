//! Where the rules of signing up meet status codes.

use sea_orm::DbErr;

use crate::{
    error::ServiceError,
    http::Problem,
    password::{HasherError, PasswordError},
    throttle::ThrottleError,
    users::UserError,
};

/// Why somebody could not sign up, or an address was not proven.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The organization does not take people with this address.
    #[error("sign-up is closed")]
    Closed,
    /// The link does not work: it was never given, was used, voided or has expired; or the password is not the one that
    /// belongs to it.
    #[error("the link does not work")]
    BadToken,
    /// The user could not be written.
    #[error(transparent)]
    User(#[from] UserError),
    /// The password is too easily guessed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// There were too many attempts.
    #[error(transparent)]
    Throttled(#[from] ThrottleError),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for RegistrationError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<HasherError> for RegistrationError {
    fn from(error: HasherError) -> Self {
        Self::Service(error.into())
    }
}

impl From<RegistrationError> for Problem {
    fn from(error: RegistrationError) -> Self {
        match error {
            RegistrationError::Closed => {
                Self::forbidden("sign_up_closed", "You need an invitation to join this organization.")
            }
            RegistrationError::BadToken => Self::field("token", "Invalid value."),
            RegistrationError::User(error) => error.into(),
            RegistrationError::Password(error) => error.into(),
            RegistrationError::Throttled(error) => error.into(),
            RegistrationError::Service(error) => error.into(),
        }
    }
}

//! Where the rules of invitations meet status codes.

use sea_orm::DbErr;

use super::service::UNVERIFIED_LIMIT;
use crate::{
    error::ServiceError, http::Problem, idempotency::IdempotencyError, password::PasswordError,
    throttle::ThrottleError, users::UserError,
};

/// Why nobody was invited, or nobody joined.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// The caller may not give this role.
    #[error("the caller may not do this")]
    Denied,
    /// The address belongs to a member.
    #[error("the address belongs to a member")]
    AlreadyMember,
    /// Nobody here has proven an address, and that many invitations may be spam.
    #[error("no owner has proven an address")]
    EmailNotVerified,
    /// The link does not work: it was never given, was used, withdrawn or has expired, or who gave it may not give it now.
    #[error("the link does not work")]
    BadToken,
    /// The user could not be written.
    #[error(transparent)]
    User(UserError),
    /// The password is too easily guessed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// What the request has made before is there no more.
    #[error("the invitation is gone")]
    Gone,
    /// The request came with a key that it cannot have.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// There were too many attempts.
    #[error(transparent)]
    Throttled(#[from] ThrottleError),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for InvitationError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<UserError> for InvitationError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::EmailTaken => Self::AlreadyMember,
            error => Self::User(error),
        }
    }
}

impl From<InvitationError> for Problem {
    fn from(error: InvitationError) -> Self {
        match error {
            InvitationError::Denied => Self::permission_denied(),
            InvitationError::AlreadyMember => {
                Self::conflict("already_member", "Somebody with this e-mail address is a member already.")
            }
            InvitationError::EmailNotVerified => Self::forbidden(
                "email_not_verified",
                format!("Verify an owner's e-mail address to send more than {UNVERIFIED_LIMIT} invitations."),
            ),
            InvitationError::Gone => Self::not_found(),
            InvitationError::Idempotency(error) => error.into(),
            InvitationError::BadToken => Self::field("token", "Invalid value."),
            InvitationError::User(error) => error.into(),
            InvitationError::Password(error) => error.into(),
            InvitationError::Throttled(error) => error.into(),
            InvitationError::Service(error) => error.into(),
        }
    }
}

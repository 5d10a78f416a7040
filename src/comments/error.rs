//! Where the rules about comments meet status codes.

use sea_orm::DbErr;
use uuid::Uuid;

use crate::{error::ServiceError, http::Problem, idempotency::IdempotencyError, throttle::ThrottleError};

/// Why a comment is not shown or not written.
#[derive(Debug, thiserror::Error)]
pub enum CommentError {
    /// There is no such page or comment, or only the place of one that was deleted.
    #[error("there is no such page or comment")]
    NotFound,
    /// It is somebody else's.
    #[error("the caller may not do this")]
    Denied,
    /// The caller was removed or deactivated since his token was checked.
    #[error("the caller is gone")]
    CallerGone,
    /// On this page there is no such comment to reply to.
    #[error("there is no comment {0} on this page")]
    NoParent(Uuid),
    /// What is replied to is a reply.
    #[error("replies have no replies")]
    ParentIsReply,
    /// What is replied to was deleted.
    #[error("the comment replied to is deleted")]
    ParentIsDeleted,
    /// The request came with a key that it cannot have.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// `If-Match` names another version, or there is no such page of the list.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The user writes faster than anybody reads.
    #[error(transparent)]
    Throttled(#[from] ThrottleError),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for CommentError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<CommentError> for Problem {
    fn from(error: CommentError) -> Self {
        match error {
            CommentError::NotFound => Self::not_found(),
            CommentError::Denied => Self::permission_denied(),
            CommentError::CallerGone => Self::token_not_valid(),
            CommentError::NoParent(id) => {
                Self::field("parent", format!("Invalid pk \"{id}\" - object does not exist."))
            }
            CommentError::ParentIsReply => Self::field("parent", "A reply cannot be replied to."),
            CommentError::ParentIsDeleted => Self::field("parent", "A deleted comment cannot be replied to."),
            CommentError::Idempotency(error) => error.into(),
            CommentError::Problem(problem) => problem,
            CommentError::Throttled(error) => error.into(),
            CommentError::Service(error) => error.into(),
        }
    }
}

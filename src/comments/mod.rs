//! What people write on each other's pages: comments, and replies to them, one level deep.
//!
//! Who writes takes locks in one order, and so waits for nobody who waits for him: all users the rows refer to, the
//! comment replied to, the comment, the lists, the page's owner as the counter of what stands there, and at last what
//! happened and who is told. A comment and the one it replies to are looked at before, without a lock, for only they tell
//! which users those are.

pub mod api;
mod error;
mod mentions;
mod service;
mod store;

pub(crate) use api::BODY_LEN;
pub use api::CommentsApi;
pub use error::CommentError;
pub(crate) use mentions::MAX_MENTIONS;
pub use store::forget_page;

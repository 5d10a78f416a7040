//! Operators who work in the name of a user, to see what he sees. It is a session of its own, of a quarter of an hour at
//! most, that the user finds in his list and can end. Nothing in it changes who may get in, how, or who is there; unless
//! it was asked for, nothing at all. Every call stands in both [audit logs](crate::audit) before it is answered.

pub mod api;
mod error;
mod gate;
mod rules;
mod service;
mod store;

pub use api::ImpersonationApi;
pub use api::named;
pub use error::ImpersonationError;
pub(crate) use gate::{Call, admit};
pub use rules::allows;
pub use service::{Impersonation, Named, NewImpersonation, begin, end, end_those_of, under_way};

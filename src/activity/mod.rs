//! What happened in an organization, written by the server alone, in the transaction of what happened.
//!
//! What happened has a number in each list it is in: of all, of its verb, of its actor, and of both. Only the oldest rows
//! ever go, so the rows of a page are those of a range of numbers, whichever list it is of.

pub mod api;
mod record;
mod retention;
mod service;
mod store;

pub use api::ActivityApi;
pub use record::{Entry, Verb, record};
pub use retention::remove_old;

//! What happened in an organization, written by the server alone, in the transaction of what happened.

mod record;

pub use record::{Entry, Verb, record};

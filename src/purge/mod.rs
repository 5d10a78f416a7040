//! The end of a tenant. When its grace period is over, or when an operator does not wait for that, an
//! [operation](crate::operations) drops everything it has, and leaves a certificate in the audit log.

pub mod api;
mod certificate;
mod error;
mod service;

pub use api::PurgeApi;
pub use certificate::{Certificate, Signed, find as find_certificate};
pub use error::PurgeError;
pub use service::{Wanted, leave_due, request, run};

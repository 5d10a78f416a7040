//! What the process counts and times of itself, and the page on which Prometheus reads it. `deploy/observability.md` tells
//! what each figure means; a test compares it with what is here.
//!
//! Counting is an addition to a number that has its place already, found with the route; nothing is looked up, formatted or
//! locked at a request. What others know of themselves (pools, caches, the hasher) is asked when somebody reads the page.
//! What only the catalog knows is asked of it then, and not again for some seconds, so that reading often costs nothing.
//!
//! Nothing here is named by what a client sends: labels are routes of the document, methods known to it, codes, kinds of
//! work, and ids of a few tenants. However many paths, hosts and tenants there are, there are no more figures.

mod catalog;
mod exposition;
mod families;
mod page;
mod process;
mod requests;
mod tally;

use std::sync::Arc;

pub use self::{
    page::{PATH, mount},
    requests::{Flight, Requests, RouteFigures},
    tally::{JobOutcome, MailOutcome, OperationOutcome, Refusal, Tally},
};

/// What this process did so far, as far as nobody else knows.
#[derive(Debug)]
pub struct Metrics {
    /// The requests, on all listeners.
    pub requests: Arc<Requests>,
    /// Attempts at jobs.
    pub jobs: Tally<JobOutcome>,
    /// Attempts at delivering a mail.
    pub mails: Tally<MailOutcome>,
    /// Attempts at operations.
    pub operations: Tally<OperationOutcome>,
    /// Requests that were one too many.
    pub refusals: Tally<Refusal>,
    catalog: catalog::Catalog,
}

impl Default for Metrics {
    fn default() -> Self {
        let operations: Vec<_> = <crate::operations::Kind as sea_orm::Iterable>::iter()
            .map(crate::operations::Kind::as_str)
            .collect();
        Self {
            requests: Arc::default(),
            jobs: Tally::of(crate::jobs::KINDS),
            mails: Tally::of(&[]),
            operations: Tally::of(&operations),
            refusals: Tally::of(&[]),
            catalog: catalog::Catalog::default(),
        }
    }
}

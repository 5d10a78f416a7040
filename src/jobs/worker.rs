//! What workers do with jobs.

use tenants::{Kinds, LeasedJob, Outcome};
use tracing::Instrument as _;

use super::{LEASE, MAIL, attempt, report, span_of};
use crate::{
    error::ServiceError,
    state::App,
    workers::{Queue, Workers},
};

/// Mails at once: a server far away takes a second for one, and ten a second are enough for a wave of sign-ups.
const MAILS: usize = 10;
/// Other jobs at once. They use the database, of which requests are to have most.
const OTHERS: usize = 4;

/// Starts to do the jobs of all tenants. Mails have a loop of their own: a mail server that does not answer keeps nothing
/// else waiting.
#[must_use]
pub fn start(app: &App) -> Workers {
    let queue = |kinds, slots| Jobs { app: app.clone(), kinds, slots };
    Workers::start(app, [queue(Kinds::Only(MAIL), MAILS), queue(Kinds::Except(MAIL), OTHERS)])
}

struct Jobs {
    app: App,
    kinds: Kinds,
    slots: usize,
}

impl Queue for Jobs {
    type Item = LeasedJob;
    const ITEMS: &'static str = "jobs";

    fn slots(&self) -> usize {
        self.slots
    }

    async fn take(&self, most: u32) -> Result<Vec<LeasedJob>, ServiceError> {
        Ok(self.app.tenancy.take_jobs(self.kinds, most, LEASE, self.app.clock.now()).await?)
    }

    fn perform(&self, job: LeasedJob) -> impl Future<Output = ()> + Send + 'static {
        let (app, span) = (self.app.clone(), span_of(&job));
        let work = async move {
            let outcome = attempt(&app, &job).await;
            report(&app, &job, &outcome).await;
        };
        work.instrument(span)
    }

    async fn hand_back(&self, job: &LeasedJob) {
        let reason = "the server was stopped before it was done".to_owned();
        let outcome = Outcome::HandedBack { reason };
        if let Err(error) = self.app.tenancy.finish_job(job, &outcome, self.app.clock.now()).await {
            let _entered = span_of(job).entered();
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a job cannot be handed back: its lease has to run out");
        }
    }
}

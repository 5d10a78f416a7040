//! How far an attempt is, and whether it still has the operation to itself.

use std::{sync::Arc, time::Duration};

use tenants::Measure;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Operation,
    runner::{LEASE, RENEWAL},
};
use crate::{audit::Actor, state::App};

/// How often what is done is written, at most: twice a second is as much as a person sees.
const PACE: Duration = Duration::from_millis(500);

/// What an attempt tells of itself. Cloning it costs a reference count.
#[derive(Clone, Debug)]
pub struct Progress {
    operation: Arc<Operation>,
    measure: Arc<watch::Sender<Measure>>,
}

impl Progress {
    /// That of an attempt which begins.
    #[must_use]
    pub fn of(operation: Operation) -> Self {
        let measure = Arc::new(watch::Sender::new(Measure::default()));
        Self { operation: Arc::new(operation), measure }
    }

    /// What this is an attempt at.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Who left it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        let Operation { operator_id, actor, api_key_id, api_key_name, ip, .. } = &*self.operation;
        Actor {
            operator: *operator_id,
            name: actor.clone(),
            api_key: (*api_key_id).zip(api_key_name.clone()),
            ip: ip.as_deref().and_then(|ip| ip.parse().ok()),
        }
    }

    /// Of how much it will be.
    pub fn set_total(&self, total: u64) {
        self.measure.send_modify(|measure| measure.total = Some(number(total)));
    }

    /// So much more is done.
    pub fn advance(&self, by: u64) {
        self.measure.send_modify(|measure| measure.done = measure.done.saturating_add(number(by)));
    }

    /// Hears how far it is.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Measure> {
        self.measure.subscribe()
    }

    /// How far it is.
    #[must_use]
    pub fn measure(&self) -> Measure {
        *self.measure.borrow()
    }

    /// The attempt, as the catalog knows it.
    pub(super) fn attempt(&self) -> (uuid::Uuid, i32) {
        (self.operation.id, self.operation.attempts)
    }

    /// Writes what is done and keeps the lease; ends when somebody else may have it.
    pub(super) async fn keep(&self, app: &App) {
        let mut written = Measure::default();
        let mut kept = Instant::now();
        loop {
            sleep(PACE).await;
            let measure = self.measure();
            if measure == written && kept.elapsed() < RENEWAL {
                continue;
            }
            match app.tenancy.keep_operation(self.attempt(), measure, LEASE, app.clock.now()).await {
                Ok(true) => (written, kept) = (measure, Instant::now()),
                // The database may be away for a moment.
                Err(error) if kept.elapsed() < LEASE => tracing::debug!(%error, "a lease is renewed later"),
                Ok(false) | Err(_) => return,
            }
        }
    }
}

fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

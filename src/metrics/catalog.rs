//! What only the catalog knows, asked when somebody reads it.

use std::time::{Duration, Instant};

use tenants::Backlog;
use tokio::sync::Mutex;

use crate::{error::ServiceError, state::App};

/// For how long an answer does for whoever reads next: two scrapers that look each 15 seconds cost one query a time.
const FRESH: Duration = Duration::from_secs(5);
/// How long a reader waits for an answer: most of what it shows needs no database, least of all while that is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Catalog(Mutex<Option<(Instant, Option<Backlog>)>>);

impl Catalog {
    /// What there is to do; `None` while the database does not say. Asked by one reader at a time, and not again while the
    /// answer is fresh.
    pub(super) async fn backlog(&self, app: &App) -> Option<Backlog> {
        let mut held = self.0.lock().await;
        if let Some((at, backlog)) = &*held
            && at.elapsed() < FRESH
        {
            return backlog.clone();
        }
        let asked = tokio::time::timeout(PATIENCE, app.tenancy.backlog(app.clock.now())).await;
        let backlog = match asked {
            Ok(Ok(backlog)) => Some(backlog),
            Ok(Err(error)) => {
                tracing::debug!(error = %ServiceError::from(error), "the catalog does not say what there is to do");
                None
            }
            Err(_late) => None,
        };
        *held = Some((Instant::now(), backlog.clone()));
        backlog
    }
}

//! A run as it goes on.

use std::time::Duration;

use poem_openapi::{OpenApi, param::Path};
use tenants::Run;
use uuid::Uuid;

use super::MigrationRunOut;
use crate::{
    app::Tag,
    error::ServiceError,
    http::{EventStream, Problem},
    operators::{Followed, Reads, follow},
    state::App,
};

/// The endpoint of the stream.
pub struct FleetStreamApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl FleetStreamApi {
    /// A run as it goes on
    ///
    /// Scope `read`. Server-Sent Events: `event: run`, and as `data` the run, as the list of them has it, now and at each
    /// change until it ends or is interrupted. A comment comes at least every 15 seconds. The stream ends after 15 minutes, or
    /// when the operator or the key is gone; a client that comes again begins with what is then.
    #[oai(path = "/api/admin/migrations/:id/events", method = "get", operation_id = "streamMigrationRun")]
    async fn events(
        &self,
        operator: Reads,
        /// The run's id.
        id: Path<Uuid>,
    ) -> Result<EventStream<MigrationRunOut>, Problem> {
        follow::<Run>(&self.0, operator.0, id.0).await
    }
}

impl Followed for Run {
    type Shown = MigrationRunOut;
    const EVENT: &'static str = "run";
    /// A run's numbers are written at each step.
    const POLL: Duration = Duration::from_millis(500);

    async fn find(app: &App, id: Uuid) -> Result<Option<Self>, ServiceError> {
        Ok(app.tenancy.run(Some(id)).await?)
    }

    fn has_ended(&self) -> bool {
        !self.is_running()
    }
}

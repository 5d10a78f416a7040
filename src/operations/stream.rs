//! An operation as it goes on.

use std::time::Duration;

use poem_openapi::{OpenApi, param::Path};
use uuid::Uuid;

use super::{Operation, OperationOut, store};
use crate::{
    app::Tag,
    error::ServiceError,
    http::{EventStream, Problem},
    operators::{Followed, Reads, follow},
    state::App,
};

/// The endpoint of the stream.
pub struct OperationStreamApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl OperationStreamApi {
    /// An operation as it goes on
    ///
    /// Scope `read`. Server-Sent Events: `event: operation`, and as `data` the operation, as GET of it answers, now and at
    /// each change until it has succeeded or failed. A comment comes at least every 15 seconds. The stream ends after 15
    /// minutes, or when the operator or the key is gone; a client that comes again begins with what is then.
    #[oai(path = "/api/admin/operations/:id/events", method = "get", operation_id = "streamOperation")]
    async fn events(
        &self,
        operator: Reads,
        /// The operation's id.
        id: Path<Uuid>,
    ) -> Result<EventStream<OperationOut>, Problem> {
        follow::<Operation>(&self.0, operator.0, id.0).await
    }
}

impl Followed for Operation {
    type Shown = OperationOut;
    const EVENT: &'static str = "operation";
    /// What is done is written twice a second; a person follows one a second.
    const POLL: Duration = Duration::from_secs(1);

    async fn find(app: &App, id: Uuid) -> Result<Option<Self>, ServiceError> {
        let found = store::find(app.tenancy.catalog(), id).await?;
        // The lease is renewed while nothing else happens.
        Ok(found.map(|operation| Self { leased_until: None, ..operation }))
    }

    fn has_ended(&self) -> bool {
        self.finished_at.is_some()
    }
}

//! The endpoints of operations.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Enum, OpenApi,
    param::{Path, Query},
};
use serde_json::Value;
use uuid::Uuid;

use super::{Filter, Operation, store};
use crate::{
    app::Tag,
    error::ServiceError,
    http::{Json, Listing, Page, PageQuery, Problem},
    operators::Reads,
    state::App,
};

crate::output! {
    /// Something that outlasts a request.
    pub struct OperationOut {
        /// Its id.
        pub id: Uuid,
        /// What is done: `tenant.purge`, …
        pub kind: String,
        /// To which tenant; null for what concerns none.
        pub tenant: Option<OperationTenantOut>,
        /// `queued`, `running`, `succeeded` or `failed`. One whose process died is `running` until another takes it, within
        /// a minute or so.
        pub status: String,
        /// How much is done.
        pub done: i64,
        /// Of how much; null while nobody knows.
        pub total: Option<i64>,
        /// Why it failed, or why the last attempt did.
        pub error: Option<String>,
        /// What came of it, by its kind.
        pub result: Option<Value>,
        /// When it was left.
        pub created_at: DateTime<Utc>,
        /// When it was first begun.
        pub started_at: Option<DateTime<Utc>>,
        /// When it succeeded or failed.
        pub finished_at: Option<DateTime<Utc>>,
    }
}

crate::output! {
    /// The tenant of an operation; it may be gone.
    pub struct OperationTenantOut {
        /// The tenant's id.
        pub id: Uuid,
        /// Its slug when the operation was left.
        pub slug: String,
    }
}

impl From<Operation> for OperationOut {
    fn from(row: Operation) -> Self {
        let tenant = row.tenant_id.zip(row.tenant_slug);
        Self {
            id: row.id,
            kind: row.kind,
            tenant: tenant.map(|(id, slug)| OperationTenantOut { id, slug }),
            status: row.status,
            done: row.done,
            total: row.total,
            error: row.error,
            result: row.result,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum OperationStatus {
    /// It waits for its turn, or for its next attempt.
    Queued,
    /// A process is at it.
    Running,
    /// It is done.
    Succeeded,
    /// It cannot be done.
    Failed,
}

impl OperationStatus {
    /// As the catalog has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// The list of operations.
pub struct Operations;

impl Listing for Operations {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct OperationsApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl OperationsApi {
    /// The operations
    ///
    /// Scope `read`. What answers 202 leaves one.
    #[oai(path = "/api/admin/operations", method = "get", operation_id = "listOperations")]
    async fn list(
        &self,
        _operator: Reads,
        query: PageQuery<Operations>,
        /// Only those of this status.
        status: Query<Option<OperationStatus>>,
        /// Only those of the tenant of this id.
        tenant: Query<Option<Uuid>>,
    ) -> Result<Json<Page<OperationOut>>, Problem> {
        let status = status.0.map(|status| status.as_str().to_owned());
        let (filter, catalog) = (Filter { status, tenant: tenant.0 }, self.0.tenancy.catalog());
        let count = store::count(catalog, &filter).await.map_err(ServiceError::from)?;
        let window = query.window(count)?;
        let part = (window.offset, window.limit);
        let rows = store::list(catalog, &filter, query.is_descending(), part).await;
        let rows = rows.map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, rows.into_iter().map(Into::into).collect())))
    }

    /// An operation
    ///
    /// Scope `read`. What came of it stays to be looked up, its tenant purged or not.
    #[oai(path = "/api/admin/operations/:id", method = "get", operation_id = "getOperation")]
    async fn detail(
        &self,
        _operator: Reads,
        /// The operation's id.
        id: Path<Uuid>,
    ) -> Result<Json<OperationOut>, Problem> {
        let row = store::find(self.0.tenancy.catalog(), id.0).await.map_err(ServiceError::from)?;
        Ok(Json(row.ok_or_else(Problem::not_found)?.into()))
    }
}

//! Jobs as operators see them: which there are, and those tried again that failed. What a job is done with is shown to nobody.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Enum, OpenApi,
    param::{Path, Query},
};
use serde_json::json;
use tenants::{JobStatus, JobSummary};
use uuid::Uuid;

use crate::{
    app::Tag,
    audit::{self, Action, Actor},
    error::ServiceError,
    http::{Json, Listing, Page, PageQuery, Problem},
    operators::{Provisions, Reads},
    state::App,
};

crate::output! {
    /// A job, a mail for example.
    pub struct JobOut {
        /// The job's id.
        pub id: Uuid,
        /// What is to be done.
        pub kind: String,
        /// The slug of the tenant that left it; null for the installation's own.
        pub tenant: Option<String>,
        /// `queued`, `running`, `parked` or `done`.
        pub status: String,
        /// How often it was tried.
        pub attempts: i32,
        /// Why the last attempt failed.
        pub error: Option<String>,
        /// When it is tried next; of one that is not to be tried any more, when it was last.
        pub run_at: DateTime<Utc>,
        /// When it was left.
        pub created_at: DateTime<Utc>,
        /// When it was done or parked.
        pub finished_at: Option<DateTime<Utc>>,
    }
}

impl From<JobSummary> for JobOut {
    fn from(job: JobSummary) -> Self {
        let JobSummary { id, kind, tenant, status, attempts, error, run_at, created_at, finished_at } = job;
        Self { id, kind, tenant, status, attempts, error, run_at, created_at, finished_at }
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for its time.
    Queued,
    /// A worker has it.
    Running,
    /// It failed for good, and waits for an operator.
    Parked,
    /// It is done.
    Done,
}

impl From<JobState> for JobStatus {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued => Self::Queued,
            JobState::Running => Self::Running,
            JobState::Parked => Self::Parked,
            JobState::Done => Self::Done,
        }
    }
}

/// The list of jobs.
pub struct AllJobs;

impl Listing for AllJobs {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// Has a job that failed, or all of them, tried again now; how many those were.
///
/// # Errors
/// Those of the database.
pub async fn retry_failed(app: &App, id: Option<Uuid>, by: &Actor) -> Result<u64, ServiceError> {
    let tx = app.tenancy.catalog().begin().await?;
    let retried = tx.retry_failed(id, app.clock.now()).await?;
    if retried > 0 {
        audit::record(app, &tx, by, Action::JobRetried, json!({"job": id, "jobs": retried})).await?;
        app.leaves_work();
    }
    tx.commit().await?;
    Ok(retried)
}

/// The endpoints of jobs.
pub struct JobsApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl JobsApi {
    /// The jobs
    ///
    /// Scope `read`. Mails among them, and what keeps failing: `parked`.
    #[oai(path = "/api/admin/jobs", method = "get", operation_id = "listJobs")]
    async fn list(
        &self,
        _operator: Reads,
        query: PageQuery<AllJobs>,
        /// Only those with this status. Left out, all that are not done.
        status: Query<Option<JobState>>,
    ) -> Result<Json<Page<JobOut>>, Problem> {
        let (tenancy, status) = (&self.0.tenancy, status.0.map(Into::into));
        let window = query.window(tenancy.count_jobs(status).await.map_err(ServiceError::from)?)?;
        let jobs = tenancy.jobs_by_age(status, query.is_descending(), (window.offset, window.limit)).await;
        let jobs = jobs.map_err(ServiceError::from)?.into_iter().map(Into::into).collect();
        Ok(Json(query.page(&window, jobs)))
    }

    /// Try a job again that failed
    ///
    /// Scope `provision`. One that is parked, or waits for its next attempt, is tried now, and for as long as a new one.
    #[oai(path = "/api/admin/jobs/:id/retry", method = "post", operation_id = "retryJob")]
    async fn retry(
        &self,
        operator: Provisions,
        /// The job's id.
        id: Path<Uuid>,
    ) -> Result<Json<JobOut>, Problem> {
        let retried = retry_failed(&self.0, Some(id.0), &operator.0.actor).await?;
        let tx = self.0.tenancy.catalog().begin().await.map_err(ServiceError::from)?;
        let job = tx.job(id.0).await.map_err(ServiceError::from)?.ok_or_else(Problem::not_found)?;
        if retried == 0 {
            return Err(Problem::conflict("job_not_failed", "The job has not failed, or is to be done now."));
        }
        Ok(Json(job.into()))
    }
}

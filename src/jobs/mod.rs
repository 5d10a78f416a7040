//! Work that is done after the answer: it is left in the outbox, in the transaction of what caused it, and done by a
//! worker. What must not show in an answer, its time included, is found out here too: whether an account exists.
//!
//! A task may be done twice, by two workers even: one that died may have been done already. Each has to be safe to do
//! again.

use std::time::Duration;

use chrono::TimeDelta;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenants::{DataKey, Job, LeasedJob, Outbox, Outcome, TenantDb, TenantName};
use uuid::Uuid;

use crate::{
    error::ServiceError,
    find,
    mail::Letter,
    password,
    registration::tasks::{self, AddressTask},
    state::App,
    users::identity::Email,
};

/// Work to be done later.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// A mail is to go out.
    Mail(Letter),
    /// What follows from an address depends on whether it is known.
    Address(AddressTask),
    /// Somebody asked for the list of his organizations.
    FindOrganizations {
        /// The address, as it was typed.
        email: String,
    },
    /// Whoever has this address, as addresses are compared, gets a link to choose another password.
    ForgottenPassword {
        /// The address.
        email: String,
    },
}

impl Task {
    /// What operators call it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Mail(_) => "mail",
            Self::Address(_) => "address",
            Self::FindOrganizations { .. } => "find_organizations",
            Self::ForgottenPassword { .. } => "forgotten_password",
        }
    }
}

/// For how long a worker has a job before another one may take it.
const LEASE: Duration = Duration::from_secs(60);
/// When work that failed is tried again.
const RETRY_AFTER: TimeDelta = TimeDelta::seconds(30);
/// How many jobs a worker takes at once.
const BATCH: u32 = 10;

/// Leaves a task in the outbox, in the transaction of what caused it. Whether it is there by this: with a `dedupe_key`, it
/// may have been there before. All of it is encrypted, because it may be secret or personal.
///
/// # Errors
/// Those of the database.
pub async fn leave(
    app: &App,
    outbox: &impl Outbox,
    task: &Task,
    dedupe_key: Option<String>,
) -> Result<bool, ServiceError> {
    let plain = serde_json::to_vec(task).map_err(|error| tenants::Error::Damaged(error.to_string()))?;
    let context = context(task.kind(), outbox.tenant_id());
    let sealed = app.tenancy.key(DataKey::Outbox).seal(&context, &plain)?;
    let payload = json!({ "sealed": BASE64.encode(&sealed) });
    let job = Job { kind: task.kind(), payload, run_at: app.clock.now(), dedupe_key };
    Ok(outbox.enqueue(&job).await?.is_some())
}

/// What a task is encrypted for: it opens as the same kind of the same tenant only.
fn context(kind: &str, tenant: Option<Uuid>) -> String {
    format!("job {kind} of {}", tenant.unwrap_or_default())
}

fn open(app: &App, job: &LeasedJob) -> Result<Task, String> {
    let sealed = job.payload.get("sealed").and_then(Value::as_str).ok_or("the payload is not whole")?;
    let sealed = BASE64.decode(sealed.as_bytes()).map_err(|error| error.to_string())?;
    let plain = app
        .tenancy
        .key(DataKey::Outbox)
        .open(&context(&job.kind, job.tenant_id), &sealed)
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&plain).map_err(|error| error.to_string())
}

/// Does what is due, a few jobs at most, and says how many that were.
///
/// # Errors
/// Those of the database.
pub async fn run_due(app: &App) -> Result<usize, ServiceError> {
    let jobs = app.tenancy.take_jobs(BATCH, LEASE, app.clock.now()).await?;
    for job in &jobs {
        let outcome = match open(app, job) {
            Ok(task) => run(app, job, task).await,
            Err(error) => Outcome::Park { error },
        };
        app.tenancy.finish_job(job, &outcome, app.clock.now()).await?;
    }
    Ok(jobs.len())
}

async fn run(app: &App, job: &LeasedJob, task: Task) -> Outcome {
    match task {
        Task::Mail(letter) => {
            app.mailer.deliver(letter).await;
            Outcome::Done
        }
        Task::Address(task) => done(app, find_out(app, job, &task).await),
        Task::FindOrganizations { email } => match Email::parse(&email) {
            Ok(email) => done(app, find::tell(app, &email).await),
            Err(_) => Outcome::Done,
        },
        Task::ForgottenPassword { email } => done(app, password::send_link(app, job, &email).await),
    }
}

async fn find_out(app: &App, job: &LeasedJob, task: &AddressTask) -> Result<(), ServiceError> {
    tasks::run(app, &database_of(app, job).await?, job, task).await
}

/// The database of the tenant that left the job.
async fn database_of(app: &App, job: &LeasedJob) -> Result<TenantDb, ServiceError> {
    let gone = || tenants::Error::NoSuchTenant(job.tenant_id.unwrap_or_default().to_string());
    let name = TenantName::Id(job.tenant_id.ok_or_else(gone)?);
    let tenant = app.tenancy.resolver().resolve(name).await?.ok_or_else(gone)?;
    Ok(app.tenancy.database_of(tenant))
}

/// What became of work that fails only where the database does: that passes.
fn done(app: &App, result: Result<(), ServiceError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Retry { at: app.clock.now() + RETRY_AFTER, error: error.to_string() },
    }
}

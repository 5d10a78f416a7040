//! Work that is done after the answer: it is left in the outbox, in the transaction of what caused it, and done by a
//! worker. What must not show in an answer, its time included, is found out here too: whether an account exists.
//!
//! A task may be done twice, by two workers even: one that died may have been done already. Each has to be safe to do
//! again.

pub mod api;
mod retry;
mod room;
mod worker;

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use data_encoding::BASE64;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenants::{DataKey, Full, Job, Kinds, LeasedJob, Outbox, Outcome, Tenant, TenantDb, TenantName};
use tracing::Instrument as _;
use uuid::Uuid;

pub use self::{
    api::{JobsApi, retry_failed},
    room::{mail_room, put_off},
    worker::start,
};
use crate::{
    error::ServiceError,
    find,
    limits::{self, mails},
    mail::{self, Failure, Letter, Stamp},
    metrics::{JobOutcome, MailOutcome},
    notifications, password,
    registration::tasks::{self, AddressTask},
    state::App,
    telemetry::traces,
};

/// Work to be done later.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// A mail is to go out.
    Mail(Letter),
    /// A mail is to go out to somebody who may never have heard of who it comes from.
    UnsolicitedMail(Letter),
    /// What follows from an address depends on whether it is known.
    Address(AddressTask),
    /// Whoever has this address, as addresses are compared, gets a link to choose another password.
    ForgottenPassword {
        /// The address.
        email: String,
    },
    /// Somebody asked for the list of his organizations.
    FindOrganizations {
        /// The address, as it was typed.
        email: String,
    },
    /// Somebody is to be mailed what he is told of.
    Digest {
        /// Who.
        user: Uuid,
        /// Which mail.
        digest: Uuid,
    },
}

impl Task {
    /// What operators call it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Mail(_) | Self::UnsolicitedMail(_) => MAIL,
            Self::Address(_) => "address",
            Self::ForgottenPassword { .. } => "forgotten_password",
            Self::FindOrganizations { .. } => "find_organizations",
            Self::Digest { .. } => "digest",
        }
    }
}

/// All kinds there are.
pub(crate) const KINDS: &[&str] = &[MAIL, "address", "forgotten_password", "find_organizations", "digest"];
/// Where in a payload stands which trace its job goes on with, if that is kept.
const TRACE: &str = "trace";
/// The kind of mails.
const MAIL: &str = "mail";
/// For how long a worker has a job before another one may take it: as long a mail waits whose worker was killed.
const LEASE: Duration = Duration::from_mins(2);
/// For how long a job may go on: it ends, and is reported, within the lease. All deadlines of a conversation with a mail
/// server together are less.
const DEADLINE: Duration = Duration::from_secs(110);
/// How many jobs [`run_due`] takes at once.
const BATCH: u32 = 10;
/// How long a job waits whose tenant works on as much as it may.
const BUSY_MILLIS: std::ops::Range<u64> = 2_000..10_000;
/// How often, a second apart, to report what became of a job. A mail that was sent and is not noted goes out again.
const REPORTS: u32 = 5;

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
    leave_until(app, outbox, task, dedupe_key, app.clock.now()).await
}

/// As [`leave`], to be done not before this time.
///
/// # Errors
/// Those of the database.
pub async fn leave_until(
    app: &App,
    outbox: &impl Outbox,
    task: &Task,
    dedupe_key: Option<String>,
    run_at: DateTime<Utc>,
) -> Result<bool, ServiceError> {
    let plain = serde_json::to_vec(task).map_err(|error| tenants::Error::Damaged(error.to_string()))?;
    let context = context(task.kind(), outbox.tenant_id());
    let sealed = app.tenancy.key(DataKey::Outbox).seal(&context, &plain)?;
    let mut payload = json!({ "sealed": BASE64.encode(&sealed) });
    if let Some(trace) = traces::current() {
        payload[TRACE] = trace.into();
    }
    let job = Job { kind: task.kind(), payload, run_at, dedupe_key };
    let is_new = outbox.enqueue(&job).await?.is_some();
    // What else is done depends on what nobody is to learn. Done at once, it would show in how fast the next answers are; done
    // when the workers look by themselves, it may be anywhere within a second.
    if task.kind() == MAIL {
        app.leaves_work();
    }
    Ok(is_new)
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

/// Does what is due, a few jobs at most and one after another, and says how many that were. For those who want it done
/// now; else it is for [workers](start).
///
/// # Errors
/// Those of the database.
pub async fn run_due(app: &App) -> Result<usize, ServiceError> {
    let jobs = app.tenancy.take_jobs(Kinds::All, BATCH, LEASE, app.clock.now()).await?;
    for job in &jobs {
        let outcome = attempt(app, job).await;
        app.tenancy.finish_job(job, &outcome, app.clock.now()).await?;
    }
    Ok(jobs.len())
}

/// Does a job, and says what became of it, whatever it does.
async fn attempt(app: &App, job: &LeasedJob) -> Outcome {
    let since = Instant::now();
    let outcome = attempt_unmeasured(app, job).instrument(trace_of(job)).await;
    let what = match outcome {
        Outcome::Done => JobOutcome::Done,
        Outcome::Retry { .. } => JobOutcome::Retried,
        Outcome::PutOff { .. } => JobOutcome::PutOff,
        Outcome::HandedBack { .. } => JobOutcome::HandedBack,
        Outcome::Park { .. } => JobOutcome::Parked,
    };
    app.metrics().jobs.note(&job.kind, what, since.elapsed());
    outcome
}

async fn attempt_unmeasured(app: &App, job: &LeasedJob) -> Outcome {
    let task = match open(app, job) {
        Ok(task) => task,
        Err(error) => return Outcome::Park { error },
    };
    let tenant = match tenant_of(app, job).await {
        Ok(tenant) => tenant,
        Err(error) => return retry::later(app, job, error.to_string()),
    };
    let _unit = match &tenant {
        Some(tenant) => match tenant.meter.unit(tenant.limits.concurrency, limits::WAIT).await {
            Ok(unit) => unit,
            Err(Full) => return busy(app),
        },
        None => None,
    };
    match guarded(DEADLINE, run(app, job, task)).await {
        Ok(outcome) => outcome,
        Err(error) => retry::later(app, job, error),
    }
}

/// What becomes of a job of a tenant that works on as much as it may already. Not all come back at once.
fn busy(app: &App) -> Outcome {
    let pause = Duration::from_millis(rand::random_range(BUSY_MILLIS));
    let reason = "put off: the organization works on as much as it may at once".to_owned();
    Outcome::PutOff { at: app.clock.now() + pause, reason }
}

/// Works until the deadline, and says why where it broke or took longer.
async fn guarded(deadline: Duration, work: impl Future<Output = Outcome>) -> Result<Outcome, String> {
    match tokio::time::timeout(deadline, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(outcome)) => Ok(outcome),
        // The panic has written its own line into the log; what it says may hold anything.
        Ok(Err(_)) => Err("it broke: the log of that time says where".to_owned()),
        Err(_) => Err(format!("it did not end within {} s", deadline.as_secs())),
    }
}

/// The span of an attempt, in the trace of what caused the job.
fn trace_of(job: &LeasedJob) -> tracing::Span {
    let tenant = job.tenant_id.map(tracing::field::display);
    let span = tracing::info_span!(
        target: "trace",
        "job",
        otel.kind = "consumer",
        job = %job.id,
        kind = job.kind,
        tenant,
        attempt = job.attempts,
    );
    traces::go_on(&span, job.payload.get(TRACE).and_then(Value::as_str));
    span
}

/// What the log says of everything that is done for a job.
fn span_of(job: &LeasedJob) -> tracing::Span {
    let tenant = job.tenant_id.map(tracing::field::display);
    tracing::info_span!("job", job = %job.id, kind = job.kind, tenant, attempt = job.attempts)
}

/// Notes what became of a job, within its [span](span_of). The database may be away for a moment.
async fn report(app: &App, job: &LeasedJob, outcome: &Outcome) {
    match outcome {
        Outcome::Done => tracing::info!("job done"),
        Outcome::Retry { at, error } => {
            let (error, at) = (mail::without_words(error), at.to_rfc3339());
            tracing::warn!(error, at, "job failed, to be tried again");
        }
        Outcome::PutOff { at, reason } => tracing::debug!(reason, at = at.to_rfc3339(), "job put off"),
        Outcome::HandedBack { reason } => tracing::warn!(reason, "job handed back"),
        Outcome::Park { error } => tracing::error!(error = mail::without_words(error), "job failed for good"),
    }
    for pause in (0..REPORTS).rev() {
        match app.tenancy.finish_job(job, outcome, app.clock.now()).await {
            Ok(true) => return,
            Ok(false) => return tracing::warn!("another worker has taken the job since"),
            Err(error) if pause == 0 => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "what became of a job cannot be noted: it is done again");
            }
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn run(app: &App, job: &LeasedJob, task: Task) -> Outcome {
    let result = match task {
        Task::Mail(letter) => return mail(app, job, letter).await,
        Task::UnsolicitedMail(letter) => return room::unsolicited(app, job, letter).await,
        Task::Address(task) => find_out(app, job, &task).await,
        Task::ForgottenPassword { email } => password::send_link(app, job, &email).await,
        Task::FindOrganizations { email } => find::tell(app, job, &email).await,
        Task::Digest { user, digest } => send_digest(app, job, user, digest).await,
    };
    match result {
        Ok(()) => Outcome::Done,
        // Nothing here fails for good but by a defect.
        Err(error) => retry::later(app, job, error.to_string()),
    }
}

async fn find_out(app: &App, job: &LeasedJob, task: &AddressTask) -> Result<(), ServiceError> {
    tasks::run(app, &database_of(app, job).await?, job, task).await
}

async fn send_digest(app: &App, job: &LeasedJob, user: Uuid, digest: Uuid) -> Result<(), ServiceError> {
    notifications::send(app, &database_of(app, job).await?, user, digest).await
}

/// The database of the tenant that left the job.
async fn database_of(app: &App, job: &LeasedJob) -> Result<TenantDb, ServiceError> {
    let gone = || tenants::Error::NoSuchTenant(job.tenant_id.unwrap_or_default().to_string());
    Ok(app.tenancy.database_of(tenant_of(app, job).await?.ok_or_else(gone)?))
}

/// The tenant that left the job, if one did, and is still there.
async fn tenant_of(app: &App, job: &LeasedJob) -> Result<Option<Arc<Tenant>>, ServiceError> {
    match job.tenant_id {
        Some(id) => Ok(app.tenancy.resolver().resolve(TenantName::Id(id)).await?),
        None => Ok(None),
    }
}

async fn mail(app: &App, job: &LeasedJob, letter: Letter) -> Outcome {
    if let Some(at) = letter.expires_at.filter(|at| *at <= app.clock.now()) {
        let at = at.format("%Y-%m-%d %H:%M UTC");
        return Outcome::Park { error: format!("what it says expired at {at}, before it could be sent") };
    }
    match tenant_of(app, job).await {
        Ok(Some(tenant)) => of_tenant(app, job, &tenant, letter).await,
        Ok(None) => deliver(app, job, letter).await,
        Err(error) => retry::later(app, job, error.to_string()),
    }
}

/// Delivers a mail, if the tenant may send one more today.
async fn of_tenant(app: &App, job: &LeasedJob, tenant: &Tenant, letter: Letter) -> Outcome {
    let counted = match mails::count(app, tenant, &letter.mail).await {
        Ok(Ok(counted)) => counted,
        Ok(Err(put_off)) => return put_off,
        Err(error) => return retry::later(app, job, error.to_string()),
    };
    let outcome = deliver(app, job, letter).await;
    if outcome != Outcome::Done {
        mails::withdraw(app, tenant, counted).await;
    }
    outcome
}

async fn deliver(app: &App, job: &LeasedJob, letter: Letter) -> Outcome {
    let (stamp, since) = (Stamp { id: job.id, at: job.created_at }, Instant::now());
    let span = tracing::info_span!(target: "trace", "mail", otel.kind = "client");
    let delivered = app.mailer.deliver(letter, stamp).instrument(span).await;
    let what = match delivered {
        Ok(()) => MailOutcome::Sent,
        Err(Failure::Retry(_)) => MailOutcome::Retried,
        Err(Failure::Refused(_)) => MailOutcome::Refused,
    };
    app.metrics().mails.note(MAIL, what, since.elapsed());
    match delivered {
        Ok(()) => Outcome::Done,
        Err(Failure::Retry(error)) => retry::later(app, job, error),
        Err(Failure::Refused(error)) => Outcome::Park { error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_or_hangs_has_failed_and_nothing_else() {
        let (soon, long) = (Duration::ZERO, Duration::from_mins(1));
        assert_eq!(guarded(long, async { Outcome::Done }).await, Ok(Outcome::Done));
        let broke = guarded(long, async { panic!("with a secret") }).await;
        assert_eq!(broke, Err("it broke: the log of that time says where".to_owned()));
        let hung = guarded(soon, std::future::pending()).await;
        assert_eq!(hung, Err("it did not end within 0 s".to_owned()));
    }
}

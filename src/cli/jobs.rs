//! `tenantry jobs …`

use chrono::{DateTime, Utc};
use serde::Serialize;
use tenants::{JobStatus, JobSummary};

use super::{
    Jobs, JobsList, JobsRetry, JobsStatus,
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{audit::Actor, jobs};

pub(super) async fn jobs(context: &Context, command: Jobs) -> Result<Exit, Failure> {
    match command {
        Jobs::List(arguments) => list(context, arguments).await,
        Jobs::Retry(arguments) => retry(context, arguments).await,
    }
}

async fn list(context: &Context, arguments: JobsList) -> Result<Exit, Failure> {
    let status = arguments.status.map(|status| match status {
        JobsStatus::Queued => JobStatus::Queued,
        JobsStatus::Running => JobStatus::Running,
        JobsStatus::Parked => JobStatus::Parked,
        JobsStatus::Done => JobStatus::Done,
    });
    let tenancy = context.open_tenancy().await?;
    let jobs = tenancy.jobs(status, arguments.limit).await;
    let jobs = tenancy.finish(jobs).await?;
    let none = if status.is_some() { "No such jobs." } else { "All jobs are done." };
    context.output.list(&jobs, |jobs| table(jobs, none))?;
    Ok(Exit::Ok)
}

fn table(jobs: &[JobSummary], none: &'static str) -> Table {
    let headings = ["JOB", "KIND", "TENANT", "STATUS", "ATTEMPTS", "DUE", "LAST ERROR"];
    jobs.iter().fold(Table::new(&headings, none), |table, job| {
        // Of those that are not to be tried any more, nothing is due.
        let due = if job.finished_at.is_none() { minute(job.run_at) } else { "-".to_owned() };
        table.row([
            job.id.to_string(),
            job.kind.clone(),
            job.tenant.clone().unwrap_or_else(|| "-".to_owned()),
            job.status.clone(),
            job.attempts.to_string(),
            due,
            job.error.clone().unwrap_or_else(|| "-".to_owned()),
        ])
    })
}

async fn retry(context: &Context, arguments: JobsRetry) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Retried {
        retried: u64,
    }
    let app = context.open_app().await?;
    let retried = jobs::retry_failed(&app, arguments.id, &Actor::command_line()).await;
    let retried = app.finish(retried).await?;
    if let (0, Some(id)) = (retried, arguments.id) {
        return Err(format!("no job {id} that failed; `tenantry jobs list` shows which there are").into());
    }
    context.output.answer(&Retried { retried }, |Retried { retried }| match retried {
        0 => "No job has failed.".to_owned(),
        1 => "Queued 1 job: a running `tenantry serve` does it now.".to_owned(),
        many => format!("Queued {many} jobs: a running `tenantry serve` does them now."),
    })?;
    Ok(Exit::Ok)
}

fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

//! `tenantry operation …`, and how a command does an operation in its own process.

use std::{fmt, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tenants::Slug;
use uuid::Uuid;

use super::{
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    error::ServiceError,
    operations::{self, Filter, Operation, OperationOut, Progress},
    printable::Printable,
    state::App,
};

/// How often an operation is looked at that another process has: a lease is a matter of seconds.
const LOOKED: Duration = Duration::from_secs(1);

/// What can be done with operations.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Operations {
    /// List the operations, the newest first
    List(OperationList),
    /// Show an operation and what came of it
    Show(OperationName),
    /// Take up an operation here: one that waits, one whose process died, or one that failed. While a process has it, wait
    Resume(OperationName),
}

/// The arguments of `operation list`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct OperationList {
    /// Only those with this status
    #[arg(long, value_name = "STATUS")]
    pub status: Option<OperationStatus>,
    /// Only those of the tenant that has this slug
    #[arg(long, value_name = "SLUG")]
    pub tenant: Option<Slug>,
    /// How many to list at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// The operation that a command is about.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationName {
    /// The operation's id, as `operation list` shows it
    #[arg(value_name = "ID")]
    pub id: Uuid,
}

/// A status that `operation list` can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OperationStatus {
    /// Waiting for its turn, or for its next attempt.
    Queued,
    /// Under way.
    Running,
    /// Done.
    Succeeded,
    /// Not to be done.
    Failed,
}

impl OperationStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

pub(super) async fn operation(context: &Context, command: Operations) -> Result<Exit, Failure> {
    match command {
        Operations::List(arguments) => list(context, arguments).await,
        Operations::Show(OperationName { id }) => show(context, id).await,
        Operations::Resume(OperationName { id }) => resume(context, id).await,
    }
}

async fn list(context: &Context, arguments: OperationList) -> Result<Exit, Failure> {
    let OperationList { status, tenant, limit } = arguments;
    let app = context.open_app().await?;
    let rows = async {
        let tenant = match &tenant {
            Some(slug) => Some(crate::admin::reach(&app, tenants::Which::Slug(slug)).await?.tenant().id),
            None => None,
        };
        let filter = Filter { status: status.map(|status| status.as_str().to_owned()), tenant };
        let rows = operations::list(app.tenancy.catalog(), &filter, true, (0, limit.into())).await?;
        Ok::<_, Failure>(rows)
    };
    let rows = rows.await;
    let rows: Vec<OperationOut> = app.finish(rows).await?.into_iter().map(Into::into).collect();
    context.output.list(&rows, |rows| {
        let headings = ["OPERATION", "KIND", "TENANT", "STATUS", "DONE", "CREATED", "ERROR"];
        rows.iter().fold(Table::new(&headings, "No operations."), |table, row| {
            let blank = || "-".to_owned();
            table.row([
                row.id.to_string(),
                row.kind.clone(),
                row.tenant.as_ref().map_or_else(blank, |tenant| tenant.slug.clone()),
                row.status.clone(),
                row.total.map_or_else(|| row.done.to_string(), |total| format!("{} of {total}", row.done)),
                row.created_at.format("%Y-%m-%d %H:%M UTC").to_string(),
                row.error.clone().unwrap_or_else(blank),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

async fn show(context: &Context, id: Uuid) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let row = operations::find(app.tenancy.catalog(), id).await.map_err(ServiceError::from);
    let row = app.finish(row).await?.ok_or_else(|| format!("there is no operation {id}"))?;
    context.output.answer(&OperationOut::from(row), |row| Shown(row).to_string())?;
    Ok(Exit::Ok)
}

async fn resume(context: &Context, id: Uuid) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let done = async {
        match take_up(context, &app, id).await? {
            TakenUp::Here(taken) => perform(context, &app, taken).await,
            TakenUp::Elsewhere(ended) => Ok(ended),
        }
    };
    let done = done.await;
    let done = app.finish(done).await?;
    told(context, done, |row| Shown(row).to_string())
}

/// What came of taking an operation up.
enum TakenUp {
    /// It is this process that has it now.
    Here(Operation),
    /// The process that had it has done it, or has failed to.
    Elsewhere(Operation),
}

/// Takes an operation up. Whether the process that has it was killed, nobody knows before its lease has run out: until then
/// this waits, and goes on waiting as long as it is renewed. So it ends in the same way, however soon after the kill it is
/// called.
async fn take_up(context: &Context, app: &App, id: Uuid) -> Result<TakenUp, Failure> {
    let bar = if context.output.is_json() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let mut waited = false;
    loop {
        if let Some(taken) = operations::resume(app, id).await? {
            bar.finish_and_clear();
            return Ok(TakenUp::Here(taken));
        }
        let row = operations::find(app.tenancy.catalog(), id).await.map_err(ServiceError::from)?;
        let row = row.ok_or_else(|| format!("there is no operation {id}"))?;
        match (row.status.as_str(), row.leased_until) {
            ("succeeded", _) if waited => return Ok(TakenUp::Elsewhere(row)),
            ("succeeded", _) => {
                return Err(format!(
                    "it has succeeded already: `tenantry operation show {id}` says what came of it"
                )
                .into());
            }
            ("running", Some(until)) => {
                let kind = &row.kind;
                let until_when = until.format("%H:%M:%S UTC");
                if !std::mem::replace(&mut waited, true) {
                    context.output.note(&format!(
                        "The operation {kind} is held by another process until {until_when}. If it does not renew that, it is \
                         taken up here; Ctrl-C ends the waiting and nothing else."
                    ));
                }
                let left = (until - app.clock.now()).num_seconds().max(0);
                bar.set_message(format!(
                    "{kind}: {} done by the process that holds it until {until_when}, for {left} s more",
                    row.done
                ));
                bar.tick();
            }
            // It was given back or failed in this moment.
            _ => {}
        }
        tokio::time::sleep(LOOKED).await;
    }
}

/// Does an operation that was taken, and shows how far it is where a person looks on. What became of it, as the catalog has it.
pub(super) async fn perform(context: &Context, app: &App, taken: Operation) -> Result<Operation, Failure> {
    let (id, kind) = (taken.id, taken.kind.clone());
    let progress = Progress::of(taken);
    let mut seen = progress.watch();
    // On standard error, and there only where that is a terminal.
    let bar = if context.output.is_json() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}")?);
    bar.set_message(kind);
    {
        let work = operations::perform(app, &progress);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                () = &mut work => break,
                Ok(()) = seen.changed() => {
                    let measure = *seen.borrow_and_update();
                    if let Some(total) = measure.total.and_then(|total| u64::try_from(total).ok()) {
                        bar.set_length(total);
                    }
                    bar.set_position(u64::try_from(measure.done).unwrap_or(0));
                }
            }
        }
    }
    bar.finish_and_clear();
    let row = operations::find(app.tenancy.catalog(), id).await.map_err(ServiceError::from)?;
    Ok(row.ok_or_else(|| format!("there is no operation {id}"))?)
}

/// Prints what became of an operation, and fails if it did.
pub(super) fn told(
    context: &Context,
    done: Operation,
    for_people: impl FnOnce(&OperationOut) -> String,
) -> Result<Exit, Failure> {
    let row = OperationOut::from(done);
    match row.status.as_str() {
        "succeeded" => {
            context.output.answer(&row, for_people)?;
            Ok(Exit::Ok)
        }
        "queued" => {
            let error = row.error.as_deref().unwrap_or_default();
            Err(format!(
                "{error}; a running `tenantry serve` tries it again, or `tenantry operation resume {}`",
                row.id
            )
            .into())
        }
        "running" => {
            Err(format!("another process is at it now: `tenantry operation show {}`", row.id).into())
        }
        _ => Err(row.error.unwrap_or_default().into()),
    }
}

/// An operation, for people.
struct Shown<'a>(&'a OperationOut);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.0;
        writeln!(f, "{}\n", row.kind)?;
        if let Some(tenant) = &row.tenant {
            writeln!(f, "  Tenant    {} ({})", tenant.slug, tenant.id)?;
        }
        writeln!(f, "  Status    {}", row.status)?;
        match row.total {
            Some(total) => writeln!(f, "  Done      {} of {total}", row.done)?,
            None => writeln!(f, "  Done      {}", row.done)?,
        }
        if let Some(error) = &row.error {
            writeln!(f, "  Error     {}", Printable(error))?;
        }
        if let Some(result) = &row.result {
            writeln!(f, "  Result    {}", Printable(result))?;
        }
        for (what, when) in
            [("Created", Some(row.created_at)), ("Started", row.started_at), ("Finished", row.finished_at)]
        {
            if let Some(when) = when {
                writeln!(f, "  {what:<8}  {}", when.format("%Y-%m-%d %H:%M:%S UTC"))?;
            }
        }
        write!(f, "  Id        {}", row.id)
    }
}

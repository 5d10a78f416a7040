//! `tenantry migrate` and `tenantry migrations …`

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tenants::{
    Canaries, Figures, Item, ItemFilter, ItemStatus, MOST_PARALLEL, Pending, Run, RunPlan, StopAfter,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    output::{Exit, Table},
    run::{Context, Failure, finish},
};
use crate::{
    backend::{Backend, Use},
    fleet::{Migrated, MigrationItemOut, MigrationRunOut, Order},
    printable::Printable,
};

/// The arguments of `migrate`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(after_help = "\
The catalog comes first, then every tenant that is behind: the canaries, and if none of them fails the others, wave by wave.
A tenant that fails stays as it was, and is served on if this version serves it. With --json, one document tells at the end
what was done; how far a run is meanwhile, `tenantry migrations list --json` tells, and the admin API's events.
It fails (exit code 1) if a tenant did, and with --check if anything is behind.

Examples:
  tenantry migrate --check
  tenantry migrate --canaries acme,beta --wave 100 --stop-after 1%
  tenantry migrate --resume                 After a run that was killed, or that stopped
  tenantry migrate --retry                  After what made tenants fail was mended")]
pub struct Migrate {
    /// Change nothing: tell what is behind, and fail if anything is
    #[arg(long)]
    pub check: bool,
    /// Who comes first; if one of them fails, nobody else is touched.
    #[arg(
        long,
        value_name = "N|SLUG,..",
        conflicts_with_all = ["check", "resume", "retry"],
        help = "Migrate so many first, or these; if one of them fails, nobody else is touched [default: 1]"
    )]
    pub canaries: Option<Canaries>,
    /// How many tenants a wave has.
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["check", "resume", "retry"],
        value_parser = clap::value_parser!(u32).range(1..),
        help = "Begin with no more than so many before those are done [default: all]"
    )]
    pub wave: Option<u32>,
    /// How many failures are enough.
    #[arg(
        long,
        value_name = "N|N%",
        conflicts_with_all = ["check", "resume", "retry"],
        help = "Leave the others alone once so many have failed [default: 10]"
    )]
    pub stop_after: Option<StopAfter>,
    /// How many at once.
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["check", "resume", "retry"],
        value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_PARALLEL)),
        help = "Migrate so many at once [default: 2]"
    )]
    pub parallel: Option<u8>,
    /// Go on with the latest run, for those it has not come to
    #[arg(long, conflicts_with_all = ["check", "retry"])]
    pub resume: bool,
    /// Try those again that failed in the latest run, and nobody else
    #[arg(long, conflicts_with = "check")]
    pub retry: bool,
}

impl Migrate {
    fn order(self) -> Order {
        if self.resume {
            return Order::Resume;
        }
        if self.retry {
            return Order::Retry;
        }
        let default = RunPlan::default();
        Order::Start(RunPlan {
            canaries: self.canaries.unwrap_or(default.canaries),
            wave: self.wave,
            stop_after: self.stop_after.unwrap_or(default.stop_after),
            parallel: self.parallel.unwrap_or(default.parallel),
        })
    }
}

/// What can be looked at of migrations.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Migrations {
    /// List the migrations of all tenants, the latest first
    List(MigrationsList),
    /// Show one, and what became of each tenant in it
    Show(MigrationsShow),
}

/// The arguments of `migrations list`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationsList {
    /// How many to list at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
}

/// The arguments of `migrations show`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationsShow {
    /// The run.
    #[arg(value_name = "ID", help = "The run [default: the latest]")]
    pub id: Option<Uuid>,
    /// Only the tenants that failed
    #[arg(long)]
    pub failed: bool,
}

pub(super) async fn migrate(context: &Context, arguments: Migrate) -> Result<Exit, Failure> {
    if arguments.check { check(context).await } else { bring_up_to_date(context, arguments.order()).await }
}

/// A terminal is redrawn so often.
const REDRAWN: Duration = Duration::from_millis(100);

/// Shows how far a run is, where a person looks on.
async fn show_progress(mut progress: watch::Receiver<Figures>) {
    let template = "{bar:30} {pos} of {len} tenants, {msg}{elapsed}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let mut bar = None;
    while progress.changed().await.is_ok() {
        let figures = *progress.borrow_and_update();
        let bar = bar.get_or_insert_with(|| ProgressBar::new(0).with_style(style.clone()));
        bar.set_length(figures.total);
        bar.set_position(figures.tried());
        if figures.failed > 0 {
            bar.set_message(format!("{} failed, ", figures.failed));
        }
        tokio::time::sleep(REDRAWN).await;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

async fn bring_up_to_date(context: &Context, order: Order) -> Result<Exit, Failure> {
    let backend = context.open_backend(Use::Shared).await?;
    let (progress, watched) = watch::channel(Figures::default());
    let migrated = async {
        let migrated = backend.migrate(&context.clock, order, &progress).await;
        drop(progress);
        migrated
    };
    // A program that reads JSON is shown no bar; indicatif itself shows none where there is no terminal.
    let shown = async {
        if !context.output.is_json() {
            show_progress(watched).await;
        }
    };
    let (migrated, ()) = tokio::join!(migrated, shown);
    let migrated = finish(backend, migrated).await?;
    let succeeded = migrated.run.as_ref().is_none_or(Run::is_success);
    context.output.answer(&migrated, |migrated| Done(migrated).to_string())?;
    Ok(if succeeded { Exit::Ok } else { Exit::Failed })
}

/// What is behind, for programs.
#[derive(Serialize)]
struct Checked<'a> {
    up_to_date: bool,
    #[serde(flatten)]
    pending: &'a Pending,
}

async fn check(context: &Context) -> Result<Exit, Failure> {
    // Opening the embedded database would make it.
    let pending = if Backend::exists(&context.config) {
        let backend = context.open_backend(Use::AsItIs).await?;
        let pending = backend.pending().await;
        finish(backend, pending).await?
    } else {
        Pending::all()
    };
    let up_to_date = pending.is_empty();
    context.output.answer(&Checked { up_to_date, pending: &pending }, |_| Behind(&pending).to_string())?;
    Ok(if up_to_date { Exit::Ok } else { Exit::Failed })
}

const UP_TO_DATE: &str = "The database is up to date.";

/// What was done, for people.
struct Done<'a>(&'a Migrated);

impl fmt::Display for Done<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Migrated { catalog, tenants, run, not_hardened } = self.0;
        if !catalog.is_empty() {
            write!(f, "Applied {} of the catalog: {}.", migrations_of(catalog.len()), catalog.join(", "))?;
        }
        match run {
            None if catalog.is_empty() => f.write_str(UP_TO_DATE)?,
            None => {}
            Some(run) => {
                if !catalog.is_empty() {
                    writeln!(f)?;
                }
                write!(f, "Brought {} up to date.", counted(*tenants, "tenant"))?;
                if !run.is_success() {
                    write!(f, "\n\n{}", Unfinished(run))?;
                }
            }
        }
        if !not_hardened.is_empty() {
            write!(
                f,
                "\n\nThis login may not take these rights from PUBLIC. Tenants are not fully kept apart until a superuser \
                 runs, in this database:\n"
            )?;
            not_hardened.iter().try_for_each(|statement| write!(f, "\n  {statement};"))?;
        }
        Ok(())
    }
}

/// What is left of a run, and what to do about it.
struct Unfinished<'a>(&'a Run);

impl fmt::Display for Unfinished<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.0;
        if let Some(reason) = &run.reason {
            writeln!(f, "It stopped: {}.", Printable(reason))?;
        }
        if run.failed > 0 {
            writeln!(
                f,
                "{} failed: `tenantry migrations show {} --failed` says why, `tenantry migrate --retry` tries again.",
                counted(run.failed, "tenant"),
                run.id
            )?;
        }
        if run.pending() > 0 {
            writeln!(
                f,
                "{} not touched: `tenantry migrate --resume` goes on with them.",
                match run.pending() {
                    1 => "1 tenant was".to_owned(),
                    many => format!("{many} tenants were"),
                }
            )?;
        }
        write!(f, "The run is {}.", run.id)
    }
}

/// What is behind, for people.
struct Behind<'a>(&'a Pending);

impl fmt::Display for Behind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pending { catalog, tenants } = self.0;
        if self.0.is_empty() {
            return f.write_str(UP_TO_DATE);
        }
        if !catalog.is_empty() {
            writeln!(f, "The catalog lacks {}: {}.", migrations_of(catalog.len()), catalog.join(", "))?;
        }
        if *tenants > 0 {
            let are = if *tenants == 1 { "is" } else { "are" };
            writeln!(f, "{} {are} behind.", counted(i64::try_from(*tenants).unwrap_or(i64::MAX), "tenant"))?;
        }
        write!(f, "Run `tenantry migrate`.")
    }
}

fn migrations_of(count: usize) -> String {
    counted(i64::try_from(count).unwrap_or(i64::MAX), "migration")
}

fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

pub(super) async fn migrations(context: &Context, command: Migrations) -> Result<Exit, Failure> {
    match command {
        Migrations::List(arguments) => list(context, arguments).await,
        Migrations::Show(arguments) => show(context, arguments).await,
    }
}

fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

async fn list(context: &Context, MigrationsList { limit }: MigrationsList) -> Result<Exit, Failure> {
    let tenancy = context.open_tenancy().await?;
    let runs = tenancy.runs(true, (0, u64::from(limit))).await;
    let runs: Vec<MigrationRunOut> = tenancy.finish(runs).await?.into_iter().map(Into::into).collect();
    context.output.list(&runs, |runs| {
        let headings = ["RUN", "STATUS", "VERSION", "DONE", "FAILED", "PENDING", "STARTED", "BY"];
        runs.iter().fold(Table::new(&headings, "No tenant was ever behind."), |table, run| {
            table.row([
                run.id.to_string(),
                run.status.clone(),
                run.target.to_string(),
                format!("{} of {}", run.done, run.total),
                run.failed.to_string(),
                run.pending.to_string(),
                minute(run.started_at),
                run.actor.clone(),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

/// A run and its tenants, for programs.
#[derive(Serialize)]
struct Shown {
    run: MigrationRunOut,
    tenants: Vec<MigrationItemOut>,
}

async fn show(context: &Context, MigrationsShow { id, failed }: MigrationsShow) -> Result<Exit, Failure> {
    let tenancy = context.open_tenancy().await?;
    let found = async {
        let run = tenancy.run(id).await?.ok_or(tenants::RunRefused::Unknown)?;
        let filter = ItemFilter { status: failed.then_some(ItemStatus::Failed), last_first: false };
        let items: Vec<Item> = tenancy.run_items(run.id, filter, (0, u64::MAX)).await?;
        Ok::<_, tenants::Error>((run, items))
    };
    let found = found.await;
    let (run, items) = tenancy.finish(found).await?;
    let tenants = items.into_iter().map(Into::into).collect();
    let shown = Shown { run: run.clone().into(), tenants };
    if context.output.is_json() {
        context.output.answer(&shown, |_| "")?;
        return Ok(Exit::Ok);
    }
    context.output.text(&described(&run))?;
    context.output.list(&shown.tenants, |items| {
        let headings = ["TENANT", "STATUS", "WAVE", "ATTEMPTS", "MS", "ERROR"];
        let none = if failed { "No tenant has failed." } else { "It has no tenants." };
        items.iter().fold(Table::new(&headings, none), |table, item| {
            let blank = || "-".to_owned();
            table.row([
                item.slug.clone(),
                item.status.clone(),
                if item.wave == 0 { "canary".to_owned() } else { item.wave.to_string() },
                item.attempts.to_string(),
                item.duration_ms.map_or_else(blank, |ms| format!("{ms:.1}")),
                item.error.clone().unwrap_or_else(blank),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

fn described(run: &Run) -> String {
    let Run { id, status, target, actor, total, done, failed, skipped, .. } = run;
    let reason = run.reason.as_ref().map(|reason| format!(" ({})", Printable(reason))).unwrap_or_default();
    let ended = run.finished_at.map_or_else(|| "-".to_owned(), minute);
    format!(
        "Migration run {id}\n\n  Status   {status}{reason}\n  Version  {target}\n  Tenants  {total}: {done} done, {failed} \
         failed, {skipped} skipped, {} pending\n  Started  {} by {}\n  Ended    {ended}\n",
        run.pending(),
        minute(run.started_at),
        Printable(actor)
    )
}

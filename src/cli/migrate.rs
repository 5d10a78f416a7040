//! `tenantry migrate`

use std::fmt;

use serde::Serialize;
use tenants::{MigrationReport, Pending};

use super::{
    Migrate,
    output::Exit,
    run::{Context, Failure, finish},
};
use crate::backend::{Backend, Use};

pub(super) async fn migrate(context: &Context, arguments: Migrate) -> Result<Exit, Failure> {
    if arguments.check { check(context).await } else { bring_up_to_date(context).await }
}

async fn bring_up_to_date(context: &Context) -> Result<Exit, Failure> {
    let backend = context.open_backend(Use::Shared).await?;
    let report = backend.migrate(&context.clock).await;
    context.output.answer(&finish(backend, report).await?, |report| Done(report).to_string())?;
    Ok(Exit::Ok)
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
struct Done<'a>(&'a MigrationReport);

impl fmt::Display for Done<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MigrationReport { catalog, tenants, not_hardened } = self.0;
        match (catalog.len(), tenants) {
            (0, 0) => f.write_str(UP_TO_DATE)?,
            (0, _) => write!(f, "Brought {} up to date.", counted(*tenants, "tenant"))?,
            (count, 0) => write!(f, "Applied {} of the catalog: {}.", migrations(count), catalog.join(", "))?,
            (count, _) => write!(
                f,
                "Applied {} of the catalog: {}.\nBrought {} up to date.",
                migrations(count),
                catalog.join(", "),
                counted(*tenants, "tenant")
            )?,
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

/// What is behind, for people.
struct Behind<'a>(&'a Pending);

impl fmt::Display for Behind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pending { catalog, tenants } = self.0;
        if self.0.is_empty() {
            return f.write_str(UP_TO_DATE);
        }
        if !catalog.is_empty() {
            writeln!(f, "The catalog lacks {}: {}.", migrations(catalog.len()), catalog.join(", "))?;
        }
        if *tenants > 0 {
            let are = if *tenants == 1 { "is" } else { "are" };
            writeln!(f, "{} {are} behind.", counted(*tenants, "tenant"))?;
        }
        write!(f, "Run `tenantry migrate`.")
    }
}

fn migrations(count: usize) -> String {
    counted(u64::try_from(count).unwrap_or(u64::MAX), "migration")
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

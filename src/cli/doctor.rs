//! `tenantry doctor`: is everything as it should be, and if not, what to do.

use std::fmt;

use clap::Args;
use serde::Serialize;
use tenants::{
    SchemaName,
    doctor::{Finding, Level, Mended, advise_after, examine},
};

use super::{
    arguments::WrongArguments,
    disk, key_files, mend,
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    backend::{Backend, Use},
    config::{Config, ConfigError, Database},
    printable::Printable,
};

/// The arguments of `doctor`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry doctor --fix
  tenantry doctor --drop-orphan t_06dnpacf5pq2hemnokkcp809oo --yes")]
pub struct Doctor {
    /// Make anew what follows from the catalog and the migrations, and drop what belongs to no tenant and is empty
    #[arg(long)]
    pub fix: bool,
    /// Drop this schema, which belongs to no tenant, with all its rows
    #[arg(long, value_name = "SCHEMA", conflicts_with = "fix")]
    pub drop_orphan: Option<SchemaName>,
    /// Do it
    #[arg(long, requires = "drop_orphan")]
    pub yes: bool,
}

pub(super) async fn doctor(context: &Context, arguments: Doctor) -> Result<Exit, Failure> {
    let Doctor { fix, drop_orphan, yes } = arguments;
    if let Some(orphan) = drop_orphan {
        WrongArguments::confirm(yes, &format!("this drops {orphan} with all its rows"))?;
        return mend::drop_orphan(context, &orphan).await;
    }
    let mended = if fix { Some(mend::mend(context).await?) } else { None };
    let mut findings = settings(&context.config);
    findings.extend(key_files::check(&context.config));
    findings.extend(database(context).await);
    if let Some(mended) = &mended {
        advise_after(mended, &mut findings);
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let report =
        Report { problems: count(Level::Problem), warnings: count(Level::Warning), mended, findings };
    context.output.answer(&report, Report::to_string)?;
    Ok(if report.problems == 0 { Exit::Ok } else { Exit::Failed })
}

/// That they load has been seen already, or no command would run.
fn settings(config: &Config) -> Vec<Finding> {
    match config.validate_for_serve() {
        Ok(()) => vec![Finding::ok("settings", "`serve` would take them")],
        Err(ConfigError { problems }) => problems
            .into_iter()
            .map(|it| {
                Finding::problem(
                    "settings",
                    "wrong_setting",
                    format!("{} ({}): {}", it.setting, it.origin, it.wrong),
                    it.right,
                )
            })
            .collect(),
    }
}

async fn database(context: &Context) -> Vec<Finding> {
    let config = &context.config;
    if config.validate_for_database().is_err() {
        // Told with the settings.
        return Vec::new();
    }
    if !Backend::exists(config) {
        let found = format!("there is none in {} yet", config.data_dir.display());
        return vec![Finding::warning(
            "database",
            "no_database",
            found,
            "the first `tenantry serve` makes it",
        )];
    }
    let backend = match Backend::open(config, Use::AsItIs).await {
        Ok(backend) => backend,
        Err(error) => {
            let advice = match config.database() {
                Database::Embedded { .. } => "see the sentence itself",
                Database::External { .. } => "look at TENANTRY_DATABASE_URL",
            };
            return vec![Finding::problem("database", "database_unreachable", error.to_string(), advice)];
        }
    };
    let mut findings = Vec::new();
    if let Some(cluster) = backend.cluster() {
        let run_by = if cluster.is_attached() { "run by another process" } else { "started for this" };
        findings.push(Finding::ok(
            "database",
            format!("embedded PostgreSQL {} in {}, {run_by}", cluster.version(), config.data_dir.display()),
        ));
    }
    let is_ours = backend.cluster().is_some();
    findings.extend(examine(&backend.settings, is_ours, || context.clock.now()).await);
    findings.extend(disk::check(config));
    if let Err(error) = backend.close().await {
        findings.push(Finding::problem(
            "database",
            "database_not_stopped",
            error.to_string(),
            "look at PostgreSQL's log",
        ));
    }
    findings
}

#[derive(Serialize)]
struct Report {
    problems: usize,
    warnings: usize,
    /// What `--fix` did before it was looked at everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    mended: Option<Mended>,
    findings: Vec<Finding>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mended) = &self.mended {
            write_mended(f, mended)?;
        }
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for Finding { level, check, found, advice, .. } in &self.findings {
            let level = match level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Problem => "problem",
            };
            writeln!(f, "{level:<7}  {check:<width$}  {}", Printable(found))?;
            if let Some(advice) = advice {
                writeln!(f, "{:7}  {:width$}  → {}", "", "", Printable(advice))?;
            }
        }
        let counted = |count, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match (self.problems, self.warnings) {
            (0, 0) => write!(f, "\nAll is well."),
            (0, warnings) => write!(f, "\nNo problems, {}.", counted(warnings, "warning")),
            (problems, 0) => write!(f, "\n{}.", counted(problems, "problem")),
            (problems, warnings) => {
                write!(f, "\n{}, {}.", counted(problems, "problem"), counted(warnings, "warning"))
            }
        }
    }
}

fn write_mended(f: &mut fmt::Formatter<'_>, Mended { done, refused }: &Mended) -> fmt::Result {
    for statement in done {
        writeln!(f, "done     {}", Printable(statement))?;
    }
    for refused in refused {
        writeln!(f, "refused  {}: {}", Printable(&refused.statement), Printable(&refused.reason))?;
    }
    if done.is_empty() && refused.is_empty() {
        writeln!(f, "There was nothing to fix.")?;
    }
    let mut for_superuser = refused.iter().filter(|it| it.needs_superuser).peekable();
    if for_superuser.peek().is_some() {
        writeln!(f, "\nThis login may not do that. Have a superuser run, in this database:\n")?;
    }
    for refused in for_superuser {
        writeln!(f, "  {};", Printable(&refused.statement))?;
    }
    writeln!(f)
}

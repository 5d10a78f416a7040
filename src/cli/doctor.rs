//! `tenantry doctor`: is everything as it should be, and if not, what to do.

use std::fmt;

use serde::Serialize;
use tenants::doctor::{Finding, Level, examine};

use super::{
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    backend::{Backend, Use},
    config::{Config, ConfigError, Database},
    printable::Printable,
};

pub(super) async fn doctor(context: &Context) -> Result<Exit, Failure> {
    let mut findings = settings(&context.config);
    findings.extend(database(context).await);
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let report = Report { problems: count(Level::Problem), warnings: count(Level::Warning), findings };
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
        return vec![Finding::warning("database", found, "the first `tenantry serve` makes it")];
    }
    let backend = match Backend::open(config, Use::AsItIs).await {
        Ok(backend) => backend,
        Err(error) => {
            let advice = match config.database() {
                Database::Embedded { .. } => "see the sentence itself",
                Database::External { .. } => "look at TENANTRY_DATABASE_URL",
            };
            return vec![Finding::problem("database", error.to_string(), advice)];
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
    findings.extend(examine(&backend.settings, || context.clock.now()).await);
    if let Err(error) = backend.close().await {
        findings.push(Finding::problem("database", error.to_string(), "look at PostgreSQL's log"));
    }
    findings
}

#[derive(Serialize)]
struct Report {
    problems: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for Finding { level, check, found, advice } in &self.findings {
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

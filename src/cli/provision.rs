//! `tenantry tenant provision`: many tenants from a table.

use std::{collections::HashMap, io::Read as _, path::PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenants::{SlugChoice, Which};

use super::{
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    admin::{self, AdminError, NewTenant, Owner},
    audit::Actor,
    http::{Name, input::Field as _, input::Wrong},
    limits::ChosenPlan,
    printable::Printable,
    sign_up::{ChosenSlug, SignUpError},
    state::App,
    users::identity::Email,
};

/// The arguments of `tenant provision`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = "\
The first line names the columns: name, slug, owner_email and, if wanted, plan. Nothing is made if a line makes no
sense. A tenant that is there already, by its slug and name, is passed over, so a run that was cut off is simply
started again.

Examples:
  tenantry tenant provision customers.csv
  printf 'name,slug,owner_email\\nAcme Ltd,acme,ada@acme.example\\n' | tenantry tenant provision -")]
pub struct TenantProvision {
    /// A table in CSV (RFC 4180), or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// A line, as it stands in the table.
#[derive(Debug, Deserialize)]
struct Line {
    name: String,
    slug: String,
    owner_email: String,
    #[serde(default)]
    plan: Option<String>,
}

/// What became of a line.
#[derive(Serialize)]
struct Row {
    line: u64,
    slug: String,
    /// `made`, `there already` or `failed`.
    outcome: &'static str,
    error: Option<String>,
}

pub(super) async fn provision(context: &Context, arguments: TenantProvision) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    if arguments.file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut text)?;
    } else {
        text = std::fs::read(&arguments.file)
            .map_err(|error| format!("{}: {error}", arguments.file.display()))?;
    }
    let lines = read(&text)?;
    let app = context.open_app().await?;
    let rows = make(context, &app, lines).await;
    let rows = app.finish(Ok::<_, Failure>(rows)).await?;
    context.output.list(&rows, |rows| {
        rows.iter().fold(Table::new(&["LINE", "TENANT", "OUTCOME", "ERROR"], "No tenants."), |table, row| {
            let error = row.error.clone().unwrap_or_else(|| "-".to_owned());
            table.row([row.line.to_string(), row.slug.clone(), row.outcome.to_owned(), error])
        })
    })?;
    Ok(if rows.iter().any(|row| row.error.is_some()) { Exit::Failed } else { Exit::Ok })
}

/// The lines of a table, each with its slug and name; or all that is wrong with it.
///
/// # Errors
/// A sentence for people.
pub fn lines_of(text: &[u8]) -> Result<Vec<(u64, String, String)>, String> {
    let told = |(line, tenant): (u64, NewTenant)| (line, tenant.slug.slug().to_string(), tenant.name);
    read(text).map(|lines| lines.into_iter().map(told).collect()).map_err(|error| error.to_string())
}

/// The tenants of a table and the lines they stand in; or all that is wrong with it.
fn read(text: &[u8]) -> Result<Vec<(u64, NewTenant)>, Failure> {
    // A line with too few fields is told like any other that makes no sense, with its number.
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text);
    let headers = reader.headers()?.clone();
    if headers.is_empty() {
        return Err("the table is empty: its first line names the columns".into());
    }
    let (mut tenants, mut wrong) = (Vec::new(), Vec::new());
    let (mut lines, mut slugs) = (Lines::of(text), HashMap::new());
    for record in reader.records() {
        // What is no text tells its place by itself.
        let record = record?;
        let line = lines.at(record.position().map_or(0, csv::Position::byte));
        let parsed =
            record.deserialize::<Line>(Some(&headers)).map_err(|error| vec![error.to_string().into()]);
        let parsed =
            parsed.and_then(tenant).and_then(|tenant| match slugs.insert(tenant.slug.slug().clone(), line) {
                Some(first) => Err(vec![format!("slug: Line {first} has the same.").into()]),
                None => Ok(tenant),
            });
        match parsed {
            Ok(tenant) => tenants.push((line, tenant)),
            Err(sentences) => {
                wrong.extend(sentences.iter().map(|sentence| format!("\n  line {line}: {sentence}")));
            }
        }
    }
    if wrong.is_empty() { Ok(tenants) } else { Err(format!("nothing was made:{}", wrong.concat()).into()) }
}

/// Counts lines, which end in CR LF as RFC 4180 has them, in LF or in CR: the reader takes all three. Its own count is of LF
/// alone, and one less where lines end in CR LF: a record of it begins with the end of the line before.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1 }
    }

    /// The line of the first record from this byte on, which is behind those before.
    fn at(&mut self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX);
        while let Some(&next) = self.text.get(self.at)
            && (self.at < byte || next == b'\n' || next == b'\r')
        {
            let goes_on = next == b'\r' && self.text.get(self.at + 1) == Some(&b'\n');
            self.line += u64::from(matches!(next, b'\n' | b'\r') && !goes_on);
            self.at += 1;
        }
        self.line
    }
}

fn tenant(line: Line) -> Result<NewTenant, Wrong> {
    let mut wrong = Wrong::new();
    let plan = line.plan.filter(|plan| !plan.is_empty());
    let name = take(&mut wrong, "name", Name::<1, 100>::from_value(Value::String(line.name)));
    let slug = take(&mut wrong, "slug", ChosenSlug::from_value(Value::String(line.slug)));
    let email = take(&mut wrong, "owner_email", Email::parse(&line.owner_email));
    let plan = plan.map(|plan| take(&mut wrong, "plan", ChosenPlan::from_value(Value::String(plan))));
    let (Some(name), Some(ChosenSlug(slug)), Some(email)) = (name, slug, email) else { return Err(wrong) };
    let plan = match plan {
        Some(None) => return Err(wrong),
        Some(Some(ChosenPlan(plan))) => Some(plan),
        None => None,
    };
    Ok(NewTenant {
        name: name.into_string(),
        slug: SlugChoice::Exactly(slug),
        plan,
        owner: Owner::Invited(email),
    })
}

fn take<T>(wrong: &mut Wrong, column: &str, read: Result<T, Wrong>) -> Option<T> {
    read.map_err(|sentences| {
        wrong.extend(sentences.iter().map(|sentence| format!("{column}: {sentence}").into()));
    })
    .ok()
}

/// One after the other: each is a transaction of its own, and whoever stops this keeps what was made.
async fn make(context: &Context, app: &App, tenants: Vec<(u64, NewTenant)>) -> Vec<Row> {
    let bar =
        if context.output.is_json() { ProgressBar::hidden() } else { ProgressBar::new(tenants.len() as u64) };
    if let Ok(style) = ProgressStyle::with_template("provision {wide_bar} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    let mut rows = Vec::with_capacity(tenants.len());
    for (line, new) in tenants {
        let (slug, name) = (new.slug.slug().clone(), new.name.clone());
        let made = admin::provision(app, new, &Actor::command_line()).await;
        let (outcome, error) = match made {
            Ok(_) => ("made", None),
            Err(SignUpError::SlugTaken(slug)) => match admin::reach(app, Which::Slug(&slug)).await {
                Ok(other) if other.tenant().name == name => ("there already", None),
                Ok(other) => {
                    ("failed", Some(format!("the slug is that of {}", Printable(&other.tenant().name))))
                }
                // Nobody has it, and it is not free yet.
                Err(AdminError::NotFound) => ("failed", Some(SignUpError::SlugTaken(slug).to_string())),
                Err(error) => ("failed", Some(error.to_string())),
            },
            Err(error) => ("failed", Some(error.to_string())),
        };
        rows.push(Row { line, slug: slug.to_string(), outcome, error });
        bar.inc(1);
    }
    bar.finish_and_clear();
    rows
}

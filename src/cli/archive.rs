//! `tenantry tenant export`, `import`, `clone` and `restore-from`; `tenantry archive …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;
use tenants::{Slug, Which};

use super::{
    archive_file::{stored, take_out},
    arguments::WrongArguments,
    operation,
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    admin::AdminError,
    archives::{self, ArchiveName, ArchiveOut, ArchivesError, CloneOf, Import, Restore},
    audit::Actor,
    http::{Name, input::Field as _},
    operations::OperationOut,
    printable::Printable,
    sign_up::ChosenSlug,
};

/// The arguments of `tenant export`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantExport {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// Write the archive to this file, and keep none in the export store
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

/// The arguments of `tenant import`.
#[derive(Args, Debug, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry tenant import acme-20260102T030405678Z-t_06ivnr.tenantry --slug acme-2 --name \"Acme as it was\"
  tenantry tenant import /media/usb/acme.tenantry --slug acme --name Acme --trust")]
pub struct TenantImport {
    /// The archive: its name in the export store, or a file
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
    /// The new tenant's host is SLUG.<base domain>
    #[arg(long, value_name = "SLUG")]
    pub slug: String,
    /// The organization's name
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Take it although another installation wrote it, and nobody can tell whether it was changed since
    #[arg(long)]
    pub trust: bool,
}

/// The arguments of `tenant clone`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantClone {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub tenant: Slug,
    /// The new tenant's host is SLUG.<base domain>
    #[arg(long, value_name = "SLUG")]
    pub slug: String,
    /// The organization's name
    #[arg(long, value_name = "NAME")]
    pub name: String,
}

/// The arguments of `tenant restore-from`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantRestoreFrom {
    /// The archive: its name in the export store, or a file
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
    /// The tenant whose place it takes
    #[arg(long, value_name = "SLUG")]
    pub into: Slug,
    /// Take it although another installation wrote it, and nobody can tell whether it was changed since
    #[arg(long)]
    pub trust: bool,
    /// Take it although it is neither of this tenant nor of one whose place it took in a restore before
    #[arg(long)]
    pub other_tenant: bool,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

/// What can be done with archives.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Archive {
    /// List the archives in the export store, the latest first
    List,
    /// Delete an archive
    Delete(ArchiveDelete),
}

/// The arguments of `archive delete`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct ArchiveDelete {
    /// The archive's name
    #[arg(value_name = "ARCHIVE")]
    pub archive: ArchiveName,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

/// Why not, with the name that was typed in it.
pub(super) fn told(slug: &Slug, error: ArchivesError) -> Failure {
    match error {
        ArchivesError::Admin(AdminError::NotFound) => tenants::Error::NoSuchTenant(slug.to_string()).into(),
        error => error.into(),
    }
}

/// What a result says of a tenant.
fn text<'a>(done: &'a OperationOut, tenant: &str, member: &str) -> &'a str {
    let result = done.result.as_ref().unwrap_or(&Value::Null);
    result[tenant][member].as_str().unwrap_or_default()
}

fn rows(done: &OperationOut) -> u64 {
    done.result.as_ref().and_then(|result| result["rows"].as_u64()).unwrap_or(0)
}

pub(super) async fn export(context: &Context, arguments: TenantExport) -> Result<Exit, Failure> {
    let TenantExport { slug, to } = arguments;
    if let Some(to) = to.as_deref().filter(|to| to.exists()) {
        return Err(format!("{} is there already", to.display()).into());
    }
    let app = context.open_app().await?;
    let done = async {
        let by = Actor::command_line();
        let taken = archives::request_export(&app, Which::Slug(&slug), &by, true).await;
        let taken = taken.map_err(|error| told(&slug, error))?;
        let done = operation::perform(context, &app, taken).await?;
        if let (Some(to), "succeeded") = (&to, done.status.as_str()) {
            take_out(&app, &done, to)?;
        }
        Ok::<_, Failure>(done)
    };
    let done = done.await;
    let done = app.finish(done).await?;
    operation::told(context, done, |done| {
        let result = done.result.as_ref().unwrap_or(&Value::Null);
        let archive = result["archive"].as_str().unwrap_or_default();
        let place = to.map_or_else(|| archive.to_owned(), |to| to.display().to_string());
        let bytes = result["bytes"].as_u64().unwrap_or(0);
        format!(
            "Exported {slug}: {} rows, {bytes} bytes.\n\n  {}\n\nIt holds all that {slug} has, and is sealed, not encrypted.",
            rows(done),
            Printable(&place)
        )
    })
}

/// The slug and the name of a tenant that is to be made.
fn named(slug: String, name: String) -> Result<(Slug, String), Failure> {
    let mut wrong = WrongArguments::default();
    let slug = wrong.take("--slug", ChosenSlug::from_value(Value::String(slug)));
    let name = wrong.take("--name", Name::<1, 100>::from_value(Value::String(name)));
    match (slug, name) {
        (Some(ChosenSlug(slug)), Some(name)) => Ok((slug, name.into_string())),
        _ => Err(wrong.failure()),
    }
}

pub(super) async fn import(context: &Context, arguments: TenantImport) -> Result<Exit, Failure> {
    let TenantImport { archive, slug, name, trust } = arguments;
    let (slug, name) = named(slug, name)?;
    let app = context.open_app().await?;
    let done = async {
        let stored = stored(&app, &archive).await?;
        let done = async {
            let import = Import { archive: stored.name.clone(), slug, name, trust };
            let by = Actor::command_line();
            let taken = archives::request_import(&app, import, &by, true).await?;
            operation::perform(context, &app, taken).await
        };
        let done = done.await;
        stored.forget(&app, done.as_ref());
        done
    };
    let done = done.await;
    let done = app.finish(done).await?;
    operation::told(context, done, made)
}

/// What a person is told of a tenant that was imported or cloned.
fn made(done: &OperationOut) -> String {
    let slug = text(done, "tenant", "slug");
    format!(
        "Made {slug}: {} rows. Its people can sign in; none has a session.\n\
         None of its mails goes out until `tenantry tenant resume {slug}`.",
        rows(done)
    )
}

pub(super) async fn clone(context: &Context, arguments: TenantClone) -> Result<Exit, Failure> {
    let TenantClone { tenant, slug, name } = arguments;
    let (slug, name) = named(slug, name)?;
    let app = context.open_app().await?;
    let done = async {
        let (clone, by) = (CloneOf { slug, name }, Actor::command_line());
        let taken = archives::request_clone(&app, Which::Slug(&tenant), clone, &by, true).await;
        operation::perform(context, &app, taken.map_err(|error| told(&tenant, error))?).await
    };
    let done = done.await;
    let done = app.finish(done).await?;
    operation::told(context, done, made)
}

pub(super) async fn restore_from(context: &Context, arguments: TenantRestoreFrom) -> Result<Exit, Failure> {
    let TenantRestoreFrom { archive, into, trust, other_tenant, yes } = arguments;
    let consequence =
        format!("this puts what the archive holds in the place of {into}, and suspends what is there");
    WrongArguments::confirm(yes, &consequence)?;
    let app = context.open_app().await?;
    let done = async {
        let stored = stored(&app, &archive).await?;
        let done = async {
            let restore = Restore { archive: stored.name.clone(), trust, other_tenant };
            let by = Actor::command_line();
            let taken = archives::request_restore(&app, Which::Slug(&into), restore, &by, true).await;
            operation::perform(context, &app, taken.map_err(|error| told(&into, error))?).await
        };
        let done = done.await;
        stored.forget(&app, done.as_ref());
        done
    };
    let done = done.await;
    let done = app.finish(done).await?;
    operation::told(context, done, |done| {
        let aside = text(done, "replaced", "slug");
        format!(
            "Restored {into}: {} rows. Its people sign in again.\n\
             What was there is kept, suspended, as {aside}. When nobody needs it: `tenantry tenant delete {aside} --yes`.",
            rows(done)
        )
    })
}

pub(super) async fn archive(context: &Context, command: Archive) -> Result<Exit, Failure> {
    match command {
        Archive::List => list(context).await,
        Archive::Delete(arguments) => delete(context, arguments).await,
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let entries = archives::entries(&app, true, (0, u64::MAX)).await;
    let (_, entries) = app.finish(entries).await?;
    let rows: Vec<ArchiveOut> = entries.into_iter().map(Into::into).collect();
    context.output.list(&rows, |rows| {
        let headings = ["ARCHIVE", "TENANT", "EXPORTED", "BYTES"];
        rows.iter().fold(Table::new(&headings, "No archives."), |table, row| {
            let blank = || "-".to_owned();
            table.row([
                row.name.clone(),
                row.tenant.as_ref().map_or_else(blank, |tenant| tenant.slug.clone()),
                row.created_at.map_or_else(blank, |at| at.format("%Y-%m-%d %H:%M UTC").to_string()),
                row.size.to_string(),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

async fn delete(context: &Context, arguments: ArchiveDelete) -> Result<Exit, Failure> {
    let ArchiveDelete { archive, yes } = arguments;
    WrongArguments::confirm(yes, &format!("this deletes {archive}, and nothing brings it back"))?;
    let app = context.open_app().await?;
    let removed = archives::remove(&app, &archive, &Actor::command_line()).await;
    app.finish(removed).await?;
    context
        .output
        .answer(&serde_json::json!({"archive": archive.as_str()}), |_| format!("Deleted {archive}."))?;
    Ok(Exit::Ok)
}

//! `tenantry tenant purge` and `tenantry tenant certificate`.

use clap::Args;
use serde::Serialize;
use tenants::{Slug, Which};
use uuid::Uuid;

use super::{
    arguments::WrongArguments,
    operation,
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    admin::AdminError,
    audit::Actor,
    error::ServiceError,
    purge::{self, PurgeError, Signed, Wanted},
};

/// The arguments of `tenant purge`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantPurge {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// Without waiting for the end of its grace period
    #[arg(long)]
    pub now: bool,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

/// The arguments of `tenant certificate`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantCertificate {
    /// The slug that the tenant had, or its id
    #[arg(value_name = "SLUG")]
    pub tenant: String,
}

pub(super) async fn purge(context: &Context, arguments: TenantPurge) -> Result<Exit, Failure> {
    let TenantPurge { slug, now, yes } = arguments;
    WrongArguments::confirm(
        yes,
        &format!("this drops everything that {slug} has, and nothing brings it back"),
    )?;
    let app = context.open_app().await?;
    let done = async {
        let wanted = Wanted { now, is_taken: true };
        let by = Actor::command_line();
        let taken =
            purge::request(&app, Which::Slug(&slug), wanted, &by).await.map_err(|error| match error {
                PurgeError::Admin(AdminError::NotFound) => {
                    tenants::Error::NoSuchTenant(slug.to_string()).into()
                }
                PurgeError::NotClosed => {
                    format!("the tenant `{slug}` is not being deleted: `tenantry tenant delete {slug}` first")
                        .into()
                }
                PurgeError::InGrace(until) => format!(
                    "the tenant `{slug}` can be restored until {}; add --now if it is to be gone before",
                    until.format("%Y-%m-%d %H:%M UTC")
                )
                .into(),
                error => Failure::from(error),
            })?;
        operation::perform(context, &app, taken).await
    };
    let done = done.await;
    let done = app.finish(done).await?;
    operation::told(context, done, |done| {
        let certificate = done.result.clone().and_then(Signed::read).map(|signed| signed.certificate);
        let dropped = certificate.as_ref().map(|it| it.purged).unwrap_or_default();
        let left = certificate.filter(|it| !it.role_held_in.is_empty()).map_or_else(
            || "Nothing of it is left".to_owned(),
            |it| {
                format!(
                    "Only its role is left, {}, which nobody can act as: it has rights in the databases {}, and \
                     `tenantry doctor --fix` drops it when those are taken",
                    it.schema,
                    it.role_held_in.join(", ")
                )
            },
        );
        format!(
            "Purged {slug}: {} tables with {} rows, and {} rows of the catalog.\n\
             {left}; `tenantry tenant certificate {slug}` says so. Its slug stays taken for 90 days.",
            dropped.tables, dropped.rows, dropped.catalog_rows
        )
    })
}

/// A certificate, and whether it is one.
#[derive(Serialize)]
struct Checked {
    valid: bool,
    #[serde(flatten)]
    signed: Signed,
}

pub(super) async fn certificate(context: &Context, arguments: TenantCertificate) -> Result<Exit, Failure> {
    let TenantCertificate { tenant } = arguments;
    let app = context.open_app().await?;
    let id: Option<Uuid> = tenant.parse().ok();
    let slug = id.is_none().then_some(tenant.as_str());
    let found = purge::find_certificate(&app, id, slug).await.map_err(ServiceError::from);
    let checked = found.map(|found| found.map(|signed| Checked { valid: signed.is_valid(&app), signed }));
    let checked = app.finish(checked).await?;
    let checked = checked.ok_or_else(|| format!("no tenant `{tenant}` was purged"))?;
    context.output.answer(&checked, |Checked { valid, signed }| {
        let it = &signed.certificate;
        let verdict = if *valid { "The MAC is this installation's." } else { "The MAC is NOT valid: somebody wrote this." };
        format!(
            "{} was purged on {} by {}.\n\n  Schema, role  {}\n  Tables        {}\n  Rows          {}\n  In catalog    {}\n  \
             Tenant        {}\n  Operation     {}\n\nNeither schema nor role nor any row of the catalog was left. {verdict}",
            it.slug,
            it.purged_at.format("%Y-%m-%d %H:%M:%S UTC"),
            it.by,
            it.schema,
            it.purged.tables,
            it.purged.rows,
            it.purged.catalog_rows,
            it.tenant,
            it.operation,
        )
    })?;
    Ok(if checked.valid { Exit::Ok } else { Exit::Failed })
}

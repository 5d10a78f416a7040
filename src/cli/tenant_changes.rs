//! `tenantry tenant show`, and what changes a tenant as a whole. The rules are those of the admin API.

use std::fmt;

use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::Value;
use tenants::{Slug, TenantAction, TenantSummary, Which};

use super::{
    TenantRetention,
    arguments::WrongArguments,
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    admin::{self, AdminError, Change, TenantDetailOut},
    audit::Actor,
    http::{Name, input::Field as _},
    printable::Printable,
    sign_up::ChosenSlug,
    state::App,
};

/// The arguments of `tenant rename`.
#[derive(Args, Debug, PartialEq, Eq)]
#[command(group(ArgGroup::new("change").args(["slug", "name"]).required(true).multiple(true)))]
pub struct TenantRename {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub tenant: Slug,
    /// Its host is SLUG.<base domain> from now on; the slug before stays taken for 90 days
    #[arg(long, value_name = "SLUG")]
    pub slug: Option<String>,
    /// The organization's name from now on
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// The arguments of `tenant delete`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantDelete {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

/// Why not, with the name that was typed in it.
pub(super) fn told(slug: &Slug, error: AdminError) -> Failure {
    match error {
        AdminError::NotFound => tenants::Error::NoSuchTenant(slug.to_string()).into(),
        AdminError::Deleting => {
            format!("the tenant `{slug}` is being deleted: `tenantry tenant restore {slug}` first").into()
        }
        error => error.into(),
    }
}

pub(super) async fn show(context: &Context, slug: &Slug) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let detail = async {
        let reached = admin::reach(&app, Which::Slug(slug)).await?;
        TenantDetailOut::of(&reached).await
    };
    let detail = detail.await.map_err(|error| told(slug, error));
    let detail = app.finish(detail).await?;
    context.output.answer(&detail, |detail| Shown(detail).to_string())?;
    Ok(Exit::Ok)
}

/// A tenant, for people.
struct Shown<'a>(&'a TenantDetailOut);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TenantDetailOut {
            id, slug, name, status, schema, schema_version, created_at, usage, plan, ..
        } = self.0;
        let (limits, mails_held) = (&self.0.effective_limits, &self.0.mails_held);
        writeln!(f, "{slug}\n")?;
        writeln!(f, "  Name     {}", Printable(name))?;
        writeln!(f, "  Status   {status}")?;
        writeln!(f, "  Created  {}", created_at.format("%Y-%m-%d %H:%M UTC"))?;
        writeln!(f, "  Users    {}", usage.users)?;
        writeln!(f, "  Rows     {}", usage.rows)?;
        writeln!(f, "  Bytes    {}", usage.bytes)?;
        writeln!(f, "  Schema   {schema}, version {schema_version}")?;
        writeln!(f, "  Plan     {}", plan.as_deref().unwrap_or("none"))?;
        writeln!(f, "  Limits   {}", Printable(limits))?;
        if *mails_held {
            writeln!(f, "  Mails    held until `tenantry tenant resume {slug}`")?;
        }
        write!(f, "  Id       {id}")
    }
}

/// What a command made of a tenant.
#[derive(Serialize)]
struct Changed {
    slug: String,
    status: String,
}

impl From<TenantSummary> for Changed {
    fn from(tenant: TenantSummary) -> Self {
        Self { slug: tenant.slug, status: tenant.status }
    }
}

async fn committed(action: TenantAction) -> Result<TenantSummary, AdminError> {
    Ok(action.commit().await?)
}

async fn changed(app: &App, slug: &Slug, change: Change) -> Result<TenantSummary, AdminError> {
    let mut action = admin::act_on(app, Which::Slug(slug), false).await?;
    admin::set_status(app, &mut action, change, &Actor::command_line()).await?;
    committed(action).await
}

pub(super) async fn change(context: &Context, slug: &Slug, change: Change) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let changed = changed(&app, slug, change).await.map_err(|error| told(slug, error));
    let changed = Changed::from(app.finish(changed).await?);
    context.output.answer(&changed, |Changed { slug, status }| match (change, status.as_str()) {
        (Change::Suspend, _) => {
            format!("Suspended {slug}: its users are refused from their next request on.")
        }
        (Change::Resume, _) => {
            format!("Resumed {slug}: its users can work again, with the sessions they had.")
        }
        (Change::Delete, _) => {
            format!(
                "Deleted {slug}: nobody finds it any more. `tenantry tenant restore {slug}` brings it back."
            )
        }
        (Change::Restore, "suspended") => format!("Restored {slug}: it is suspended, as it was before."),
        (Change::Restore, _) => {
            format!("Restored {slug}: its users can work again, with the sessions they had.")
        }
    })?;
    Ok(Exit::Ok)
}

pub(super) async fn delete(context: &Context, arguments: &TenantDelete) -> Result<Exit, Failure> {
    let TenantDelete { slug, yes } = arguments;
    WrongArguments::confirm(*yes, &format!("this closes {slug} for everybody in it"))?;
    change(context, slug, Change::Delete).await
}

pub(super) async fn rename(context: &Context, arguments: TenantRename) -> Result<Exit, Failure> {
    let TenantRename { tenant, slug, name } = arguments;
    let mut wrong = WrongArguments::default();
    let slug = slug.map(|slug| wrong.take("--slug", ChosenSlug::from_value(Value::String(slug))));
    let name = name.map(|name| wrong.take("--name", Name::<1, 100>::from_value(Value::String(name))));
    if slug == Some(None) || name == Some(None) {
        return Err(wrong.failure());
    }
    let (slug, name) = (slug.flatten().map(|ChosenSlug(slug)| slug), name.flatten());
    let app = context.open_app().await?;
    let renamed = async {
        let mut action = admin::act_on(&app, Which::Slug(&tenant), name.is_some()).await?;
        let by = Actor::command_line();
        admin::rename(&app, &mut action, slug.as_ref(), name.as_deref(), &by).await?;
        committed(action).await
    };
    let renamed = renamed.await.map_err(|error| told(&tenant, error));
    let renamed = app.finish(renamed).await?;
    context.output.answer(&renamed, |renamed| {
        format!("The tenant {tenant} is {} now, {}.", renamed.slug, Printable(&renamed.name))
    })?;
    Ok(Exit::Ok)
}

/// For how long a tenant keeps what happened.
#[derive(Serialize)]
struct Retention {
    slug: String,
    activity_retention_days: u16,
}

pub(super) async fn set_retention(context: &Context, arguments: TenantRetention) -> Result<Exit, Failure> {
    let TenantRetention { slug, days } = arguments;
    let app = context.open_app().await?;
    let changed = async {
        let action = admin::act_on(&app, Which::Slug(&slug), true).await?;
        admin::set_retention(&app, &action, days, &Actor::command_line()).await?;
        committed(action).await
    };
    let changed = changed.await.map_err(|error| told(&slug, error));
    app.finish(changed).await?;
    let retention = Retention { slug: slug.to_string(), activity_retention_days: days };
    context.output.answer(&retention, |Retention { slug, activity_retention_days: days }| {
        let plural = if *days == 1 { "" } else { "s" };
        format!("What happened in {slug} is kept for {days} day{plural}. What is older is removed within the hour.")
    })?;
    Ok(Exit::Ok)
}

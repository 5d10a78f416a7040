//! `tenantry tenant …`

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use tenants::{Slug, SlugChoice, Status, Tenancy, TenantName};
use uuid::Uuid;

use super::{
    Tenant, TenantCreate, TenantList, TenantRetention, TenantStatus,
    arguments::WrongArguments,
    output::{Exit, Table},
    run::{Context, Failure},
    seed,
};
use crate::{
    http::{Name, input::Field as _},
    password::PasswordError,
    sign_up::{ChosenSlug, NewOrganization, Organization, SignUpError, create_organization, derive_slug},
    tenant::set_activity_retention,
    users::identity::{Email, Username},
};

pub(super) async fn tenant(context: &Context, command: Tenant) -> Result<Exit, Failure> {
    match command {
        Tenant::Create(arguments) => create(context, arguments).await,
        Tenant::List(arguments) => list(context, arguments).await,
        Tenant::Seed(arguments) => seed::seed(context, &arguments).await,
        Tenant::Retention(arguments) => set_retention(context, arguments).await,
        Tenant::Suspend(tenant) => set_suspended(context, tenant.slug, true).await,
        Tenant::Resume(tenant) => set_suspended(context, tenant.slug, false).await,
        Tenant::Restore(tenant) => restore(context, tenant.slug).await,
    }
}

async fn create(context: &Context, arguments: TenantCreate) -> Result<Exit, Failure> {
    let new = read_organization(arguments)?;
    let app = context.open_app().await?;
    let name = new.name.clone();
    let site = app.site.clone();
    let created = create_organization(&app, new).await.map_err(|error| match error {
        SignUpError::Password(PasswordError::Refused(wrong)) => WrongArguments::refused_password(wrong),
        error => error.into(),
    });
    let Organization { tenant, owner } = app.finish(created).await?;
    let created = Created {
        id: tenant.id,
        url: site.tenant_url(&tenant.slug),
        slug: tenant.slug.to_string(),
        name,
        owner: Owner { pk: owner.pk, username: owner.username, email: owner.email },
    };
    context.output.answer(&created, Created::to_string)?;
    Ok(Exit::Ok)
}

/// The same types as those of the sign-up over HTTP, so that nothing can be made here that could not be there.
fn read_organization(arguments: TenantCreate) -> Result<NewOrganization, Failure> {
    let TenantCreate { name, slug, owner_email, owner_username } = arguments;
    let mut wrong = WrongArguments::default();
    let name = wrong.take("--name", Name::<1, 100>::from_value(Value::String(name)));
    let slug = slug.map(|slug| wrong.take("--slug", ChosenSlug::from_value(Value::String(slug))));
    let email = wrong.take("--owner-email", Email::parse(&owner_email));
    let username = owner_username.map(|username| wrong.take("--owner-username", Username::parse(&username)));
    let password = wrong.read_password();
    let (Some(name), Some(email), Some(password)) = (name, email, password) else {
        return Err(wrong.failure());
    };
    let slug = match slug {
        Some(None) => return Err(wrong.failure()),
        Some(Some(ChosenSlug(slug))) => SlugChoice::Exactly(slug),
        None => SlugChoice::Derived(derive_slug(&name)),
    };
    let username = match username {
        Some(None) => return Err(wrong.failure()),
        Some(Some(username)) => username,
        None => Username::from_email(&email),
    };
    Ok(NewOrganization {
        name: name.into_string(),
        slug,
        username,
        email,
        password,
        first_name: String::new(),
        last_name: String::new(),
    })
}

/// What was made.
#[derive(Serialize)]
struct Created {
    id: Uuid,
    slug: String,
    name: String,
    url: String,
    owner: Owner,
}

#[derive(Serialize)]
struct Owner {
    pk: Uuid,
    username: String,
    email: String,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, slug, name, url, owner: Owner { username, email, .. } } = self;
        writeln!(f, "Created the tenant {slug}.\n")?;
        writeln!(f, "  Name   {}", crate::printable::Printable(name))?;
        writeln!(f, "  URL    {url}")?;
        writeln!(f, "  Owner  {username} <{email}>")?;
        write!(f, "  Id     {id}")
    }
}

async fn list(context: &Context, arguments: TenantList) -> Result<Exit, Failure> {
    let status = arguments.status.map(|status| match status {
        TenantStatus::Active => Status::Active,
        TenantStatus::Suspended => Status::Suspended,
        TenantStatus::Deleting => Status::Deleting,
    });
    let tenancy = context.open_tenancy().await?;
    let search = arguments.search.as_deref().map(str::trim);
    let tenants = tenancy.list(status, search).await;
    let tenants = tenancy.finish(tenants).await?;
    let none = if status.is_some() || search.is_some() { "No such tenants." } else { "No tenants yet." };
    context.output.list(&tenants, |tenants| {
        tenants.iter().fold(
            Table::new(&["SLUG", "NAME", "STATUS", "CREATED", "ID"], none),
            |table, tenant| {
                table.row([
                    tenant.slug.clone(),
                    tenant.name.clone(),
                    tenant.status.clone(),
                    tenant.created_at.format("%Y-%m-%d %H:%M UTC").to_string(),
                    tenant.id.to_string(),
                ])
            },
        )
    })?;
    Ok(Exit::Ok)
}

/// For how long a tenant keeps what happened.
#[derive(Serialize)]
struct Retention {
    slug: String,
    activity_retention_days: u16,
}

async fn set_retention(context: &Context, arguments: TenantRetention) -> Result<Exit, Failure> {
    let TenantRetention { slug, days } = arguments;
    let tenancy = context.open_tenancy().await?;
    let result = keep_for(&tenancy, &slug, days).await;
    tenancy.finish(result).await?;
    let retention = Retention { slug: slug.to_string(), activity_retention_days: days };
    context.output.answer(&retention, |Retention { slug, activity_retention_days: days }| {
        let plural = if *days == 1 { "" } else { "s" };
        format!("What happened in {slug} is kept for {days} day{plural}. What is older is removed within the hour.")
    })?;
    Ok(Exit::Ok)
}

async fn keep_for(tenancy: &Tenancy, slug: &Slug, days: u16) -> Result<(), tenants::Error> {
    let tenant = tenancy.resolver().resolve(TenantName::Slug(slug.clone())).await?;
    let tenant = tenant.ok_or_else(|| tenants::Error::NoSuchTenant(slug.to_string()))?;
    Ok(set_activity_retention(&tenancy.database_of(tenant), days).await?)
}

/// What a command made of a tenant.
#[derive(Serialize)]
struct Changed {
    slug: String,
    status: &'static str,
}

async fn restore(context: &Context, slug: Slug) -> Result<Exit, Failure> {
    let tenancy = context.open_tenancy().await?;
    let result = tenancy.restore(&slug).await;
    tenancy.finish(result).await?;
    let changed = Changed { slug: slug.to_string(), status: Status::Active.as_str() };
    context.output.answer(&changed, |Changed { slug, .. }| {
        format!("Restored {slug}: its users can work again, with the sessions they had.")
    })?;
    Ok(Exit::Ok)
}

async fn set_suspended(context: &Context, slug: Slug, suspended: bool) -> Result<Exit, Failure> {
    let tenancy = context.open_tenancy().await?;
    let result = tenancy.set_suspended(&slug, suspended).await;
    tenancy.finish(result).await?;
    let status = if suspended { Status::Suspended } else { Status::Active };
    let changed = Changed { slug: slug.to_string(), status: status.as_str() };
    context.output.answer(&changed, |Changed { slug, .. }| {
        if suspended {
            format!("Suspended {slug}: its users are refused from their next request on.")
        } else {
            format!("Resumed {slug}: its users can work again, with the sessions they had.")
        }
    })?;
    Ok(Exit::Ok)
}

//! `tenantry tenant …`

use std::{fmt, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use tenants::{SlugChoice, Status, TenantFilter};
use uuid::Uuid;

use super::{
    Tenant, TenantCreate, TenantList, TenantStatus, archive,
    arguments::WrongArguments,
    impersonation, limits,
    output::{Exit, Table},
    owner, provision, purge,
    run::{Context, Failure},
    seed, tenant_changes as changes, tenant_users, usage,
};
use crate::{
    admin::{self, Change, NewTenant},
    audit::Actor,
    http::{Name, input::Field as _},
    password::PasswordError,
    sign_up::{ChosenSlug, SignUpError, derive_slug},
    state::App,
    users::{
        self, Account,
        identity::{Email, Username},
    },
};

pub(super) async fn tenant(context: &Context, command: Tenant) -> Result<Exit, Failure> {
    match command {
        Tenant::Create(arguments) => create(context, arguments).await,
        Tenant::Provision(arguments) => provision::provision(context, arguments).await,
        Tenant::List(arguments) => list(context, arguments).await,
        Tenant::Seed(arguments) => seed::seed(context, &arguments).await,
        Tenant::Retention(arguments) => changes::set_retention(context, arguments).await,
        Tenant::Suspend(tenant) => changes::change(context, &tenant.slug, Change::Suspend).await,
        Tenant::Resume(tenant) => changes::change(context, &tenant.slug, Change::Resume).await,
        Tenant::Show(tenant) => changes::show(context, &tenant.slug).await,
        Tenant::Limits(arguments) => limits::of_tenant(context, arguments).await,
        Tenant::Usage(arguments) => usage::of_tenant(context, &arguments).await,
        Tenant::Users(arguments) => tenant_users::users(context, arguments).await,
        Tenant::Rename(arguments) => changes::rename(context, arguments).await,
        Tenant::InviteOwner(arguments) => owner::invite(context, arguments).await,
        Tenant::Delete(arguments) => changes::delete(context, &arguments).await,
        Tenant::Restore(tenant) => changes::change(context, &tenant.slug, Change::Restore).await,
        Tenant::Impersonate(arguments) => impersonation::begin(context, arguments).await,
        Tenant::Impersonations(tenant) => impersonation::list(context, &tenant).await,
        Tenant::EndImpersonation(arguments) => impersonation::end(context, arguments).await,
        Tenant::Export(arguments) => archive::export(context, arguments).await,
        Tenant::Import(arguments) => archive::import(context, arguments).await,
        Tenant::Clone(arguments) => archive::clone(context, arguments).await,
        Tenant::RestoreFrom(arguments) => archive::restore_from(context, arguments).await,
        Tenant::Purge(arguments) => purge::purge(context, arguments).await,
        Tenant::Certificate(arguments) => purge::certificate(context, arguments).await,
    }
}

async fn create(context: &Context, arguments: TenantCreate) -> Result<Exit, Failure> {
    let invited = arguments.invite.then(|| arguments.owner_email.clone());
    let new = read_tenant(arguments)?;
    let app = context.open_app().await?;
    let name = new.name.clone();
    let site = app.site.clone();
    let created = made(&app, new).await.map_err(|error| match error {
        SignUpError::Password(PasswordError::Refused(wrong)) => WrongArguments::refused_password(wrong),
        error => error.into(),
    });
    let (tenant, owner) = app.finish(created).await?;
    let owner = match owner {
        Some(owner) => Owner { pk: Some(owner.pk), username: Some(owner.username), email: owner.email },
        None => Owner { pk: None, username: None, email: invited.unwrap_or_default() },
    };
    let created = Created {
        id: tenant.id,
        url: site.tenant_url(&tenant.slug),
        slug: tenant.slug.to_string(),
        name,
        owner,
    };
    context.output.answer(&created, Created::to_string)?;
    Ok(Exit::Ok)
}

/// Makes it, and its owner unless he is invited.
async fn made(app: &App, new: NewTenant) -> Result<(Arc<tenants::Tenant>, Option<Account>), SignUpError> {
    let owner = match &new.owner {
        admin::Owner::Given { email, .. } => Some(email.clone()),
        admin::Owner::Invited(_) => None,
    };
    let tenant = admin::provision(app, new, &Actor::command_line()).await?;
    let Some(owner) = owner else { return Ok((tenant, None)) };
    let db = app.tenancy.database_of(Arc::clone(&tenant));
    Ok((tenant, users::find_by_email(&db, &owner).await?))
}

/// The same types as those of the sign-up over HTTP, so that nothing can be made here that could not be there.
fn read_tenant(arguments: TenantCreate) -> Result<NewTenant, Failure> {
    let TenantCreate { name, slug, owner_email, owner_username, invite, plan } = arguments;
    let mut wrong = WrongArguments::default();
    let name = wrong.take("--name", Name::<1, 100>::from_value(Value::String(name)));
    let slug = slug.map(|slug| wrong.take("--slug", ChosenSlug::from_value(Value::String(slug))));
    let email = wrong.take("--owner-email", Email::parse(&owner_email));
    let username = owner_username.map(|username| wrong.take("--owner-username", Username::parse(&username)));
    let password = if invite { None } else { Some(wrong.read_password()) };
    let (Some(name), Some(email)) = (name, email) else { return Err(wrong.failure()) };
    let slug = match slug {
        Some(None) => return Err(wrong.failure()),
        Some(Some(ChosenSlug(slug))) => SlugChoice::Exactly(slug),
        None => SlugChoice::Derived(derive_slug(&name)),
    };
    let owner = match (password, username) {
        (Some(None), _) | (_, Some(None)) => return Err(wrong.failure()),
        (None, _) => admin::Owner::Invited(email),
        (Some(Some(password)), username) => {
            let username = username.flatten().unwrap_or_else(|| Username::from_email(&email));
            admin::Owner::Given { email, username, password }
        }
    };
    Ok(NewTenant { name: name.into_string(), slug, plan, owner })
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
    /// None while the owner is only invited.
    pk: Option<Uuid>,
    username: Option<String>,
    email: String,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, slug, name, url, owner: Owner { username, email, .. } } = self;
        writeln!(f, "Created the tenant {slug}.\n")?;
        writeln!(f, "  Name   {}", crate::printable::Printable(name))?;
        writeln!(f, "  URL    {url}")?;
        match username {
            Some(username) => writeln!(f, "  Owner  {username} <{email}>")?,
            None => writeln!(f, "  Owner  {email}, who gets an invitation by mail")?,
        }
        write!(f, "  Id     {id}")
    }
}

async fn list(context: &Context, arguments: TenantList) -> Result<Exit, Failure> {
    let status = arguments.status.map(|status| match status {
        TenantStatus::Active => Status::Active,
        TenantStatus::Suspended => Status::Suspended,
        TenantStatus::Deleting => Status::Deleting,
        TenantStatus::Purging => Status::Purging,
    });
    let tenancy = context.open_tenancy().await?;
    let search = arguments.search.map(|words| words.trim().to_owned());
    let filter = TenantFilter { status, search };
    let tenants = tenancy.list(&filter, true, (0, None)).await;
    let tenants = tenancy.finish(tenants).await?;
    let none = if filter.status.is_some() || filter.search.is_some() {
        "No such tenants."
    } else {
        "No tenants yet."
    };
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

//! The rules of what operators do with tenants.

use serde_json::{Map, Value, json};
use tenants::{PlanName, Reached, Slug, SlugChoice, Status, Tenant, TenantAction, Which};

use super::AdminError;
use crate::{
    audit::{self, Action, Actor},
    error::ServiceError,
    http::{Page, PageQuery, Problem},
    sign_up::{self, InvitedOrganization, NewOrganization, SignUpError},
    state::App,
    tenant,
    users::{
        self, UserOut, Users,
        identity::{Email, Password, Username},
    },
};

/// A tenant to be made.
#[derive(Debug)]
pub struct NewTenant {
    /// The organization's name.
    pub name: String,
    /// Its slug.
    pub slug: SlugChoice,
    /// Its plan, if it has one from the beginning.
    pub plan: Option<PlanName>,
    /// Who owns it.
    pub owner: Owner,
}

/// The owner of a tenant that an operator makes.
#[derive(Debug)]
pub enum Owner {
    /// Somebody whose account is made now.
    Given {
        /// The address.
        email: Email,
        /// The username.
        username: Username,
        /// The password.
        password: Password,
    },
    /// Somebody who gets a link by mail, and chooses name and password by it.
    Invited(Email),
}

/// Makes a tenant.
///
/// # Errors
/// See [`SignUpError`].
pub async fn provision(app: &App, new: NewTenant, by: &Actor) -> Result<std::sync::Arc<Tenant>, SignUpError> {
    let NewTenant { name, slug, plan, owner } = new;
    if let SlugChoice::Exactly(slug) = &slug {
        // Told before the password is hashed; whoever is faster meanwhile is seen when the row is written.
        if app.tenancy.is_slug_taken(slug, app.clock.now()).await.map_err(ServiceError::from)? {
            return Err(SignUpError::SlugTaken(slug.clone()));
        }
    }
    match owner {
        Owner::Invited(owner) => {
            sign_up::create_invited(app, InvitedOrganization { name, slug, plan, owner }, by).await
        }
        Owner::Given { email, username, password } => {
            let (first_name, last_name) = (String::new(), String::new());
            let new = NewOrganization { name, slug, plan, username, email, password, first_name, last_name };
            Ok(sign_up::create_organization(app, new, by).await?.tenant)
        }
    }
}

/// Reaches a tenant, to look at it.
///
/// # Errors
/// [`AdminError::NotFound`], or those of the database.
pub async fn reach(app: &App, which: Which<'_>) -> Result<Reached, AdminError> {
    app.tenancy.reach(which).await?.ok_or(AdminError::NotFound)
}

/// Reaches a tenant, to change it as a whole. If its name is to change, its settings are taken first, as its own people do.
///
/// # Errors
/// [`AdminError::NotFound`], or those of the database.
pub async fn act_on(app: &App, which: Which<'_>, on_its_name: bool) -> Result<TenantAction, AdminError> {
    let reached = reach(app, which).await?;
    if on_its_name {
        tenant::hold_settings(&reached).await?;
    }
    reached.lock().await?.ok_or(AdminError::NotFound)
}

/// What becomes of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nobody gets in for now.
    Suspend,
    /// Its people get in again.
    Resume,
    /// It is gone for the outside, and to be purged when its grace period ends.
    Delete,
    /// It is what it was before it was deleted.
    Restore,
}

impl Change {
    fn action(self) -> Action {
        match self {
            Self::Suspend => Action::TenantSuspended,
            Self::Resume => Action::TenantResumed,
            Self::Delete => Action::TenantDeleted,
            Self::Restore => Action::TenantRestored,
        }
    }
}

/// Changes the status of a tenant, up to the commit. What it is already, it stays, and nothing is recorded of that.
///
/// # Errors
/// [`AdminError::Deleting`], [`AdminError::BeingPurged`], or those of the database.
pub async fn set_status(
    app: &App,
    action: &mut TenantAction,
    change: Change,
    by: &Actor,
) -> Result<(), AdminError> {
    let (before, now) = (action.status()?, app.clock.now());
    if before == Status::Purging {
        return Err(AdminError::BeingPurged);
    }
    let changed = match change {
        Change::Suspend | Change::Resume if before == Status::Deleting => return Err(AdminError::Deleting),
        Change::Suspend => action.set_status(Status::Suspended, now).await?,
        Change::Resume => action.set_status(Status::Active, now).await?,
        Change::Delete => action.set_status(Status::Deleting, now).await?,
        Change::Restore => action.restore(now).await?,
    };
    let released = change == Change::Resume && action.release_mails().await?;
    if changed || released {
        let after = action.status()?;
        let mut detail = json!({"before": {"status": before.as_str()}, "after": {"status": after.as_str()}});
        if released {
            detail["before"]["mails_held"] = true.into();
            detail["after"]["mails_held"] = false.into();
        }
        let slug = action.tenant().slug.clone();
        record(app, action, &slug, by, change.action(), detail).await?;
    }
    Ok(())
}

/// Gives a tenant another slug or name, or both, up to the commit.
///
/// # Errors
/// [`AdminError::SlugTaken`], [`AdminError::Deleting`], or those of the database.
pub async fn rename(
    app: &App,
    action: &mut TenantAction,
    slug: Option<&Slug>,
    name: Option<&str>,
    by: &Actor,
) -> Result<(), AdminError> {
    match action.status()? {
        Status::Deleting => return Err(AdminError::Deleting),
        Status::Purging => return Err(AdminError::BeingPurged),
        Status::Active | Status::Suspended => {}
    }
    let was = action.tenant().clone();
    let [mut before, mut after] = [Map::new(), Map::new()];
    let mut note = |member: &str, old: &str, new: &str| {
        before.insert(member.to_owned(), old.into());
        after.insert(member.to_owned(), new.into());
    };
    if let Some(slug) = slug {
        let changed = action.set_slug(slug, app.clock.now()).await.map_err(|error| match error {
            tenants::Error::SlugTaken => AdminError::SlugTaken(slug.clone()),
            error => error.into(),
        })?;
        if changed {
            note("slug", &was.slug, slug.as_str());
        }
    }
    if let Some(name) = name
        && action.set_name(name).await?
    {
        tenant::set_name(action.reached(), name).await?;
        note("name", &was.name, name);
    }
    if !after.is_empty() {
        let detail = json!({"before": before, "after": after});
        record(app, action, &was.slug, by, Action::TenantRenamed, detail).await?;
    }
    Ok(())
}

/// Decides for how many days a tenant keeps what happened in it, up to the commit. Its settings are to be taken first.
///
/// # Errors
/// [`AdminError::NotServed`], or those of the database.
pub async fn set_retention(
    app: &App,
    action: &TenantAction,
    days: u16,
    by: &Actor,
) -> Result<(), AdminError> {
    let tenant = action.tenant();
    if !tenants::served_versions().contains(&tenant.schema_version) {
        return Err(AdminError::NotServed(tenant.schema_version));
    }
    let before = tenant::activity_retention(action.reached()).await?;
    if before != Some(days.into()) {
        tenant::set_activity_retention(action.reached(), days).await?;
        let detail = json!({"before": {"days": before}, "after": {"days": days}});
        record(app, action, &tenant.slug, by, Action::RetentionChanged, detail).await?;
    }
    Ok(())
}

async fn record(
    app: &App,
    action: &TenantAction,
    slug: &str,
    by: &Actor,
    what: Action,
    detail: Value,
) -> Result<(), AdminError> {
    let tenant = action.tenant();
    let tenant = (tenant.id, slug, action.reached().log_version());
    Ok(audit::record_of_tenant(app, action.reached(), tenant, by, what, detail).await?)
}

/// A page of a tenant's users. That somebody looked is recorded, here and there.
///
/// # Errors
/// There is no such tenant or page, or those of the database.
pub async fn users(
    app: &App,
    which: Which<'_>,
    query: &PageQuery<Users>,
    by: &Actor,
) -> Result<Page<UserOut>, Problem> {
    let reached = reach(app, which).await?;
    let tenant = reached.tenant().clone();
    if !tenants::served_versions().contains(&tenant.schema_version) {
        return Err(AdminError::NotServed(tenant.schema_version).into());
    }
    let page = users::page(&reached, query, None, None).await?;
    let named = (tenant.id, tenant.slug.as_str(), tenant.schema_version);
    let detail = json!({"search": query.words().join(" ")});
    audit::record_of_tenant(app, &reached, named, by, Action::TenantUsersViewed, detail)
        .await
        .map_err(ServiceError::from)?;
    reached.commit().await.map_err(ServiceError::from)?;
    Ok(page)
}

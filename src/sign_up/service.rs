//! The rules of signing an organization up.

use std::sync::Arc;

use serde_json::{Value, json};
use tenants::{DataKey, NewTenant, PlanName, Provisioning, SlugChoice, Tenant};
use uuid::Uuid;

use super::error::SignUpError;
use crate::{
    activity::{self, Entry, Verb},
    audit::{self, Action, Actor},
    auth::{Device, TokensOut, sign_in},
    entity::users::Role,
    error::ServiceError,
    invitations, password,
    references::Reference,
    registration::mail_link,
    state::App,
    tenant::create_settings,
    throttle::{self, TENANT_SIGN_UPS},
    users::{
        self, Account, NewUser,
        identity::{Email, Password, Username},
    },
};

/// An organization to be made, and its owner.
#[derive(Debug)]
pub struct NewOrganization {
    /// Its name.
    pub name: String,
    /// Its slug.
    pub slug: SlugChoice,
    /// Its plan, if it has one from the beginning.
    pub plan: Option<PlanName>,
    /// The owner's username.
    pub username: Username,
    /// The owner's e-mail address.
    pub email: Email,
    /// The owner's password.
    pub password: Password,
    /// May be empty.
    pub first_name: String,
    /// May be empty.
    pub last_name: String,
}

/// What became of it.
#[derive(Debug)]
pub struct Organization {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// Its owner.
    pub owner: Account,
}

/// Makes an organization in one transaction: catalog row, schema, role, settings and owner. Either all of it is there
/// afterwards or nothing.
///
/// # Errors
/// See [`SignUpError`].
pub async fn create_organization(
    app: &App,
    new: NewOrganization,
    by: &Actor,
) -> Result<Organization, SignUpError> {
    let name = new.name.clone();
    let prepared = prepare(app, new).await?;
    let owner = json!({"email": prepared.owner.email, "username": prepared.owner.username});
    record(app, &prepared.provisioning, &name, owner, by).await?;
    prepared.commit().await
}

/// An organization whose owner is yet to come.
#[derive(Debug)]
pub struct InvitedOrganization {
    /// Its name.
    pub name: String,
    /// Its slug.
    pub slug: SlugChoice,
    /// Its plan, if it has one from the beginning.
    pub plan: Option<PlanName>,
    /// Who is to own it.
    pub owner: Email,
}

/// As [`create_organization`], without anybody in it: a link goes out by mail, and whoever follows it is its owner.
///
/// # Errors
/// See [`SignUpError`].
pub async fn create_invited(
    app: &App,
    new: InvitedOrganization,
    by: &Actor,
) -> Result<Arc<Tenant>, SignUpError> {
    let InvitedOrganization { name, slug, plan, owner } = new;
    let provisioning = provision(app, slug, &name, plan.as_ref()).await?;
    invitations::invite_owner(app, &provisioning, (provisioning.slug(), &name), &owner).await?;
    record(app, &provisioning, &name, json!({"email": owner.as_str(), "invited": true}), by).await?;
    let tenant = provisioning.commit().await.map_err(ServiceError::from)?;
    tracing::info!(tenant = %tenant.id, "an organization was made");
    Ok(tenant)
}

async fn record(
    app: &App,
    provisioning: &Provisioning,
    name: &str,
    owner: Value,
    by: &Actor,
) -> Result<(), SignUpError> {
    let (id, slug) = (provisioning.id(), provisioning.slug().as_str());
    let detail = json!({"after": {"slug": slug, "name": name, "owner": owner}});
    let version = *tenants::served_versions().end();
    let action = Action::TenantProvisioned;
    Ok(audit::record_of_tenant(app, provisioning, (id, slug, version), by, action, detail).await?)
}

/// The organization itself, with nobody in it.
async fn provision(
    app: &App,
    slug: SlugChoice,
    name: &str,
    plan: Option<&PlanName>,
) -> Result<Provisioning, SignUpError> {
    let now = app.clock.now();
    let chosen = slug.slug().clone();
    let tenant = NewTenant { id: app.clock.uuid_v7(), slug, name: name.to_owned(), now };
    let provisioning = app.tenancy.provision(tenant).await.map_err(|error| match error {
        tenants::Error::SlugTaken => SignUpError::SlugTaken(chosen),
        error => ServiceError::from(error).into(),
    })?;
    if plan.is_some() {
        provisioning.set_plan(plan).await.map_err(|error| match error {
            tenants::Error::NoSuchPlan(plan) => SignUpError::NoSuchPlan(plan),
            error => ServiceError::from(error).into(),
        })?;
    }
    create_settings(&provisioning, name.to_owned(), now).await?;
    Ok(provisioning)
}

/// As [`create_organization`], with the owner's first session in the same transaction.
///
/// # Errors
/// See [`SignUpError`].
pub(super) async fn sign_up(
    app: &App,
    new: NewOrganization,
    device: &Device,
) -> Result<(Organization, TokensOut), SignUpError> {
    let catalog = app.tenancy.catalog();
    let attempt = throttle::admit(app, catalog, &[(TENANT_SIGN_UPS, device.network())]).await?;
    let signed_up = sign_up_admitted(app, new, device).await;
    if signed_up.is_err() {
        attempt.withdraw(catalog).await?;
    }
    signed_up
}

async fn sign_up_admitted(
    app: &App,
    new: NewOrganization,
    device: &Device,
) -> Result<(Organization, TokensOut), SignUpError> {
    let prepared = prepare(app, new).await?;
    let session = sign_in(app, &prepared.provisioning, prepared.id, &prepared.owner, device).await?;
    Ok((prepared.commit().await?, session))
}

/// An organization before its commit.
struct Prepared {
    provisioning: Provisioning,
    id: Uuid,
    owner: Account,
}

async fn prepare(app: &App, new: NewOrganization) -> Result<Prepared, SignUpError> {
    // Before the transaction: nothing is locked while hashing.
    let own_words = [
        new.username.as_str(),
        new.email.as_str(),
        &new.first_name,
        &new.last_name,
        &new.name,
        new.slug.slug().as_str(),
    ];
    let password_hash = password::hash(app, &new.password, &own_words).await?;
    let provisioning = provision(app, new.slug, &new.name, new.plan.as_ref()).await?;
    let id = provisioning.id();
    let blind = app.tenancy.key(DataKey::BlindIndex).mac(new.email.key().as_bytes());
    let owner = NewUser {
        pk: app.clock.uuid_v7(),
        username: new.username,
        email: new.email,
        password_hash,
        first_name: new.first_name,
        last_name: new.last_name,
        role: Role::Owner,
        email_verified_at: None,
        date_joined: app.clock.now(),
    };
    let owner = users::insert(&provisioning, owner).await?;
    provisioning.index_email(&blind).await?;
    mail_link(app, &provisioning, provisioning.slug(), &new.name, &owner).await?;
    let signed_up = Entry::new(app.clock.uuid_v7(), owner.pk, Verb::SignedUp, Reference::organization(id));
    activity::record(&provisioning, &[signed_up], app.clock.now()).await?;
    Ok(Prepared { provisioning, id, owner })
}

impl Prepared {
    async fn commit(self) -> Result<Organization, SignUpError> {
        let tenant = self.provisioning.commit().await.map_err(ServiceError::from)?;
        tracing::info!(tenant = %tenant.id, "an organization was made");
        Ok(Organization { tenant, owner: self.owner })
    }
}

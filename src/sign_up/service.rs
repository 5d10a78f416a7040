//! The rules of signing an organization up.

use std::sync::Arc;

use tenants::{DataKey, NewTenant, Provisioning, SlugChoice, Tenant};
use uuid::Uuid;

use super::error::SignUpError;
use crate::{
    activity::{self, Entry, Verb},
    auth::{Device, TokensOut, sign_in},
    entity::users::Role,
    error::ServiceError,
    password,
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
pub async fn create_organization(app: &App, new: NewOrganization) -> Result<Organization, SignUpError> {
    prepare(app, new).await?.commit().await
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
    let now = app.clock.now();
    let tenant = NewTenant { id: app.clock.uuid_v7(), slug: new.slug, name: new.name.clone(), now };
    let (id, slug) = (tenant.id, tenant.slug.slug().clone());
    let provisioning = app.tenancy.provision(tenant).await.map_err(|error| match error {
        tenants::Error::SlugTaken => SignUpError::SlugTaken(slug),
        error => ServiceError::from(error).into(),
    })?;
    create_settings(&provisioning, new.name.clone(), now).await?;
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
        date_joined: now,
    };
    let owner = users::insert(&provisioning, owner).await?;
    provisioning.index_email(&blind).await?;
    mail_link(app, &provisioning, provisioning.slug(), &new.name, &owner).await?;
    let signed_up = Entry::new(app.clock.uuid_v7(), owner.pk, Verb::SignedUp, Reference::organization(id));
    activity::record(&provisioning, &[signed_up], now).await?;
    Ok(Prepared { provisioning, id, owner })
}

impl Prepared {
    async fn commit(self) -> Result<Organization, SignUpError> {
        let tenant = self.provisioning.commit().await.map_err(ServiceError::from)?;
        tracing::info!(tenant = %tenant.id, "an organization was made");
        Ok(Organization { tenant, owner: self.owner })
    }
}

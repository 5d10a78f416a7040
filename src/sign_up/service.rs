//! The rules of signing an organization up.

use std::sync::Arc;

use secrecy::SecretString;
use tenants::{DataKey, NewTenant, Slug, SlugChoice, Tenant};

use crate::{
    auth::{Device, SignedIn, sign_in},
    entity::users::Role,
    error::ServiceError,
    http::Problem,
    state::App,
    tenant::create_settings,
    users::{
        self, Account, NewUser,
        identity::{Email, Username},
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
    pub password: SecretString,
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
    /// The owner's first session.
    pub session: SignedIn,
}

/// Makes an organization in one transaction: catalog row, schema, role, settings, owner and the owner's first
/// session. Either all of it is there afterwards or nothing.
///
/// # Errors
/// 409 `slug_taken`, or what keeps the service from it.
pub async fn create_organization(
    app: &App,
    new: NewOrganization,
    device: &Device,
) -> Result<Organization, Problem> {
    // Before the transaction: nothing is locked while hashing.
    let password_hash = app.hasher.hash(new.password).await.map_err(ServiceError::from)?;
    let now = app.clock.now();
    let tenant = NewTenant { id: app.clock.uuid_v7(), slug: new.slug, name: new.name.clone(), now };
    let (id, slug) = (tenant.id, tenant.slug.slug().clone());
    let refused = |error| match error {
        tenants::Error::SlugTaken => slug_taken(&slug),
        error => ServiceError::from(error).into(),
    };
    let provisioning = app.tenancy.provision(tenant).await.map_err(refused)?;
    create_settings(&provisioning, new.name, now).await.map_err(ServiceError::from)?;
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
    provisioning.index_email(&blind).await.map_err(ServiceError::from)?;
    let session = sign_in(app, &provisioning, id, &owner, device).await?;
    let tenant = provisioning.commit().await.map_err(refused)?;
    tracing::info!(tenant = %tenant.id, "an organization was made");
    Ok(Organization { tenant, owner, session })
}

pub(super) fn slug_taken(slug: &Slug) -> Problem {
    Problem::conflict("slug_taken", format!("The slug {slug} is taken."))
}

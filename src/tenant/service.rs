//! The rules of a tenant's settings.

use sea_orm::ConnectionTrait;
use tenants::TenantTx;

use super::store::{self, Changes};
use crate::{entity::settings::Model, error::ServiceError};

/// The organization's name, as its people see it.
///
/// # Errors
/// Those of the database; or there is none.
pub async fn organization(db: &impl ConnectionTrait) -> Result<String, ServiceError> {
    let settings = store::settings(db).await?;
    let missing = || tenants::Error::Damaged("a tenant without its row of settings".into());
    Ok(settings.ok_or_else(missing)?.name)
}

/// Changes the settings, whose row is locked. The name is written where the tenant's people see it and where operators
/// do: of two renames at once, the later one is the later one in both places.
///
/// # Errors
/// Those of the database.
pub(super) async fn update(tx: &TenantTx, changes: Changes) -> Result<Option<Model>, ServiceError> {
    let name = changes.name.clone();
    let settings = store::update(tx, changes).await?;
    if let Some(name) = name {
        tx.rename_tenant(&name).await?;
    }
    Ok(settings)
}

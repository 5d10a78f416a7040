//! The rules of a tenant's settings.

use tenants::TenantTx;

use super::store::{self, Changes};
use crate::{entity::settings::Model, error::ServiceError};

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

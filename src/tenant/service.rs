//! The rules of a tenant's settings.

use tenants::TenantDb;

use super::store::{self, Changes};
use crate::{entity::settings::Model, error::ServiceError};

/// Changes the settings. The name is written where the tenant's people see it and where operators do, or nowhere.
///
/// # Errors
/// Those of the database.
pub(super) async fn update(db: &TenantDb, changes: Changes) -> Result<Option<Model>, ServiceError> {
    let name = changes.name.clone();
    let tx = db.begin().await?;
    // Locks the row: of two renames at once, the later one is the later one in the catalog too.
    let settings = store::update(&tx, changes).await?;
    if let Some(name) = name {
        tx.rename_tenant(&name).await?;
    }
    tx.commit().await?;
    Ok(settings)
}

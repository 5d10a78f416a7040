//! Whether a tenant may have more.

use tenants::{Tenant, TenantTx};

use super::LimitReached;
use crate::{error::ServiceError, users};

/// Whose name the lock has under which users are counted. The counts themselves are kept by role, and some are not there
/// yet: no lock on them would keep out who comes with another role.
const USERS: &str = "users";

/// Goes on if the tenant may have more rows: asked by whoever adds some because a person wants to. What is small, or keeps
/// the service going, is not refused, nor is what makes room.
///
/// # Errors
/// [`LimitReached`].
pub fn room_for_rows(tenant: &Tenant) -> Result<(), LimitReached> {
    match tenant.limits.storage_bytes {
        Some(most) if !tenant.has_room() => Err(LimitReached::Storage(most)),
        _ => Ok(()),
    }
}

/// Goes on if the tenant may have so many users more, and lets nobody else join before the end of this transaction. Taken after
/// the rows by which somebody joins, so that nobody waits for a row and holds this.
///
/// # Errors
/// [`LimitReached`], or those of the database.
pub async fn room_for_users(tx: &TenantTx, more: u64) -> Result<(), ServiceError> {
    room_for_rows(tx.tenant())?;
    let Some(most) = tx.tenant().limits.users else { return Ok(()) };
    tx.wait_for_lock(USERS).await?;
    if users::count_all(tx).await?.saturating_add(more) > most {
        return Err(LimitReached::Users(most).into());
    }
    Ok(())
}

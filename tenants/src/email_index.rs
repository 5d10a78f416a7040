//! Where the catalog looks for a person: by a keyed hash of the address, never by the address.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use uuid::Uuid;

use crate::{Error, Tenancy};

impl Tenancy {
    /// The active tenants that have a user with the address of this hash, the oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tenants_with_email(&self, hash: &[u8; 32]) -> Result<Vec<Uuid>, Error> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT t.id FROM email_index e JOIN tenants t ON t.id = e.tenant_id \
             WHERE e.email_hash = $1 AND t.status = 'active' ORDER BY t.created_at, t.id",
            [hash.to_vec().into()],
        );
        let rows = self.catalog().query_all_raw(statement).await?;
        Ok(rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?)
    }
}

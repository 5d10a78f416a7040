//! What the catalog forgets, and whose turn it is in the tenants.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use uuid::Uuid;

use crate::{Error, JobStatus, Tenancy, Tenant, TenantName, served_versions};

impl Tenancy {
    /// Takes up to `limit` tenants that were not cleaned since `before`, and notes that they are cleaned now: whoever asks
    /// next, here or in another process, gets others. Only those in use that this program can serve; the others are not
    /// touched.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_tenants_to_clean(
        &self,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Arc<Tenant>>, Error> {
        let (oldest, newest) = served_versions().into_inner();
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE tenants SET cleaned_at = $2 WHERE id IN (\
                 SELECT id FROM tenants WHERE status = 'active' AND schema_version BETWEEN $3 AND $4 \
                 AND (cleaned_at IS NULL OR cleaned_at < $1) LIMIT $5 FOR UPDATE SKIP LOCKED) \
             RETURNING id",
            [before.into(), now.into(), oldest.into(), newest.into(), i64::from(limit).into()],
        );
        let rows = self.catalog().query_all_raw(statement).await?;
        let ids = rows.iter().map(|row| row.try_get("", "id")).collect::<Result<Vec<Uuid>, DbErr>>()?;
        let mut tenants = Vec::with_capacity(ids.len());
        for id in ids {
            tenants.extend(self.resolver().resolve(TenantName::Id(id)).await?);
        }
        Ok(tenants)
    }

    /// Deletes up to `limit` jobs that were done, or parked, before this time, and says how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_jobs(
        &self,
        status: JobStatus,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs \
                 WHERE status = $3 AND finished_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            [before.into(), i64::from(limit).into(), status.as_str().into()],
        );
        Ok(self.catalog().execute_raw(statement).await?.rows_affected())
    }
}

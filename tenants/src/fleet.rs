//! What is done to tenants as a whole: listing them, suspending and resuming, bringing their schemas up to date.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value};
use uuid::Uuid;

use crate::{
    Error, SchemaName, Slug, Tenancy, db::CatalogTx, listener::Change, render::current_version,
    resolution::Status,
};

/// A tenant as operators see it in a list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, FromQueryResult)]
pub struct TenantSummary {
    /// Its id.
    pub id: Uuid,
    /// Its slug.
    pub slug: String,
    /// The organization's name.
    pub name: String,
    /// `active`, `suspended` or `deleting`.
    pub status: String,
    /// How many tenant migrations its schema has had.
    pub schema_version: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Tenancy {
    /// Tenants, newest first: all, or those of one status, or those with every word of `search` in slug or name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        status: Option<Status>,
        search: Option<&str>,
    ) -> Result<Vec<TenantSummary>, Error> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT id, slug, name, status, schema_version, created_at FROM tenants \
             WHERE ($1::text IS NULL OR status = $1) \
             AND NOT EXISTS (SELECT FROM regexp_split_to_table(lower($2), '\\s+') AS word \
                 WHERE position(word IN lower(slug || ' ' || name)) = 0) \
             ORDER BY created_at DESC, id DESC",
            [status.map(Status::as_str).into(), search.into()],
        );
        Ok(TenantSummary::find_by_statement(statement).all(self.catalog()).await?)
    }

    /// Closes a tenant for now, or opens it again.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], also for one that is being deleted; or those of the database.
    pub async fn set_suspended(&self, slug: &Slug, suspended: bool) -> Result<(), Error> {
        let (from, to) =
            if suspended { (Status::Active, Status::Suspended) } else { (Status::Suspended, Status::Active) };
        self.change_status(("slug", slug.as_str().into()), from, to, None)
            .await?
            .ok_or_else(|| Error::NoSuchTenant(slug.to_string()))
    }

    /// Closes a tenant for good: from now on nobody finds it, and when its grace period has passed it is purged. Until then
    /// it can be [restored](Self::restore), and its slug stays taken.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], also for one that is suspended; or those of the database.
    pub async fn close_tenant(&self, id: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
        self.change_status(("id", id.into()), Status::Active, Status::Deleting, Some(now))
            .await?
            .ok_or_else(|| Error::NoSuchTenant(id.to_string()))
    }

    /// Opens a tenant again that was closed for good and is not purged yet.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], also for one that is suspended; or those of the database.
    pub async fn restore(&self, slug: &Slug) -> Result<(), Error> {
        self.change_status(("slug", slug.as_str().into()), Status::Deleting, Status::Active, None)
            .await?
            .ok_or_else(|| Error::NoSuchTenant(slug.to_string()))
    }

    /// Gives the tenant with this value in this column another status; a second time changes nothing. `None` if there is
    /// none that is in the one or the other. Unless it is active, its role has no right on its schema: lost in the same
    /// transaction, so that the next statement of every bound connection fails, on every process, whatever is cached there.
    async fn change_status(
        &self,
        (column, value): (&str, Value),
        from: Status,
        to: Status,
        closed_at: Option<DateTime<Utc>>,
    ) -> Result<Option<()>, Error> {
        let transaction = self.owner().begin().await?;
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            format!(
                "UPDATE tenants SET status = $3, closed_at = CASE WHEN status = $3 THEN closed_at ELSE $4 END \
                 WHERE {column} = $1 AND status IN ($2, $3) RETURNING schema_name"
            ),
            [value, from.as_str().into(), to.as_str().into(), closed_at.into()],
        );
        let Some(row) = transaction.query_one_raw(statement).await? else {
            return Ok(None);
        };
        let schema: SchemaName = row
            .try_get::<String>("", "schema_name")?
            .parse()
            .map_err(|_| Error::Damaged("a tenant's schema name".into()))?;
        let id = schema.tenant().ok_or_else(|| Error::Damaged("a tenant's schema name".into()))?;
        let right = if to == Status::Active {
            format!(r#"GRANT USAGE ON SCHEMA "{schema}" TO "{schema}""#)
        } else {
            format!(r#"REVOKE USAGE ON SCHEMA "{schema}" FROM "{schema}""#)
        };
        transaction.batch(&format!("{right}; {}", Change::Tenant(id).announcement())).await?;
        transaction.commit().await?;
        // The announcement comes here too, but a moment later.
        self.resolver().changed(id);
        Ok(Some(()))
    }

    /// How many tenants are behind the current schema version: one query, however many tenants there are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn behind(&self) -> Result<u64, Error> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT count(*) AS behind FROM tenants WHERE schema_version < $1",
            [current_version().into()],
        );
        let behind: i64 = match self.catalog().query_one_raw(statement).await? {
            Some(row) => row.try_get("", "behind")?,
            None => 0,
        };
        Ok(u64::try_from(behind).unwrap_or(0))
    }

    /// Brings every tenant that is behind to the current schema version, one transaction each. Killed half-way, the
    /// next run goes on where this one stopped.
    ///
    /// # Errors
    /// Those of the database; the tenants before the one that failed stay migrated.
    pub async fn migrate_tenants(&self) -> Result<u64, Error> {
        let mut migrated = 0;
        while self.migrate_next().await? {
            migrated += 1;
        }
        Ok(migrated)
    }

    async fn migrate_next(&self) -> Result<bool, Error> {
        let transaction = self.owner().begin().await?;
        let Some((id, schema, version)) = next_behind(&transaction).await? else { return Ok(false) };
        let batch = self.migrations().batch(&schema, version);
        let announcement = Change::Tenant(id).announcement();
        transaction
            .batch(&format!(r#"SET LOCAL search_path TO "{schema}", pg_temp; {batch}; {announcement}"#))
            .await?;
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE tenantry.tenants SET schema_version = $2 WHERE id = $1",
            [id.into(), current_version().into()],
        );
        transaction.execute_raw(statement).await?;
        transaction.commit().await?;
        self.resolver().changed(id);
        Ok(true)
    }
}

/// The next tenant that is behind and that no other process is migrating, locked.
async fn next_behind(transaction: &CatalogTx) -> Result<Option<(Uuid, SchemaName, i32)>, DbErr> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT id, schema_name, schema_version FROM tenants WHERE schema_version < $1 \
         ORDER BY schema_version, id LIMIT 1 FOR UPDATE SKIP LOCKED",
        [current_version().into()],
    );
    let Some(row) = transaction.query_one_raw(statement).await? else { return Ok(None) };
    let schema: String = row.try_get("", "schema_name")?;
    let schema =
        schema.parse().map_err(|error: crate::names::SchemaNameError| DbErr::Type(error.to_string()))?;
    Ok(Some((row.try_get("", "id")?, schema, row.try_get("", "schema_version")?)))
}

//! What is done to tenants as a whole: listing them, suspending and resuming, bringing their schemas up to date.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value};
use uuid::Uuid;

use crate::{
    Error, SchemaName, Slug, Tenancy, Which, db::CatalogTx, listener::Change, render::current_version,
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
    /// `active`, `suspended`, `deleting` or `purging`.
    pub status: String,
    /// How many tenant migrations its schema has had.
    pub schema_version: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Which tenants a list shows.
#[derive(Clone, Debug, Default)]
pub struct TenantFilter {
    /// Only those of this status.
    pub status: Option<Status>,
    /// Only those with every word of this in slug or name.
    pub search: Option<String>,
}

/// Whether a tenant is one of those, by `$1` and `$2`.
const MATCHES: &str = "($1::text IS NULL OR status = $1) \
     AND NOT EXISTS (SELECT FROM regexp_split_to_table(lower($2), '\\s+') AS word \
         WHERE position(word IN lower(slug || ' ' || name)) = 0)";

impl TenantFilter {
    fn values(&self) -> [Value; 2] {
        [self.status.map(Status::as_str).into(), self.search.clone().into()]
    }
}

impl Tenancy {
    /// How many tenants there are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count(&self, filter: &TenantFilter) -> Result<u64, Error> {
        let sql = format!("SELECT count(*) AS tenants FROM tenants WHERE {MATCHES}");
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, filter.values());
        let tenants: i64 = match self.catalog().query_one_raw(statement).await? {
            Some(row) => row.try_get("", "tenants")?,
            None => 0,
        };
        Ok(u64::try_from(tenants).unwrap_or(0))
    }

    /// Some of the tenants, by the time of their making: `limit` of them after the first `offset`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        filter: &TenantFilter,
        newest_first: bool,
        (offset, limit): (u64, Option<u64>),
    ) -> Result<Vec<TenantSummary>, Error> {
        let direction = if newest_first { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT id, slug, name, status, schema_version, created_at FROM tenants WHERE {MATCHES} \
             ORDER BY created_at {direction}, id {direction} OFFSET $3 LIMIT $4"
        );
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let [status, search] = filter.values();
        let values = [status, search, number(offset).into(), limit.map(number).into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        Ok(TenantSummary::find_by_statement(statement).all(self.catalog()).await?)
    }

    /// Closes a tenant for now, or opens it again; a second time changes nothing.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], also for one that is being deleted; or those of the database.
    pub async fn set_suspended(&self, slug: &Slug, suspended: bool) -> Result<(), Error> {
        let to = if suspended { Status::Suspended } else { Status::Active };
        self.change_status(Which::Slug(slug), to, &[Status::Active, Status::Suspended]).await
    }

    /// Closes a tenant for good: from now on nobody finds it, and when its grace period has passed it is purged. Until then
    /// it can be [restored](Self::restore), and its slug stays taken.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], also for one that is suspended; or those of the database.
    pub async fn close_tenant(&self, id: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
        let action = self.act_on(Which::Id(id)).await?;
        let mut action = action.ok_or_else(|| Error::NoSuchTenant(id.to_string()))?;
        if action.status()? == Status::Suspended {
            return Err(Error::NoSuchTenant(id.to_string()));
        }
        action.set_status(Status::Deleting, now).await?;
        action.commit().await.map(|_| ())
    }

    /// Opens a tenant again that was closed for good and is not purged yet.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], also for one that is suspended; or those of the database.
    pub async fn restore(&self, slug: &Slug) -> Result<(), Error> {
        self.change_status(Which::Slug(slug), Status::Active, &[Status::Active, Status::Deleting]).await
    }

    /// Gives a tenant that is at one of these another status.
    async fn change_status(&self, which: Which<'_>, to: Status, from: &[Status]) -> Result<(), Error> {
        let nobody = || match which {
            Which::Id(id) => Error::NoSuchTenant(id.to_string()),
            Which::Slug(slug) => Error::NoSuchTenant(slug.to_string()),
        };
        let mut action = self.act_on(which).await?.ok_or_else(nobody)?;
        if !from.contains(&action.status()?) {
            return Err(nobody());
        }
        // None of these closes it, which is what the time would be of.
        action.set_status(to, DateTime::UNIX_EPOCH).await?;
        action.commit().await.map(|_| ())
    }

    /// How many tenants are behind the current schema version: one query, however many tenants there are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn behind(&self) -> Result<u64, Error> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT count(*) AS behind FROM tenants WHERE schema_version < $1 AND status <> 'purging'",
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
        "SELECT id, schema_name, schema_version FROM tenants WHERE schema_version < $1 AND status <> 'purging' \
         ORDER BY schema_version, id LIMIT 1 FOR UPDATE SKIP LOCKED",
        [current_version().into()],
    );
    let Some(row) = transaction.query_one_raw(statement).await? else { return Ok(None) };
    let schema: String = row.try_get("", "schema_name")?;
    let schema =
        schema.parse().map_err(|error: crate::names::SchemaNameError| DbErr::Type(error.to_string()))?;
    Ok(Some((row.try_get("", "id")?, schema, row.try_get("", "schema_version")?)))
}

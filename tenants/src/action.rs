//! What is done to one tenant from outside it: by an operator, or by its owner's last word. One transaction of the login
//! that owns both the catalog and the tenant's schema, so that what is done and what the audit logs say of it are there
//! together or not at all.
//!
//! A tenant's own transactions lock rows of its schema first and its row of the catalog afterwards; so does this: whoever
//! wants both reaches the tenant, locks there, and takes the tenant's row last.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, FromQueryResult, QueryResult, Statement, Value,
};
use uuid::Uuid;

use crate::{
    Error, Fault, SchemaName, Slug, Tenancy, TenantSummary, db::CatalogTx, fault, listener::Change,
    resolution::Status,
};

/// How long a slug that was given up stays taken. The contract's.
const KEPT: TimeDelta = TimeDelta::days(90);

/// By what an operator names a tenant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// Its id.
    Id(Uuid),
    /// Its slug.
    Slug(&'a Slug),
}

impl Which<'_> {
    fn condition(self) -> (&'static str, Value) {
        match self {
            Self::Id(id) => ("id = $1", id.into()),
            Self::Slug(slug) => ("slug = $1", slug.as_str().into()),
        }
    }
}

/// How much a tenant has, as PostgreSQL's statistics and sizes tell it: near enough, and without reading the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, FromQueryResult)]
pub struct Usage {
    /// Its users, counted.
    pub users: i64,
    /// The rows of all its tables.
    pub rows: i64,
    /// The bytes of all its tables and their indexes.
    pub bytes: i64,
}

/// A tenant in whose schema statements run as the owner's, whatever its status. Dropped without a commit, nothing was done.
#[derive(Debug)]
pub struct Reached {
    tenancy: Tenancy,
    transaction: CatalogTx,
    tenant: TenantSummary,
    schema: SchemaName,
    limits: serde_json::Value,
}

/// A tenant that nobody else changes as a whole before this is [committed](Self::commit). Dropped, nothing was done.
#[derive(Debug)]
pub struct TenantAction {
    reached: Reached,
    status_before: Option<String>,
}

impl Tenancy {
    /// Reaches a tenant, without locking anything. `None` if there is none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reach(&self, which: Which<'_>) -> Result<Option<Reached>, Error> {
        let transaction = self.owner().begin().await?;
        let Some(row) = read(&transaction, which, "").await? else { return Ok(None) };
        let schema: SchemaName = row
            .try_get::<String>("", "schema_name")?
            .parse()
            .map_err(|_| Error::Damaged("a tenant's schema name".into()))?;
        transaction.batch(&format!(r#"SET LOCAL search_path TO "{schema}", pg_temp"#)).await?;
        Ok(Some(Reached {
            tenancy: self.clone(),
            tenant: TenantSummary::from_query_result(&row, "")?,
            limits: row.try_get("", "limits")?,
            transaction,
            schema,
        }))
    }

    /// Reaches a tenant and takes its row at once: for what changes nothing in its schema but what it adds to the log.
    ///
    /// # Errors
    /// As [`reach`](Self::reach).
    pub async fn act_on(&self, which: Which<'_>) -> Result<Option<TenantAction>, Error> {
        match self.reach(which).await? {
            Some(reached) => reached.lock().await,
            None => Ok(None),
        }
    }

    /// Whether nobody can have this slug now: a tenant has it, or gave it up not long ago.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_slug_taken(&self, slug: &Slug, now: DateTime<Utc>) -> Result<bool, Error> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT EXISTS (SELECT FROM tenants WHERE slug = $1) \
             OR EXISTS (SELECT FROM released_slugs WHERE slug = $1 AND free_from > $2) AS taken",
            [slug.as_str().into(), now.into()],
        );
        let row = self.catalog().query_one_raw(statement).await?;
        Ok(row.map_or(Ok(false), |row| row.try_get("", "taken"))?)
    }
}

async fn read(transaction: &CatalogTx, which: Which<'_>, lock: &str) -> Result<Option<QueryResult>, DbErr> {
    let (condition, value) = which.condition();
    let sql = format!(
        "SELECT id, slug, name, status, schema_version, created_at, schema_name, limits, status_before \
         FROM tenantry.tenants WHERE {condition} {lock}"
    );
    transaction.query_one_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [value])).await
}

/// Whether this slug was given up by another than this tenant, and is not to be had yet. Asked after the slug was written:
/// whoever was giving it up at that moment has committed by then.
pub(crate) async fn is_released(
    transaction: &CatalogTx,
    slug: &Slug,
    but_by: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT 1 AS found FROM tenantry.released_slugs WHERE slug = $1 AND tenant_id <> $2 AND free_from > $3",
        [slug.as_str().into(), but_by.into(), now.into()],
    );
    Ok(transaction.query_one_raw(statement).await?.is_some())
}

impl Reached {
    /// The tenant, as it was when it was last looked at.
    #[must_use]
    pub fn tenant(&self) -> &TenantSummary {
        &self.tenant
    }

    /// Its own limits; what is not in there is the default.
    #[must_use]
    pub fn limits(&self) -> &serde_json::Value {
        &self.limits
    }

    pub(crate) fn set_own_limits(&mut self, limits: serde_json::Value) {
        self.limits = limits;
    }

    /// How much it has.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn usage(&self) -> Result<Usage, DbErr> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT (SELECT count(*) FROM users) AS users, \
                 coalesce(sum(pg_stat_get_live_tuples(c.oid)), 0)::bigint AS rows, \
                 coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes \
             FROM pg_class c WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p')",
            [self.schema.as_str().into()],
        );
        Ok(Usage::find_by_statement(statement).one(self).await?.unwrap_or_default())
    }

    /// Takes the tenant's row. `None` if it is gone by now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lock(mut self) -> Result<Option<TenantAction>, Error> {
        // Not FOR UPDATE: whoever leaves a job for the tenant refers to the row, and does not have to wait.
        let row = read(&self.transaction, Which::Id(self.tenant.id), "FOR NO KEY UPDATE").await?;
        let Some(row) = row else { return Ok(None) };
        self.tenant = TenantSummary::from_query_result(&row, "")?;
        self.limits = row.try_get("", "limits")?;
        Ok(Some(TenantAction { reached: self, status_before: row.try_get("", "status_before")? }))
    }

    /// Commits what was written on the way.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.transaction.commit().await?)
    }
}

impl TenantAction {
    /// Where to write to the tenant's schema and to the catalog.
    #[must_use]
    pub fn reached(&self) -> &Reached {
        &self.reached
    }

    pub(crate) fn reached_mut(&mut self) -> &mut Reached {
        &mut self.reached
    }

    /// The tenant, as this leaves it.
    #[must_use]
    pub fn tenant(&self) -> &TenantSummary {
        &self.reached.tenant
    }

    /// What the tenant is at.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn status(&self) -> Result<Status, Error> {
        self.reached.tenant.status.parse()
    }

    /// Gives the tenant another status; whether it had another. Unless it is active, its role has no right on its schema:
    /// lost in the same transaction, so that the next statement of every bound connection fails, on every process, whatever is
    /// cached there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn set_status(&mut self, to: Status, now: DateTime<Utc>) -> Result<bool, Error> {
        let from = self.status()?;
        if from == to {
            return Ok(false);
        }
        let closes = to == Status::Deleting;
        let before = closes.then(|| from.as_str().to_owned());
        let closed_at = closes.then_some(now);
        self.execute(
            "UPDATE tenantry.tenants SET status = $2, closed_at = $3, status_before = $4 WHERE id = $1",
            [to.as_str().into(), closed_at.into(), before.clone().into()],
        )
        .await?;
        let schema = &self.reached.schema;
        let right = if to == Status::Active {
            format!(r#"GRANT USAGE ON SCHEMA "{schema}" TO "{schema}""#)
        } else {
            format!(r#"REVOKE USAGE ON SCHEMA "{schema}" FROM "{schema}""#)
        };
        self.reached.transaction.batch(&right).await?;
        to.as_str().clone_into(&mut self.reached.tenant.status);
        self.status_before = before;
        Ok(true)
    }

    /// Makes a tenant that is being deleted what it was before; whether it was being deleted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn restore(&mut self, now: DateTime<Utc>) -> Result<bool, Error> {
        if self.status()? != Status::Deleting {
            return Ok(false);
        }
        let before = self.status_before.as_deref().map_or(Ok(Status::Active), str::parse)?;
        self.set_status(before, now).await
    }

    /// Gives the tenant another slug. The one before stays taken for 90 days, but not for this tenant itself.
    ///
    /// # Errors
    /// [`Error::SlugTaken`], or those of the database.
    pub async fn set_slug(&mut self, slug: &Slug, now: DateTime<Utc>) -> Result<bool, Error> {
        if self.reached.tenant.slug == slug.as_str() {
            return Ok(false);
        }
        let id = self.reached.tenant.id;
        let update = "UPDATE tenantry.tenants SET slug = $2 WHERE id = $1";
        self.execute(update, [slug.as_str().into()]).await.map_err(|error| match fault(&error) {
            Fault::Unique(name) if name == "tenants_slug_key" => Error::SlugTaken,
            _ => error.into(),
        })?;
        if is_released(&self.reached.transaction, slug, id, now).await? {
            return Err(Error::SlugTaken);
        }
        let taken_back = "DELETE FROM tenantry.released_slugs WHERE tenant_id = $1 AND slug = $2";
        self.execute(taken_back, [slug.as_str().into()]).await?;
        let released = std::mem::replace(&mut self.reached.tenant.slug, slug.to_string());
        self.execute(
            "INSERT INTO tenantry.released_slugs (tenant_id, slug, released_at, free_from) VALUES ($1, $2, $3, $4) \
             ON CONFLICT ON CONSTRAINT released_slugs_pkey DO UPDATE SET tenant_id = EXCLUDED.tenant_id, \
                 released_at = EXCLUDED.released_at, free_from = EXCLUDED.free_from",
            [released.into(), now.into(), (now + KEPT).into()],
        )
        .await?;
        Ok(true)
    }

    /// Gives the organization another name, as operators see it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn set_name(&mut self, name: &str) -> Result<bool, Error> {
        if self.reached.tenant.name == name {
            return Ok(false);
        }
        self.execute("UPDATE tenantry.tenants SET name = $2 WHERE id = $1", [name.into()]).await?;
        name.clone_into(&mut self.reached.tenant.name);
        Ok(true)
    }

    /// Commits, and tells every process.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commit(self) -> Result<TenantSummary, Error> {
        let Reached { tenancy, transaction, tenant, .. } = self.reached;
        transaction.batch(&Change::Tenant(tenant.id).announcement()).await?;
        transaction.commit().await?;
        // The announcement comes here too, but a moment later.
        tenancy.resolver().changed(tenant.id);
        Ok(tenant)
    }

    /// A statement about this tenant, whose id is `$1`.
    pub(crate) async fn execute(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<(), DbErr> {
        let values = std::iter::once(self.reached.tenant.id.into()).chain(values);
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        self.reached.transaction.execute_raw(statement).await.map(|_| ())
    }
}

#[async_trait]
impl ConnectionTrait for Reached {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.transaction.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.transaction.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.transaction.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.transaction.query_all_raw(statement).await
    }
}

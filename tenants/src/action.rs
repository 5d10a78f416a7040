//! What is done to one tenant from outside it: by an operator, or by its owner's last word. One transaction of the login
//! that owns both the catalog and the tenant's schema, so that what is done and what the audit logs say of it are there
//! together or not at all.
//!
//! A tenant's own transactions lock rows of its schema first and its row of the catalog afterwards; so does this: whoever
//! wants both reaches the tenant, locks there, and takes the tenant's row last.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, FromQueryResult, QueryResult, Statement, Value,
};
use uuid::Uuid;

use crate::{
    Error, Fault, Job, Outbox, SchemaName, Slug, Tenancy, TenantSummary, Wake, db::CatalogTx, fault, jobs,
    listener::Change, resolution::Status,
};

/// How long a slug that was given up stays taken. The contract's.
pub(crate) const KEPT: TimeDelta = TimeDelta::days(90);

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
    /// Who is to be woken once this is committed.
    wakes: Mutex<Vec<Uuid>>,
    has_schema: bool,
    has_log: bool,
    mails_held: bool,
}

/// A tenant that nobody else changes as a whole before this is [committed](Self::commit). Dropped, nothing was done.
#[derive(Debug)]
pub struct TenantAction {
    reached: Reached,
    status_before: Option<String>,
    closed_at: Option<DateTime<Utc>>,
}

impl Tenancy {
    /// Reaches a tenant, without locking anything. `None` if there is none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reach(&self, which: Which<'_>) -> Result<Option<Reached>, Error> {
        let transaction = self.owner().begin().await?;
        let Some(row) = read(&transaction, which, "").await? else { return Ok(None) };
        let schema = SchemaName::own(&row.try_get::<String>("", "schema_name")?, row.try_get("", "id")?)?;
        transaction.batch(&format!(r#"SET LOCAL search_path TO "{schema}", pg_temp"#)).await?;
        Ok(Some(Reached {
            tenancy: self.clone(),
            tenant: TenantSummary::from_query_result(&row, "")?,
            limits: row.try_get("", "limits")?,
            has_schema: row.try_get("", "has_schema")?,
            has_log: row.try_get("", "has_log")?,
            mails_held: row.try_get("", "mails_held")?,
            transaction,
            schema,
            wakes: Mutex::default(),
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
        "SELECT id, slug, name, status, schema_version, created_at, schema_name, limits, status_before, closed_at, \
         mails_held, to_regnamespace(schema_name) IS NOT NULL AS has_schema, \
         to_regclass(schema_name || '.audit') IS NOT NULL AS has_log \
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

    /// The schema version, as far as the tenant's own log goes: 0 where it has none, because the schema is gone or half gone.
    #[must_use]
    pub fn log_version(&self) -> i32 {
        if self.has_log { self.tenant.schema_version } else { 0 }
    }

    /// Whether none of the jobs that it leaves is done, and so none of its mails goes out: it was imported or cloned, and
    /// not resumed yet.
    #[must_use]
    pub fn holds_mails(&self) -> bool {
        self.mails_held
    }

    pub(crate) fn transaction(&self) -> &CatalogTx {
        &self.transaction
    }

    pub(crate) fn set_own_limits(&mut self, limits: serde_json::Value) {
        self.limits = limits;
    }

    /// How much it has.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn usage(&self) -> Result<Usage, DbErr> {
        let is_there = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT to_regclass($1) IS NOT NULL AS found",
            [format!("{}.users", self.schema).into()],
        );
        let is_there = self.query_one_raw(is_there).await?;
        // Of one that is being purged, or is damaged, there may be nothing to count.
        let users = if is_there.map_or(Ok(false), |row| row.try_get("", "found"))? {
            "(SELECT count(*) FROM users)"
        } else {
            "0::bigint"
        };
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            format!(
                "SELECT {users} AS users, \
                     coalesce(sum(pg_stat_get_live_tuples(c.oid)), 0)::bigint AS rows, \
                     coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes \
                 FROM pg_class c WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p')"
            ),
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
        self.mails_held = row.try_get("", "mails_held")?;
        let (status_before, closed_at) = (row.try_get("", "status_before")?, row.try_get("", "closed_at")?);
        Ok(Some(TenantAction { reached: self, status_before, closed_at }))
    }

    /// Commits what was written on the way.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commit(self) -> Result<(), Error> {
        self.transaction.commit().await?;
        let wakes = self.wakes.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.tenancy.live().wake(self.tenant.id, wakes);
        Ok(())
    }
}

impl Outbox for Reached {
    fn tenant_id(&self) -> Option<Uuid> {
        Some(self.tenant.id)
    }

    async fn enqueue(&self, job: &Job) -> Result<Option<Uuid>, DbErr> {
        jobs::insert(self, Some(self.tenant.id), job).await
    }
}

impl Wake for Reached {
    fn wake(&self, user: Uuid) {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(user);
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

    /// When it was closed for good, if it is.
    #[must_use]
    pub fn closed_at(&self) -> Option<DateTime<Utc>> {
        self.closed_at
    }

    /// Gives the tenant another status; whether it had another. Unless it is active, its role has no right on its schema:
    /// lost in the same transaction, so that the next statement of every bound connection fails, on every process, whatever is
    /// cached there.
    ///
    /// # Errors
    /// [`Error::BeingPurged`], or those of the database.
    pub async fn set_status(&mut self, to: Status, now: DateTime<Utc>) -> Result<bool, Error> {
        let from = self.status()?;
        if from == Status::Purging {
            return Err(Error::BeingPurged);
        }
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
        // One whose schema is lost can be closed and purged all the same.
        if self.reached.has_schema {
            self.reached.transaction.batch(&right).await?;
        }
        to.as_str().clone_into(&mut self.reached.tenant.status);
        (self.status_before, self.closed_at) = (before, closes.then_some(now));
        Ok(true)
    }

    /// Lets the mails of a tenant out that was imported or cloned; whether they were held.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn release_mails(&mut self) -> Result<bool, Error> {
        let held = std::mem::take(&mut self.reached.mails_held);
        if held {
            self.execute("UPDATE tenantry.tenants SET mails_held = false WHERE id = $1", []).await?;
        }
        Ok(held)
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
        let Reached { tenancy, transaction, tenant, wakes, .. } = self.reached;
        transaction.batch(&Change::Tenant(tenant.id).announcement()).await?;
        transaction.commit().await?;
        // The announcement comes here too, but a moment later.
        tenancy.resolver().changed(tenant.id);
        tenancy.live().wake(tenant.id, wakes.into_inner().unwrap_or_else(PoisonError::into_inner));
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

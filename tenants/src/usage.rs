//! How much tenants used, a day and tenant, and how much they have: what processes count is written down here, and what
//! there is is measured.

use std::{fmt::Write as _, sync::Arc, time::Instant};

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    CatalogDb, Error, Tenancy, Tenant, TenantDb, TenantName, Usage, listener::Change, served_versions,
};

/// How many tenants a statement writes down: some hundred kilobytes.
const AT_ONCE: usize = 2_000;

/// What a tenant used on a day of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromQueryResult)]
pub struct DayUsage {
    /// The day.
    pub day: NaiveDate,
    /// Requests to the tenant, the refused ones included.
    pub requests: i64,
    /// Requests that the service failed at: answered 5xx.
    pub errors: i64,
    /// Requests that were one too many: answered 429 by the tenant's limits.
    pub throttled: i64,
    /// For how many microseconds connections of the database were held for it.
    pub database_micros: i64,
    /// Mails that went out.
    pub mails: i64,
}

/// What a tenant used on a day, and what it had when it was last measured.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
#[expect(missing_docs, reason = "as in `DayUsage` and `Usage`")]
pub struct TenantUsage {
    pub id: Uuid,
    pub slug: String,
    pub requests: i64,
    pub errors: i64,
    pub throttled: i64,
    pub database_micros: i64,
    pub mails: i64,
    pub users: Option<i64>,
    pub rows: Option<i64>,
    pub bytes: Option<i64>,
    /// When it was measured.
    pub measured_at: Option<DateTime<Utc>>,
}

/// What the tenants of a day are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageOrder {
    /// How many requests.
    Requests,
    /// How many errors.
    Errors,
    /// For how long connections were held.
    DatabaseTime,
}

impl UsageOrder {
    fn column(self) -> &'static str {
        match self {
            Self::Requests => "u.requests",
            Self::Errors => "u.errors",
            Self::DatabaseTime => "u.database_micros",
        }
    }
}

fn statement(sql: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

fn number(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

impl Tenancy {
    /// Writes down what this process counted since it last did, all tenants in one statement; how many there were. What
    /// cannot be written is kept for the next time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn flush_usage(&self, now: DateTime<Utc>) -> Result<usize, Error> {
        let all = self.meters().take(now);
        for (done, some) in all.chunks(AT_ONCE).enumerate() {
            let counted = serde_json::to_value(some).map_err(|error| Error::Damaged(error.to_string()));
            let flushed = match counted {
                Ok(counted) => self.write_usage(counted, now).await.map_err(Error::from),
                Err(error) => Err(error),
            };
            if let Err(error) = flushed {
                self.meters().put_back(&all[done * AT_ONCE..]);
                return Err(error);
            }
            self.busiest_of_all().note(some, Instant::now());
        }
        Ok(all.len())
    }

    async fn write_usage(&self, counted: serde_json::Value, now: DateTime<Utc>) -> Result<(), DbErr> {
        // One value, however many tenants. By id, as every process does it: none waits for another that waits for it. A
        // tenant may be gone by now.
        let sql = "WITH counted AS (\
                 SELECT c.* FROM jsonb_to_recordset($1) AS c(tenant uuid, requests bigint, errors bigint, \
                     throttled bigint, database_micros bigint, written boolean) \
                 JOIN tenants t ON t.id = c.tenant ORDER BY c.tenant), \
             written AS (\
                 INSERT INTO tenant_sizes (tenant_id, written_at) \
                 SELECT tenant, $3::timestamptz FROM counted WHERE written ORDER BY tenant \
                 ON CONFLICT ON CONSTRAINT tenant_sizes_pkey DO UPDATE SET written_at = EXCLUDED.written_at) \
             INSERT INTO tenant_usage AS u (tenant_id, day, requests, errors, throttled, database_micros) \
             SELECT tenant, $2::date, requests, errors, throttled, database_micros FROM counted ORDER BY tenant \
             ON CONFLICT ON CONSTRAINT tenant_usage_pkey DO UPDATE SET requests = u.requests + EXCLUDED.requests, \
                 errors = u.errors + EXCLUDED.errors, throttled = u.throttled + EXCLUDED.throttled, \
                 database_micros = u.database_micros + EXCLUDED.database_micros";
        let values = [counted.into(), now.date_naive().into(), now.into()];
        self.catalog().execute_raw(statement(sql, values)).await.map(|_| ())
    }

    /// Takes up to `limit` tenants that were written to since they were measured, which was before this time, and notes
    /// that they are measured now: whoever asks next, here or in another process, gets others.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_tenants_to_measure(
        &self,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Arc<Tenant>>, Error> {
        let (oldest, newest) = served_versions().into_inner();
        let sql = "UPDATE tenant_sizes SET measured_at = $2 WHERE tenant_id IN (\
                 SELECT s.tenant_id FROM tenant_sizes s JOIN tenants t ON t.id = s.tenant_id \
                 WHERE t.status = 'active' AND t.schema_version BETWEEN $3 AND $4 AND (s.measured_at IS NULL \
                     OR (s.written_at >= s.measured_at AND s.measured_at < $1)) \
                 ORDER BY s.measured_at NULLS FIRST LIMIT $5 FOR UPDATE OF s SKIP LOCKED) \
             RETURNING tenant_id";
        let values = [before.into(), now.into(), oldest.into(), newest.into(), number(limit.into())];
        let mut tenants = Vec::new();
        for row in self.catalog().query_all_raw(statement(sql, values)).await? {
            tenants.extend(self.resolver().resolve(TenantName::Id(row.try_get("", "tenant_id")?)).await?);
        }
        Ok(tenants)
    }

    /// Notes how much a tenant has. Where that says something else about whether there is room for more, every process
    /// hears of it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_size(&self, tenant: &Tenant, size: Usage) -> Result<(), Error> {
        let tx = self.catalog().begin().await?;
        let sql = "UPDATE tenant_sizes SET users = $2, rows = $3, bytes = $4 WHERE tenant_id = $1";
        let values = [tenant.id.into(), size.users.into(), size.rows.into(), size.bytes.into()];
        tx.execute_raw(statement(sql, values)).await?;
        let has_room = |most: u64| u64::try_from(size.bytes).unwrap_or(0) <= most;
        let tells = tenant.limits.storage_bytes.is_some_and(|most| has_room(most) != tenant.has_room());
        if tells {
            tx.batch(&Change::Tenant(tenant.id).announcement()).await?;
        }
        tx.commit().await?;
        if tells {
            self.resolver().changed(tenant.id);
        }
        Ok(())
    }

    /// Counts a mail of a tenant on a day, unless there were so many already. Whether it did: exactly, for all processes
    /// together.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count_mail(&self, tenant: Uuid, day: NaiveDate, most: Option<u64>) -> Result<bool, Error> {
        let sql = "INSERT INTO tenant_usage AS u (tenant_id, day, mails) \
             SELECT id, $2::date, 1 FROM tenants WHERE id = $1 AND $3 > 0 \
             ON CONFLICT ON CONSTRAINT tenant_usage_pkey DO UPDATE SET mails = u.mails + 1 WHERE u.mails < $3";
        let values = [tenant.into(), day.into(), number(most.unwrap_or(u64::MAX))];
        Ok(self.catalog().execute_raw(statement(sql, values)).await?.rows_affected() == 1)
    }

    /// Takes back a mail that did not go out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn withdraw_mail(&self, tenant: Uuid, day: NaiveDate) -> Result<(), Error> {
        let sql = "UPDATE tenant_usage SET mails = mails - 1 WHERE tenant_id = $1 AND day = $2 AND mails > 0";
        self.catalog().execute_raw(statement(sql, [tenant.into(), day.into()])).await?;
        Ok(())
    }

    /// Deletes what was used before this day, so many rows at most, and says how many there were.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_usage(&self, before: NaiveDate, limit: u32) -> Result<u64, Error> {
        let sql = "DELETE FROM tenant_usage WHERE (tenant_id, day) IN (SELECT tenant_id, day FROM tenant_usage \
                 WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let values = [before.into(), number(limit.into())];
        Ok(self.catalog().execute_raw(statement(sql, values)).await?.rows_affected())
    }
}

impl DayUsage {
    /// On how many days a tenant used anything.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count(db: &CatalogDb, tenant: Uuid) -> Result<u64, DbErr> {
        let sql = "SELECT count(*) AS count FROM tenant_usage WHERE tenant_id = $1";
        count(db, statement(sql, [tenant.into()])).await
    }

    /// Some of the days on which a tenant used something: `limit` of them after the first `offset`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        db: &CatalogDb,
        tenant: Uuid,
        newest_first: bool,
        (offset, limit): (u64, u64),
    ) -> Result<Vec<Self>, DbErr> {
        let direction = if newest_first { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT day, requests, errors, throttled, database_micros, mails FROM tenant_usage \
             WHERE tenant_id = $1 ORDER BY day {direction} OFFSET $2 LIMIT $3"
        );
        let values = [tenant.into(), number(offset), number(limit)];
        Self::find_by_statement(statement(sql, values)).all(db).await
    }
}

impl TenantUsage {
    /// How many tenants used anything on this day.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count(db: &CatalogDb, day: NaiveDate) -> Result<u64, DbErr> {
        let sql = "SELECT count(*) AS count FROM tenant_usage WHERE day = $1";
        count(db, statement(sql, [day.into()])).await
    }

    /// Some of the tenants that used anything on this day: `limit` of them after the first `offset`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        db: &CatalogDb,
        day: NaiveDate,
        order: &[(UsageOrder, bool)],
        (offset, limit): (u64, u64),
    ) -> Result<Vec<Self>, DbErr> {
        let mut by = String::new();
        for (order, descending) in order {
            let direction = if *descending { "DESC" } else { "ASC" };
            // Writing to a string cannot fail.
            write!(by, "{} {direction}, ", order.column()).ok();
        }
        let sql = format!(
            "SELECT t.id, t.slug, u.requests, u.errors, u.throttled, u.database_micros, u.mails, \
             s.users, s.rows, s.bytes, CASE WHEN s.bytes IS NOT NULL THEN s.measured_at END AS measured_at \
             FROM tenant_usage u JOIN tenants t ON t.id = u.tenant_id \
             LEFT JOIN tenant_sizes s ON s.tenant_id = u.tenant_id \
             WHERE u.day = $1 ORDER BY {by}t.id OFFSET $2 LIMIT $3"
        );
        let values = [day.into(), number(offset), number(limit)];
        Self::find_by_statement(statement(sql, values)).all(db).await
    }
}

async fn count(db: &CatalogDb, statement: Statement) -> Result<u64, DbErr> {
    let row = db.query_one_raw(statement).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get("", "count"))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

impl TenantDb {
    /// How much the tenant has, as PostgreSQL's statistics and sizes tell it, but for its users, who are counted by who
    /// knows them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn size(&self, users: u64) -> Result<Usage, DbErr> {
        let sql = "SELECT $1::bigint AS users, coalesce(sum(pg_stat_get_live_tuples(c.oid)), 0)::bigint AS rows, \
                 coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes \
             FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')";
        Ok(Usage::find_by_statement(statement(sql, [number(users)])).one(self).await?.unwrap_or_default())
    }
}

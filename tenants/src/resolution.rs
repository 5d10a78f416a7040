//! From a name in a request to a tenant: one query in the catalog at most, and then a bounded cache.

use std::{
    ops::RangeInclusive,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{Expiry, future::Cache};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};
use uuid::Uuid;

use crate::{Error, SchemaName, Slug, db::CatalogDb, render};

/// The most names that are remembered, known and unknown ones together.
const CAPACITY: u64 = 50_000;
/// How long a known name is remembered, while its tenant is open. What ends a tenant's access does not wait for this: the database refuses.
const KNOWN_FOR: Duration = Duration::from_mins(1);
/// How long an unknown name is, or a tenant that is not served: short, because another process may make the one or
/// resume the other at any moment.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);

/// What an organization's account is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In use.
    Active,
    /// Closed by an operator for now: nobody gets in, nothing is lost.
    Suspended,
    /// To be purged when its grace period ends. For the outside it is gone.
    Deleting,
}

impl Status {
    /// Its name in the catalog.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleting => "deleting",
        }
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Active, Self::Suspended, Self::Deleting]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::Damaged(format!("unknown status {text:?}")))
    }
}

/// A tenant, as the catalog has it.
#[derive(Debug)]
pub struct Tenant {
    /// Its id, for ever.
    pub id: Uuid,
    /// Its name in hosts and headers, for now.
    pub slug: Slug,
    /// Its schema, and its role of the same name.
    pub schema: SchemaName,
    /// The lane whose connections see it.
    pub lane: u16,
    /// Whether it is in use.
    pub status: Status,
    /// How many tenant migrations its schema has had.
    pub schema_version: i32,
    /// The verified hosts of its own.
    pub domains: Vec<String>,
    /// The batch that binds a connection to it.
    pub(crate) binding: Arc<str>,
}

impl Tenant {
    /// Whether this program can serve a schema of this version.
    #[must_use]
    pub fn is_served(&self) -> bool {
        served_versions().contains(&self.schema_version)
    }

    fn from_row(row: &QueryResult, statement_timeout: Duration) -> Result<Self, DbErr> {
        let damaged = |error: &dyn std::fmt::Display| DbErr::Type(error.to_string());
        let text = |column: &str| row.try_get::<String>("", column);
        let schema: SchemaName = text("schema_name")?.parse().map_err(|error| damaged(&error))?;
        let domains: Option<String> = row.try_get("", "domains")?;
        let timeout: Option<i64> = row.try_get("", "statement_timeout_ms")?;
        let timeout =
            timeout.and_then(|ms| u64::try_from(ms).ok()).map_or(statement_timeout, Duration::from_millis);
        Ok(Self {
            id: row.try_get("", "id")?,
            slug: text("slug")?.parse().map_err(|error| damaged(&error))?,
            lane: u16::try_from(row.try_get::<i16>("", "lane")?).map_err(|error| damaged(&error))?,
            status: text("status")?.parse().map_err(|error| damaged(&error))?,
            schema_version: row.try_get("", "schema_version")?,
            domains: domains
                .map(|names| names.split(',').map(ToOwned::to_owned).collect())
                .unwrap_or_default(),
            binding: binding(&schema, timeout).into(),
            schema,
        })
    }
}

/// The batch that binds a connection: who it is, where it works and how long a statement may take. `public` is not in
/// the path, or a table missing in the tenant's schema would be read and written there.
pub(crate) fn binding(schema: &SchemaName, statement_timeout: Duration) -> String {
    format!(
        r#"SET ROLE "{schema}"; SET search_path TO "{schema}", pg_temp; SET statement_timeout TO {}"#,
        statement_timeout.as_millis()
    )
}

/// The schema versions this program can serve.
#[must_use]
pub fn served_versions() -> RangeInclusive<i32> {
    const OLDEST: i32 = 1;
    OLDEST..=render::current_version()
}

/// By what a request names its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantName {
    /// A subdomain or the header `X-Tenant`.
    Slug(Slug),
    /// A host that is not under the base domain, in lower case.
    Domain(String),
    /// The claim of a token.
    Id(Uuid),
}

impl TenantName {
    fn statement(&self) -> Statement {
        let (condition, value): (_, Value) = match self {
            Self::Slug(slug) => ("t.slug = $1", slug.as_str().into()),
            Self::Domain(domain) => (
                "t.id = (SELECT tenant_id FROM domains WHERE name = $1 AND verified_at IS NOT NULL)",
                domain.as_str().into(),
            ),
            Self::Id(id) => ("t.id = $1", (*id).into()),
        };
        let sql = format!(
            "SELECT t.id, t.slug, t.schema_name, t.lane, t.status, t.schema_version, \
             (t.limits->>'statement_timeout_ms')::bigint AS statement_timeout_ms, \
             (SELECT string_agg(name, ',') FROM domains WHERE tenant_id = t.id AND verified_at IS NOT NULL) AS domains \
             FROM tenants t WHERE {condition}"
        );
        Statement::from_sql_and_values(DbBackend::Postgres, sql, [value])
    }
}

/// Finds tenants by name, and remembers what it found and what it did not.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Behind a pointer, because a tenant's handle on the database holds a resolver in turn.
    catalog: Arc<CatalogDb>,
    /// For tenants that have no limit of their own.
    statement_timeout: Duration,
    cache: Cache<TenantName, Option<Arc<Tenant>>>,
}

/// How long an answer is remembered. An answer that takes the place of an expired one is new to moka or an update of
/// it, depending on whether the old one was swept out already; its lifetime must not depend on that.
struct Lifetimes;

impl Lifetimes {
    fn of(tenant: Option<&Arc<Tenant>>) -> Duration {
        match tenant {
            Some(tenant) if tenant.status == Status::Active && tenant.is_served() => KNOWN_FOR,
            // A tenant that is closed may be opened at any moment, by another process, and nothing in the database would
            // refuse to go on taking it for closed.
            Some(_) => Duration::ZERO,
            None => UNKNOWN_FOR,
        }
    }
}

impl Expiry<TenantName, Option<Arc<Tenant>>> for Lifetimes {
    fn expire_after_create(
        &self,
        _: &TenantName,
        tenant: &Option<Arc<Tenant>>,
        _: Instant,
    ) -> Option<Duration> {
        Some(Self::of(tenant.as_ref()))
    }

    fn expire_after_update(
        &self,
        _: &TenantName,
        tenant: &Option<Arc<Tenant>>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Self::of(tenant.as_ref()))
    }
}

impl Resolver {
    pub(crate) fn new(catalog: CatalogDb, statement_timeout: Duration) -> Self {
        Self {
            catalog: Arc::new(catalog),
            statement_timeout,
            cache: Cache::builder().max_capacity(CAPACITY).expire_after(Lifetimes).build(),
        }
    }

    /// The tenant of this name, whatever its status. However many ask for one name at once, the catalog is asked once.
    ///
    /// # Errors
    /// The catalog could not be asked; that is not remembered.
    pub async fn resolve(&self, name: TenantName) -> Result<Option<Arc<Tenant>>, DbErr> {
        if let Some(found) = self.cache.get(&name).await {
            return Ok(found);
        }
        let statement = name.statement();
        let load = async {
            let row = self.catalog.query_one_raw(statement).await?;
            row.map(|row| Tenant::from_row(&row, self.statement_timeout).map(Arc::new)).transpose()
        };
        self.cache.try_get_with(name, load).await.map_err(|error: Arc<DbErr>| (*error).clone())
    }

    /// Forgets everything remembered of this tenant. The next request asks the catalog.
    pub async fn forget(&self, tenant: &Tenant) {
        let names = [TenantName::Id(tenant.id), TenantName::Slug(tenant.slug.clone())];
        for name in names.into_iter().chain(tenant.domains.iter().cloned().map(TenantName::Domain)) {
            self.cache.invalidate(&name).await;
        }
    }

    /// Forgets that there was no tenant of this name.
    pub async fn forget_name(&self, name: &TenantName) {
        self.cache.invalidate(name).await;
    }
}

//! What the catalog says of a tenant, and by what requests name it.

use std::{ops::RangeInclusive, str::FromStr, sync::Arc, time::Duration};

use sea_orm::{DbBackend, DbErr, JsonValue as Json, QueryResult, Statement, Value};
use uuid::Uuid;

use crate::{
    Error, SchemaName, Slug,
    binding::Binding,
    limits::{DEFAULT_PLAN, Limits},
    meter::{Meter, Meters},
    render,
};

/// What an organization's account is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In use.
    Active,
    /// Closed by an operator for now: nobody gets in, nothing is lost.
    Suspended,
    /// To be purged when its grace period ends. For the outside it is gone.
    Deleting,
    /// What it had is being dropped: nothing brings it back.
    Purging,
}

impl Status {
    /// Its name in the catalog.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleting => "deleting",
            Self::Purging => "purging",
        }
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Active, Self::Suspended, Self::Deleting, Self::Purging]
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
    /// What it may have and do: its own limits, its plan's, and everybody's.
    pub limits: Limits,
    /// How many bytes it had when it was last measured.
    pub bytes: u64,
    /// What this process knows of its use.
    pub meter: Arc<Meter>,
    /// Whether its row names a schema that is not its own.
    is_crossed: bool,
    /// What binds a connection to it.
    pub(crate) binding: Arc<Binding>,
}

impl Tenant {
    /// Whether this program can serve a schema of this version, and its row names its own schema: one that names another's
    /// was written by hand, and what else there is wrong with it nobody knows.
    #[must_use]
    pub fn is_served(&self) -> bool {
        !self.is_crossed && served_versions().contains(&self.schema_version)
    }

    /// Whether there is room for more rows: what it had when it was last measured is no more than it may have.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.limits.storage_bytes.is_none_or(|most| self.bytes <= most)
    }

    /// Whether this is one of its names.
    pub(crate) fn is_called(&self, name: &TenantName) -> bool {
        match name {
            TenantName::Slug(slug) => self.slug == *slug,
            TenantName::Domain(domain) => self.domains.contains(domain),
            TenantName::Id(id) => self.id == *id,
        }
    }

    pub(crate) fn from_row(
        row: &QueryResult,
        statement_timeout: Duration,
        meters: &Meters,
    ) -> Result<Self, DbErr> {
        let damaged = |error: &dyn std::fmt::Display| DbErr::Type(error.to_string());
        let text = |column: &str| row.try_get::<String>("", column);
        let id = row.try_get("", "id")?;
        let schema = SchemaName::of(id);
        let is_crossed = text("schema_name")? != schema.as_str();
        let domains: Option<String> = row.try_get("", "domains")?;
        let (limits, bytes) = (limits_of(row)?, row.try_get::<Option<i64>>("", "bytes")?);
        let timeout = limits.statement_timeout_ms.map_or(statement_timeout, Duration::from_millis);
        Ok(Self {
            id,
            slug: text("slug")?.parse().map_err(|error| damaged(&error))?,
            lane: u16::try_from(row.try_get::<i16>("", "lane")?).map_err(|error| damaged(&error))?,
            status: text("status")?.parse().map_err(|error| damaged(&error))?,
            schema_version: row.try_get("", "schema_version")?,
            is_crossed,
            domains: domains
                .map(|names| names.split(',').map(ToOwned::to_owned).collect())
                .unwrap_or_default(),
            limits,
            bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            meter: meters.of(id),
            binding: Arc::new(Binding::of_tenant(&schema, timeout)),
            schema,
        })
    }
}

/// The columns that say what a tenant `t` may have and do; for [`limits_of`].
pub(crate) fn limit_columns() -> String {
    format!(
        "t.limits, (SELECT p.limits FROM tenantry.plans p WHERE p.name = t.plan) AS plan_limits, \
         (SELECT p.limits FROM tenantry.plans p WHERE p.name = '{DEFAULT_PLAN}') AS default_limits"
    )
}

/// The limits in force, of a row with the [`limit_columns`].
pub(crate) fn limits_of(row: &QueryResult) -> Result<Limits, DbErr> {
    let said =
        |column| Ok::<_, DbErr>(Limits::of(&row.try_get::<Option<Json>>("", column)?.unwrap_or_default()));
    Ok(said("limits")?.over(&said("plan_limits")?).over(&said("default_limits")?))
}

/// The schema versions this program can serve.
#[must_use]
pub fn served_versions() -> RangeInclusive<i32> {
    const OLDEST: i32 = 4;
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
    /// The question in the catalog.
    pub(crate) fn statement(&self) -> Statement {
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
             {}, (SELECT s.bytes FROM tenant_sizes s WHERE s.tenant_id = t.id) AS bytes, \
             (SELECT string_agg(name, ',') FROM domains WHERE tenant_id = t.id AND verified_at IS NOT NULL) AS domains \
             FROM tenants t WHERE {condition}",
            limit_columns()
        );
        Statement::from_sql_and_values(DbBackend::Postgres, sql, [value])
    }
}

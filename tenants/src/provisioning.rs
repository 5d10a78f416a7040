//! Making a tenant: its row, its schema, its role and its first rows in one transaction. Nothing half-made can exist.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use uuid::Uuid;

use crate::{
    Error, Job, Outbox, PlanName, SchemaName, Slug, Tenancy,
    action::is_released,
    db::CatalogTx,
    jobs,
    listener::Change,
    plans,
    resolution::{Tenant, TenantName},
    timing::{Timing, TimingFigures},
};

/// How a new tenant's slug was chosen.
#[derive(Clone, Debug)]
pub enum SlugChoice {
    /// By a person: taken is taken.
    Exactly(Slug),
    /// From the organization's name: where it is taken, `-2`, `-3`, … is tried.
    Derived(Slug),
}

impl SlugChoice {
    /// The slug that was chosen, or that the first try is with.
    #[must_use]
    pub fn slug(&self) -> &Slug {
        match self {
            Self::Exactly(slug) | Self::Derived(slug) => slug,
        }
    }
}

/// A tenant to be made.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its id, a UUID v7.
    pub id: Uuid,
    /// Its slug, or what to derive it from.
    pub slug: SlugChoice,
    /// The organization's name as operators see it.
    pub name: String,
    /// The time of its making.
    pub now: DateTime<Utc>,
}

/// How many suffixes are tried for a derived slug before it counts as taken.
const MOST_SUFFIXES: u32 = 10_000;

/// A tenant in the making. Statements run in its new schema, as the schema's owner. Dropped without
/// [`commit`](Self::commit), nothing of it was ever there.
#[derive(Debug)]
pub struct Provisioning {
    tenancy: Tenancy,
    transaction: CatalogTx,
    id: Uuid,
    slug: Slug,
    attempt: Attempt,
}

/// How the making of tenants went.
#[derive(Debug, Default)]
pub struct Provisioned {
    made: Timing,
    given_up: AtomicU64,
}

impl Provisioned {
    /// How long those took that were made, from the first statement to the commit.
    #[must_use]
    pub fn made(&self) -> TimingFigures {
        self.made.figures()
    }

    /// How many were begun and not made: the slug was taken, a rule or the database said no, or a client hung up.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// Counts a tenant in the making as given up when it is dropped, unless it was made.
#[derive(Debug)]
struct Attempt {
    counts: Arc<Provisioned>,
    since: Option<Instant>,
}

impl Attempt {
    fn begun(tenancy: &Tenancy) -> Self {
        Self { counts: Arc::clone(tenancy.provisioned()), since: Some(Instant::now()) }
    }

    fn made(mut self) {
        if let Some(since) = self.since.take() {
            self.counts.made.note(since.elapsed());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.since.is_some() {
            self.counts.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Tenancy {
    /// Makes a tenant, up to the commit.
    ///
    /// # Errors
    /// [`Error::SlugTaken`], or those of the database.
    pub async fn provision(&self, new: NewTenant) -> Result<Provisioning, Error> {
        let attempt = Attempt::begun(self);
        let transaction = self.owner().begin().await?;
        let schema = SchemaName::of(new.id);
        let lane = self.lane_of(new.id);
        let slug = insert_row(&transaction, &new, (&schema, self.migrations().version()), lane).await?;
        let lane_role = self.roles().lane(lane);
        let group = self.roles().tenants();
        let maker = self.role_maker();
        let migrations = self.migrations().batch(&schema, 0);
        let announcement = Change::Tenant(new.id).announcement();
        transaction
            .batch(&format!(
                r#"{announcement};
                SET LOCAL citus.enable_schema_based_sharding = on;
                CREATE SCHEMA "{schema}";
                SET LOCAL citus.enable_schema_based_sharding = off;
                {create_role};
                {into_group};
                {to_lane};
                GRANT USAGE ON SCHEMA "{schema}" TO "{schema}";
                INSERT INTO tenantry.tenant_sizes (tenant_id, written_at) VALUES ('{id}', '{now}');
                SET LOCAL search_path TO "{schema}", pg_temp;
                {migrations}"#,
                create_role = maker.create(schema.as_str()),
                into_group = maker.grant(&group, schema.as_str()),
                to_lane = maker.grant(schema.as_str(), &lane_role),
                id = new.id,
                now = new.now.to_rfc3339(),
            ))
            .await?;
        Ok(Provisioning { tenancy: self.clone(), transaction, id: new.id, slug, attempt })
    }

    /// The lane of a tenant: the ids' last bits are random, so they deal the tenants out evenly.
    pub(crate) fn lane_of(&self, tenant: Uuid) -> u16 {
        let [.., high, low] = *tenant.as_bytes();
        u16::from_be_bytes([high, low]) % self.lanes()
    }
}

/// Writes the row of a tenant at the current schema version, on a connection whose path leads to the catalog.
pub(crate) async fn insert_row(
    transaction: &CatalogTx,
    new: &NewTenant,
    (schema, version): (&SchemaName, i32),
    lane: u16,
) -> Result<Slug, Error> {
    let insert = async |slug: &Slug| {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "INSERT INTO tenants (id, slug, name, schema_name, lane, schema_version, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (slug) DO NOTHING",
            [
                new.id.into(),
                slug.as_str().into(),
                new.name.as_str().into(),
                schema.as_str().into(),
                i16::try_from(lane).unwrap_or(i16::MAX).into(),
                version.into(),
                new.now.into(),
            ],
        );
        // A racing sign-up of the same slug makes this wait until the other has committed or not.
        if transaction.execute_raw(statement).await?.rows_affected() == 0 {
            return Ok(false);
        }
        if !is_released(transaction, slug, new.id, new.now).await? {
            return Ok(true);
        }
        let undo = "DELETE FROM tenants WHERE id = $1";
        let undo = Statement::from_sql_and_values(DbBackend::Postgres, undo, [new.id.into()]);
        transaction.execute_raw(undo).await?;
        Ok::<_, DbErr>(false)
    };
    let base = match &new.slug {
        SlugChoice::Exactly(slug) => {
            return if insert(slug).await? { Ok(slug.clone()) } else { Err(Error::SlugTaken) };
        }
        SlugChoice::Derived(base) => base,
    };
    if insert(base).await? {
        return Ok(base.clone());
    }
    // Start behind the suffixes in use, so that the thousandth "Acme" does not try a thousand names.
    for n in next_suffix(transaction, base).await?..=MOST_SUFFIXES {
        let slug = base.numbered(n);
        if insert(&slug).await? {
            return Ok(slug);
        }
    }
    Err(Error::SlugTaken)
}

/// The number behind the greatest that slugs of tenants have behind this one.
pub(crate) async fn next_suffix(transaction: &CatalogTx, base: &Slug) -> Result<u32, DbErr> {
    // A slug is `[a-z0-9-]`, so it can stand in a pattern as it is.
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT coalesce(max(substr(slug, length($1) + 2)::int), 1)::int AS last FROM tenantry.tenants \
         WHERE slug ~ ('^' || $1 || '-[1-9][0-9]{0,3}$')",
        [base.as_str().into()],
    );
    let last: i32 = match transaction.query_one_raw(statement).await? {
        Some(row) => row.try_get("", "last")?,
        None => 1,
    };
    Ok(u32::try_from(last).unwrap_or(1) + 1)
}

impl Provisioning {
    /// The id the tenant gets.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The slug the tenant gets.
    #[must_use]
    pub fn slug(&self) -> &Slug {
        &self.slug
    }

    /// Puts an address of the new tenant into the blind index.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn index_email(&self, hash: &[u8; 32]) -> Result<(), DbErr> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "INSERT INTO tenantry.email_index (email_hash, tenant_id) VALUES ($1, $2)",
            [hash.to_vec().into(), self.id.into()],
        );
        self.transaction.execute_raw(statement).await.map(|_| ())
    }

    /// Gives it a plan, or none.
    ///
    /// # Errors
    /// [`Error::NoSuchPlan`], or those of the database.
    pub async fn set_plan(&self, plan: Option<&PlanName>) -> Result<(), Error> {
        plans::set_plan_of(&self.transaction, self.id, plan).await
    }

    /// Commits. From here on the tenant is there for everybody.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commit(self) -> Result<Arc<Tenant>, Error> {
        let Self { tenancy, transaction, id, attempt, .. } = self;
        transaction.commit().await?;
        attempt.made();
        // Somebody may have asked for the name a moment ago, and been told that there is none. The announcement comes
        // here too, but a moment later.
        tenancy.resolver().changed(id);
        tenancy
            .resolver()
            .resolve(TenantName::Id(id))
            .await?
            .ok_or_else(|| Error::Damaged(format!("tenant {id} is gone right after its commit")))
    }
}

#[async_trait]
impl ConnectionTrait for Provisioning {
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

/// The catalog's own function would ask for a connection bound to the tenant, which there is none of yet.
impl Outbox for Provisioning {
    fn tenant_id(&self) -> Option<Uuid> {
        Some(self.id)
    }

    async fn enqueue(&self, job: &Job) -> Result<Option<Uuid>, DbErr> {
        jobs::insert(self, Some(self.id), job).await
    }
}

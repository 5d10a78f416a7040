//! A tenant that was loaded gets its place in the catalog: a new one, or that of another tenant.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use uuid::Uuid;

use super::{error::ArchiveError, import::Importing};
use crate::{
    DataKey, Error, SchemaName, Slug, SlugChoice, Status, Tenancy,
    action::is_released,
    listener::Change,
    provisioning::{NewTenant, insert_row, next_suffix},
};

/// How many addresses are hashed and written at once.
const ADDRESSES: i64 = 1_000;
/// How many slugs are tried for a tenant that makes room for its replacement.
const MOST_SUFFIXES: u32 = 10_000;
/// Where statements find the catalog.
const CATALOG_PATH: &str = "SET LOCAL search_path TO tenantry, pg_temp";

/// A tenant whose place another one has taken.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// Its id.
    pub id: Uuid,
    /// The slug that it had, and the other has now.
    pub slug: Slug,
    /// The organization's name, which the other has now, too.
    pub name: String,
    /// The slug that it has now.
    pub aside: Slug,
    /// What it was at; it is suspended now.
    pub status_before: String,
    /// How many tenant migrations its schema has had.
    pub schema_version: i32,
    pub(super) schema: SchemaName,
}

impl Importing {
    /// Enters the tenant into the catalog. Until it is resumed, none of the jobs that it leaves is done: no mail goes out.
    ///
    /// # Errors
    /// [`Error::SlugTaken`], or those of the database.
    pub async fn enter(
        &self,
        slug: SlugChoice,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Slug, ArchiveError> {
        self.run("UPDATE settings SET name = $1, created_at = $2", [name.into(), now.into()]).await?;
        let slug = self.insert(slug, name, now).await?;
        self.run("UPDATE tenantry.tenants SET mails_held = true WHERE id = $1", [self.id.into()]).await?;
        Ok(slug)
    }

    /// Enters the tenant into the catalog in the place of another one, of which it takes all that is not in the archive or
    /// may have changed since: slug, name and age, domains, plan and limits, status, and what its mails are at. The other
    /// one keeps everything else, is suspended, and gets a slug of its own.
    ///
    /// # Errors
    /// [`ArchiveError::OtherTenant`] if the archive is of neither the other one nor one whose place that took, unless
    /// `any_tenant`'s will do; [`Error::NoSuchTenant`], also for one that is being deleted or purged; or those of the
    /// database.
    pub async fn enter_for(
        &mut self,
        other: Uuid,
        any_tenant: bool,
        now: DateTime<Utc>,
    ) -> Result<Replaced, ArchiveError> {
        self.transaction.batch(CATALOG_PATH).await?;
        let replaced = self.put_aside(other, now).await?;
        let archived = &self.manifest.tenant;
        if !any_tenant && !is_or_replaced(&self.transaction, other, archived.id).await? {
            return Err(ArchiveError::of_other_tenant(archived));
        }
        self.insert(SlugChoice::Exactly(replaced.slug.clone()), &replaced.name, now).await?;
        self.run(
            "UPDATE settings SET name = o.name, created_at = o.created_at FROM tenantry.tenants o WHERE o.id = $1",
            [other.into()],
        )
        .await?;
        self.run(
            "UPDATE tenantry.tenants t SET limits = o.limits, plan = o.plan, mails_held = o.mails_held, \
             created_at = o.created_at FROM tenantry.tenants o WHERE t.id = $1 AND o.id = $2",
            [self.id.into(), other.into()],
        )
        .await?;
        self.run(
            "INSERT INTO tenantry.predecessors (tenant_id, predecessor) SELECT $1, $2::uuid \
             UNION SELECT $1, predecessor FROM tenantry.predecessors WHERE tenant_id = $2",
            [self.id.into(), other.into()],
        )
        .await?;
        self.run(
            "UPDATE tenantry.domains SET tenant_id = $1 WHERE tenant_id = $2",
            [self.id.into(), other.into()],
        )
        .await?;
        // Whoever was kept out is so still: that is not what was lost.
        if replaced.status_before == Status::Suspended.as_str() {
            let schema = &self.schema;
            self.run("UPDATE tenantry.tenants SET status = 'suspended' WHERE id = $1", [self.id.into()])
                .await?;
            self.transaction.batch(&format!(r#"REVOKE USAGE ON SCHEMA "{schema}" FROM "{schema}""#)).await?;
        }
        self.replaced = Some(other);
        Ok(replaced)
    }

    /// Runs this in the schema of the tenant that was replaced.
    ///
    /// # Errors
    /// Its own, or those of the database.
    pub async fn in_replaced<T, E: From<DbErr>>(
        &self,
        replaced: &Replaced,
        work: impl AsyncFnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = |schema: &SchemaName| format!(r#"SET LOCAL search_path TO "{schema}", pg_temp"#);
        self.transaction.batch(&path(&replaced.schema)).await?;
        let result = work(self).await?;
        self.transaction.batch(&path(&self.schema)).await?;
        Ok(result)
    }

    /// The tenant's row, its role's memberships, and its people in the index of addresses.
    async fn insert(&self, slug: SlugChoice, name: &str, now: DateTime<Utc>) -> Result<Slug, ArchiveError> {
        let Self { tenancy, transaction, id, schema, .. } = self;
        let lane = tenancy.lane_of(*id);
        transaction.batch(CATALOG_PATH).await?;
        let new = NewTenant { id: *id, slug, name: name.to_owned(), now };
        let slug = insert_row(transaction, &new, (schema, tenancy.migrations().version()), lane).await?;
        let (group, lane) = (tenancy.roles().tenants(), tenancy.roles().lane(lane));
        let maker = tenancy.role_maker();
        let announcement = Change::Tenant(*id).announcement();
        transaction
            .batch(&format!(
                r#"{announcement};
                {into_group};
                {to_lane};
                GRANT USAGE ON SCHEMA "{schema}" TO "{schema}";
                INSERT INTO tenantry.tenant_sizes (tenant_id, written_at) VALUES ('{id}', '{now}');
                SET LOCAL search_path TO "{schema}", pg_temp"#,
                into_group = maker.grant(&group, schema.as_str()),
                to_lane = maker.grant(schema.as_str(), &lane),
                now = now.to_rfc3339(),
            ))
            .await?;
        self.index_emails().await?;
        Ok(slug)
    }

    /// The index is keyed by this installation, so it is in no archive.
    async fn index_emails(&self) -> Result<(), ArchiveError> {
        let key = self.tenancy.key(DataKey::BlindIndex);
        let mut last = Uuid::nil();
        loop {
            let page = Statement::from_sql_and_values(
                DbBackend::Postgres,
                "SELECT pk, email_key FROM users WHERE pk > $1 ORDER BY pk LIMIT $2",
                [last.into(), ADDRESSES.into()],
            );
            let rows = self.query_all_raw(page).await?;
            let Some(end) = rows.last() else { return Ok(()) };
            last = end.try_get("", "pk")?;
            let mut hashes = Vec::with_capacity(rows.len());
            for row in &rows {
                let address: String = row.try_get("", "email_key")?;
                hashes.push(data_encoding::HEXLOWER.encode(&key.mac(address.as_bytes())));
            }
            self.run(
                "INSERT INTO tenantry.email_index (email_hash, tenant_id) \
                 SELECT decode(hash, 'hex'), $2 FROM string_to_table($1, ',') AS hash ON CONFLICT DO NOTHING",
                [hashes.join(",").into(), self.id.into()],
            )
            .await?;
        }
    }

    /// Suspends a tenant and gives it another slug. The path leads to the catalog.
    async fn put_aside(&self, other: Uuid, now: DateTime<Utc>) -> Result<Replaced, ArchiveError> {
        let nobody = || ArchiveError::from(Error::NoSuchTenant(other.to_string()));
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT slug, name, status, schema_name, schema_version FROM tenants WHERE id = $1 FOR NO KEY UPDATE",
            [other.into()],
        );
        let row = self.query_one_raw(statement).await?.ok_or_else(nobody)?;
        let status_before: String = row.try_get("", "status")?;
        if ![Status::Active, Status::Suspended].map(Status::as_str).contains(&status_before.as_str()) {
            return Err(nobody());
        }
        let damaged = |what: &str| Error::Damaged(format!("a tenant's {what}"));
        let slug: Slug = row.try_get::<String>("", "slug")?.parse().map_err(|_| damaged("slug"))?;
        let schema = SchemaName::own(&row.try_get::<String>("", "schema_name")?, other)?;
        let aside = self.free_slug(&slug, other, now).await?;
        self.run(
            "UPDATE tenants SET slug = $2, status = 'suspended', closed_at = NULL, status_before = NULL WHERE id = $1",
            [other.into(), aside.as_str().into()],
        )
        .await?;
        let announcement = Change::Tenant(other).announcement();
        self.transaction
            .batch(&format!(r#"REVOKE USAGE ON SCHEMA "{schema}" FROM "{schema}"; {announcement}"#))
            .await?;
        let (name, schema_version) = (row.try_get("", "name")?, row.try_get("", "schema_version")?);
        Ok(Replaced { id: other, slug, name, aside, status_before, schema_version, schema })
    }

    /// A slug with a number behind it that nobody has. Who takes it at this very moment makes this fail, to be tried again.
    async fn free_slug(&self, base: &Slug, but_by: Uuid, now: DateTime<Utc>) -> Result<Slug, ArchiveError> {
        for n in next_suffix(&self.transaction, base).await?..=MOST_SUFFIXES {
            let slug = base.numbered(n);
            let taken = Statement::from_sql_and_values(
                DbBackend::Postgres,
                "SELECT 1 AS found FROM tenants WHERE slug = $1",
                [slug.as_str().into()],
            );
            let taken = self.query_one_raw(taken).await?.is_some();
            if !taken && !is_released(&self.transaction, &slug, but_by, now).await? {
                return Ok(slug);
            }
        }
        Err(Error::SlugTaken.into())
    }
}

impl Tenancy {
    /// Whether an archive of one tenant is an earlier state of another: of that tenant itself, or of one whose place it took
    /// in a restore.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_earlier_state(&self, archived: Uuid, tenant: Uuid) -> Result<bool, Error> {
        Ok(is_or_replaced(self.catalog(), tenant, archived).await?)
    }
}

async fn is_or_replaced(db: &impl ConnectionTrait, tenant: Uuid, archived: Uuid) -> Result<bool, DbErr> {
    let replaced = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT 1 AS found FROM tenantry.predecessors WHERE tenant_id = $1 AND predecessor = $2",
        [tenant.into(), archived.into()],
    );
    Ok(tenant == archived || db.query_one_raw(replaced).await?.is_some())
}

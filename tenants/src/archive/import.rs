//! An archive becomes a tenant: in one transaction, so that it is there whole or not at all.

use std::{
    fs::File,
    io::{BufReader, Seek as _},
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::{
    mpsc,
    oneshot::{self, error::TryRecvError},
};
use uuid::Uuid;

use super::{
    error::ArchiveError,
    export::WAITING,
    format::{self, Checked, Manifest, Reader, Unpacker},
    indexes::Indexes,
    meter::Meter,
    tables,
};
use crate::{
    DataKey, Error, SchemaName, Slug, SlugChoice, Status, Tenancy, Tenant, TenantName,
    action::is_released,
    db::CatalogTx,
    listener::Change,
    provisioning::{NewTenant, insert_row, next_suffix},
};

/// How much is read of the file at once.
const BUFFER: usize = 64 * 1024;
/// How many addresses are hashed and written at once.
const ADDRESSES: i64 = 1_000;
/// How many slugs are tried for a tenant that makes room for its replacement.
const MOST_SUFFIXES: u32 = 10_000;
/// Where statements find the catalog.
const CATALOG_PATH: &str = "SET LOCAL search_path TO tenantry, pg_temp";

/// An archive that is whole and may be taken.
#[derive(Debug)]
pub struct CheckedArchive {
    file: File,
    checked: Checked,
}

impl CheckedArchive {
    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.checked.manifest
    }
}

/// A tenant that is loaded and not in the catalog yet. Statements run in its schema, as the schema's owner. Dropped without
/// [`commit`](Self::commit), nothing of it was ever there.
#[derive(Debug)]
pub struct Importing {
    tenancy: Tenancy,
    transaction: CatalogTx,
    id: Uuid,
    schema: SchemaName,
    manifest: Manifest,
    replaced: Option<Uuid>,
}

/// A tenant whose place another one has taken.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// Its id.
    pub id: Uuid,
    /// The slug that it had, and the other has now.
    pub slug: Slug,
    /// The slug that it has now.
    pub aside: Slug,
    /// What it was at; it is suspended now.
    pub status_before: String,
    /// How many tenant migrations its schema has had.
    pub schema_version: i32,
    schema: SchemaName,
}

impl Tenancy {
    /// Goes through an archive without unpacking it: that it is whole and may be taken, `trusted` or not.
    ///
    /// # Errors
    /// It may not, or cannot be read.
    pub async fn check_archive(&self, file: File, trusted: bool) -> Result<CheckedArchive, ArchiveError> {
        let installation = self.roles().installation().to_string();
        let key = self.key(DataKey::Archive).clone();
        let checking = tokio::task::spawn_blocking(move || {
            let reader = Reader { installation: &installation, key: &key, trusts: trusted };
            let checked = format::check(BufReader::with_capacity(BUFFER, &file), reader)?;
            (&file).rewind()?;
            Ok(CheckedArchive { file, checked })
        });
        checking.await.map_err(|_| ArchiveError::GivenUp)?
    }

    /// Makes the schema and the role of a new tenant with this id and loads an archive into it, up to the commit.
    ///
    /// # Errors
    /// PostgreSQL refuses what it holds; or those of the database and the file.
    pub async fn import(
        &self,
        archive: CheckedArchive,
        id: Uuid,
        meter: &Arc<Meter>,
    ) -> Result<Importing, ArchiveError> {
        let manifest = archive.manifest().clone();
        meter.expect(manifest.rows());
        let (schema, version) = (SchemaName::of(id), manifest.schema_version);
        let migrations = self.migrations().batch_between(&schema, 0, version);
        let transaction = self.bulk().begin().await?;
        // Its role is made now, because the migrations grant it its tables, and becomes a member of others at the end: who
        // grants a role keeps everybody else from granting it.
        transaction
            .batch(&format!(
                r#"SET LOCAL citus.enable_schema_based_sharding = on;
                CREATE SCHEMA "{schema}";
                SET LOCAL citus.enable_schema_based_sharding = off;
                CREATE ROLE "{schema}" NOLOGIN;
                SET LOCAL search_path TO "{schema}", pg_temp;
                {migrations}"#
            ))
            .await?;
        let indexes = Indexes::take_off(&transaction, &schema).await?;
        load(&transaction, archive, meter).await?;
        let importing =
            Importing { tenancy: self.clone(), transaction, id, schema, manifest, replaced: None };
        importing.adopt(version).await?;
        indexes.put_on(&importing.transaction).await.map_err(ArchiveError::of_contents)?;
        let later = self.migrations().batch(&importing.schema, version);
        let names: Vec<String> = tables::kept(version).map(|table| format!("\"{}\"", table.name)).collect();
        // Whoever comes first is not to wait for autovacuum to find out how large the tables are.
        importing
            .transaction
            .batch(&format!("{later}; ANALYZE {}", names.join(", ")))
            .await
            .map_err(ArchiveError::of_contents)?;
        Ok(importing)
    }
}

/// Loads all tables.
async fn load(
    transaction: &CatalogTx,
    archive: CheckedArchive,
    meter: &Arc<Meter>,
) -> Result<(), ArchiveError> {
    let (manifest, version) = (archive.manifest().clone(), archive.manifest().schema_version);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        manifest.tables.iter().map(|_| mpsc::channel::<Option<Vec<u8>>>(WAITING)).unzip();
    // Dropped with this future: whoever unpacks notices.
    let (_waits, waits) = oneshot::channel::<()>();
    let counted = Arc::clone(meter);
    let unpacking = tokio::task::spawn_blocking(move || unpack(archive, senders, waits, &counted));
    let mut copied = Ok(());
    for ((table, pieces), expected) in tables::kept(version).zip(receivers).zip(&manifest.tables) {
        copied = match transaction.copy_in(table.copy_in(version), pieces).await {
            // `\.` on a line ends a COPY, and PostgreSQL is silent about what comes after it.
            Ok(rows) if rows != expected.rows => Err(ArchiveError::Contents(format!(
                "of {} rows of {}, PostgreSQL took {rows}",
                expected.rows, expected.name
            ))),
            Ok(_) => Ok(()),
            Err(error) => Err(ArchiveError::of_contents(error)),
        };
        if copied.is_err() {
            break;
        }
    }
    // What was loaded counts once the file has come to its end, and that is the end it had.
    match unpacking.await.map_err(|_| ArchiveError::GivenUp)? {
        // It could not go on because the copy had failed.
        Err(ArchiveError::GivenUp) if copied.is_err() => copied,
        Err(error) => Err(error),
        Ok(()) => copied,
    }
}

/// Sends the pieces of each table to its COPY. What fails is told to the COPY that is going on: it must not end well.
fn unpack(
    archive: CheckedArchive,
    tables: Vec<mpsc::Sender<Option<Vec<u8>>>>,
    mut waits: oneshot::Receiver<()>,
    meter: &Meter,
) -> Result<(), ArchiveError> {
    let CheckedArchive { file, checked } = archive;
    let mut unpacker = Unpacker::begin(BufReader::with_capacity(BUFFER, file), checked)?;
    // Those that are still to come. Dropping one ends its COPY.
    let mut tables = tables.into_iter().enumerate().peekable();
    loop {
        let piece = match unpacker.next() {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(()),
            Err(error) => {
                for (_, table) in tables {
                    table.blocking_send(None).ok();
                }
                return Err(error);
            }
        };
        while tables.next_if(|(index, _)| *index < piece.table).is_some() {}
        let sent = tables.peek().and_then(|(_, table)| table.blocking_send(Some(piece.bytes)).ok());
        if sent.is_none() || waits.try_recv() == Err(TryRecvError::Closed) {
            return Err(ArchiveError::GivenUp);
        }
        meter.advance(piece.rows);
    }
}

impl Importing {
    /// The id of the new tenant.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What the archive says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What is about the tenant that was exported is about this one from now on.
    async fn adopt(&self, version: i32) -> Result<(), ArchiveError> {
        let settings = Statement::from_string(DbBackend::Postgres, "SELECT count(*) AS rows FROM settings");
        let rows: i64 = match self.query_one_raw(settings).await? {
            Some(row) => row.try_get("", "rows")?,
            None => 0,
        };
        if rows != 1 {
            return Err(ArchiveError::Contents(format!("{rows} rows of settings instead of one")));
        }
        if version < 3 {
            return Ok(());
        }
        for (table, kind, id) in [
            ("activities", "object_type", "object_id"),
            ("activities", "target_type", "target_id"),
            ("notifications", "object_type", "object_id"),
        ] {
            let sql = format!("UPDATE {table} SET {id} = $1 WHERE {kind} = 'organization'");
            self.run(&sql, [self.id.into()]).await?;
        }
        Ok(())
    }

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
        self.run("UPDATE settings SET name = $1", [name.into()]).await?;
        let slug = self.insert(slug, name, now).await?;
        self.run("UPDATE tenantry.tenants SET mails_held = true WHERE id = $1", [self.id.into()]).await?;
        Ok(slug)
    }

    /// Enters the tenant into the catalog in the place of another one: with its slug, its domains, its limits, its
    /// status and what its mails are at. The other one keeps everything else, is suspended, and gets a slug of its own.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], also for one that is being deleted or purged; or those of the database.
    pub async fn enter_for(&mut self, other: Uuid, now: DateTime<Utc>) -> Result<Replaced, ArchiveError> {
        self.transaction.batch(CATALOG_PATH).await?;
        let replaced = self.put_aside(other, now).await?;
        let name = self.manifest.tenant.name.clone();
        self.insert(SlugChoice::Exactly(replaced.slug.clone()), &name, now).await?;
        self.run(
            "UPDATE tenantry.tenants t SET limits = o.limits, plan = o.plan, mails_held = o.mails_held \
             FROM tenantry.tenants o WHERE t.id = $1 AND o.id = $2",
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

    /// Commits. From here on the tenant is there for everybody.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commit(self) -> Result<Arc<Tenant>, ArchiveError> {
        let Self { tenancy, transaction, id, replaced, .. } = self;
        transaction.commit().await?;
        // The announcements come here too, but a moment later.
        for changed in replaced.into_iter().chain([id]) {
            tenancy.resolver().changed(changed);
        }
        let tenant = tenancy.resolver().resolve(TenantName::Id(id)).await?;
        Ok(tenant.ok_or_else(|| Error::Damaged(format!("tenant {id} is gone right after its commit")))?)
    }

    /// The tenant's row, its role's memberships, and its people in the index of addresses.
    async fn insert(&self, slug: SlugChoice, name: &str, now: DateTime<Utc>) -> Result<Slug, ArchiveError> {
        let Self { tenancy, transaction, id, schema, .. } = self;
        let lane = tenancy.lane_of(*id);
        transaction.batch(CATALOG_PATH).await?;
        let new = NewTenant { id: *id, slug, name: name.to_owned(), now };
        let slug = insert_row(transaction, &new, (schema, tenancy.migrations().version()), lane).await?;
        let (group, lane) = (tenancy.roles().tenants(), tenancy.roles().lane(lane));
        let announcement = Change::Tenant(*id).announcement();
        transaction
            .batch(&format!(
                r#"{announcement};
                GRANT "{group}" TO "{schema}";
                GRANT "{schema}" TO "{lane}";
                GRANT USAGE ON SCHEMA "{schema}" TO "{schema}";
                SET LOCAL search_path TO "{schema}", pg_temp"#
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
            "SELECT slug, status, schema_name, schema_version FROM tenants WHERE id = $1 FOR NO KEY UPDATE",
            [other.into()],
        );
        let row = self.query_one_raw(statement).await?.ok_or_else(nobody)?;
        let status_before: String = row.try_get("", "status")?;
        if ![Status::Active, Status::Suspended].map(Status::as_str).contains(&status_before.as_str()) {
            return Err(nobody());
        }
        let damaged = |what: &str| Error::Damaged(format!("a tenant's {what}"));
        let slug: Slug = row.try_get::<String>("", "slug")?.parse().map_err(|_| damaged("slug"))?;
        let schema: SchemaName =
            row.try_get::<String>("", "schema_name")?.parse().map_err(|_| damaged("schema name"))?;
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
        let schema_version = row.try_get("", "schema_version")?;
        Ok(Replaced { id: other, slug, aside, status_before, schema_version, schema })
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

    async fn run(&self, sql: &str, values: impl IntoIterator<Item = sea_orm::Value>) -> Result<(), DbErr> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        self.execute_raw(statement).await.map(|_| ())
    }
}

#[async_trait]
impl ConnectionTrait for Importing {
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

//! An archive becomes a tenant: in one transaction, so that it is there whole or not at all.

use std::{
    fs::File,
    io::{BufReader, Seek as _},
    sync::Arc,
};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use uuid::Uuid;

use super::{
    derived,
    error::ArchiveError,
    format::{self, Checked, Manifest, Reader},
    indexes::Indexes,
    inspection::{self, Inspection},
    loading::load,
    meter::Meter,
    tables,
};
use crate::{DataKey, Error, SchemaName, Tenancy, Tenant, TenantName, db::CatalogTx};

/// How much is read of the file at once.
pub(super) const BUFFER: usize = 64 * 1024;

/// An archive that is whole and may be taken.
#[derive(Debug)]
pub struct CheckedArchive {
    pub(super) file: File,
    pub(super) checked: Checked,
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
    pub(super) tenancy: Tenancy,
    pub(super) transaction: CatalogTx,
    pub(super) id: Uuid,
    pub(super) schema: SchemaName,
    pub(super) manifest: Manifest,
    pub(super) replaced: Option<Uuid>,
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

    /// Makes the schema and the role of a new tenant with this id and loads an archive into it, up to the commit. Its rows
    /// are such as the application would have written, and what follows from them is made anew.
    ///
    /// # Errors
    /// PostgreSQL or the application refuses what it holds; or those of the database and the file.
    pub async fn import(
        &self,
        archive: CheckedArchive,
        id: Uuid,
        application: &dyn Inspection,
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
                {create_role};
                SET LOCAL search_path TO "{schema}", pg_temp;
                {migrations}"#,
                create_role = self.role_maker().create(schema.as_str()),
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
        inspection::inspect(&importing, application).await?;
        derived::settle(&importing.transaction).await?;
        Ok(importing)
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

    pub(super) async fn run(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<(), DbErr> {
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

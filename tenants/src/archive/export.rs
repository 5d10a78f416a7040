//! A tenant's tables, in one snapshot, into an archive.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::sync::{
    mpsc,
    oneshot::{self, error::TryRecvError},
};
use uuid::Uuid;

use super::{
    error::ArchiveError,
    format::{self, ArchivedTenant, Header, Manifest, Packer},
    frames::CHUNK,
    meter::Meter,
    tables::{self, Table},
};
use crate::{DataKey, Error, SchemaName, SecretKey, Tenancy, db::CatalogTx};

/// How often to begin again because the schema was migrated between two looks at its version.
const TRIES: u32 = 3;
/// How many pieces wait between PostgreSQL and the file.
pub(super) const WAITING: usize = 2;

/// Whose archive this is and when it was made, as its header says it; whether that is so is not checked.
///
/// # Errors
/// It is no archive, or cannot be read.
pub fn peek(input: impl Read) -> Result<(String, ArchivedTenant, DateTime<Utc>), ArchiveError> {
    let Header { installation, tenant, created_at, .. } = format::header(input)?;
    Ok((installation, tenant, created_at))
}

/// A tenant whose tables are locked, in a snapshot taken after that.
struct Snapshot {
    transaction: CatalogTx,
    header: Header,
    tables: Vec<&'static Table>,
}

impl Tenancy {
    /// Writes an archive of a tenant, whatever its status: all its tables as they are at one moment.
    ///
    /// # Errors
    /// [`ArchiveError::NoSuchTenant`], or those of the database and of the file.
    pub async fn export<W: Write + Send + 'static>(
        &self,
        tenant: Uuid,
        out: W,
        now: DateTime<Utc>,
        meter: &Arc<Meter>,
    ) -> Result<(W, Manifest), ArchiveError> {
        let Snapshot { transaction, header, tables } = self.snapshot(tenant, now).await?;
        meter.expect(estimate(&transaction, &header).await?);
        let version = header.schema_version;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            tables.iter().map(|_| mpsc::channel::<Vec<u8>>(WAITING)).unzip();
        let (all, is_all) = oneshot::channel();
        let key = self.key(DataKey::Archive).clone();
        let counted = Arc::clone(meter);
        let packing =
            tokio::task::spawn_blocking(move || pack(out, header, receivers, is_all, &key, &counted));
        let mut copied = Ok(());
        for (table, pieces) in tables.iter().zip(senders) {
            copied = transaction.copy_out(table.copy_out(version), CHUNK, pieces).await;
            if copied.is_err() {
                break;
            }
        }
        if copied.is_ok() {
            // Whoever packs and has stopped says why below.
            all.send(()).ok();
        } else {
            drop(all);
        }
        let packed = packing.await.map_err(|_| ArchiveError::GivenUp)?;
        match (packed, copied) {
            (Err(error), Ok(())) => Err(error),
            // The one that stopped last only says that the other did.
            (Err(error), Err(_)) if !matches!(error, ArchiveError::GivenUp) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (Ok(packed), Ok(())) => Ok(packed),
        }
    }

    /// A migration changes the tables at once, and the version only for those who look later: so the tables are locked
    /// first, and the version is looked at afterwards, in the snapshot.
    async fn snapshot(&self, tenant: Uuid, now: DateTime<Utc>) -> Result<Snapshot, ArchiveError> {
        for _ in 0..TRIES {
            let (_, schema, version) =
                read_tenant(self.catalog(), tenant).await?.ok_or(ArchiveError::NoSuchTenant)?;
            let tables: Vec<&Table> = tables::kept(version).collect();
            let names: Vec<String> = tables.iter().map(|table| format!("\"{}\"", table.name)).collect();
            let transaction = self.bulk().begin().await?;
            transaction
                .batch(&format!(
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
                     SET LOCAL search_path TO \"{schema}\", pg_temp; \
                     LOCK TABLE {} IN ACCESS SHARE MODE",
                    names.join(", ")
                ))
                .await?;
            let Some((tenant, _, found)) = read_tenant(&transaction, tenant).await? else {
                return Err(ArchiveError::NoSuchTenant);
            };
            if found == version {
                let columns = tables::contents_of(version);
                let columns = columns.into_iter().map(|(name, columns)| {
                    (name.to_owned(), columns.into_iter().map(str::to_owned).collect())
                });
                let header = Header {
                    installation: self.roles().installation().to_string(),
                    tenant,
                    schema_version: version,
                    created_at: now,
                    tables: columns.collect(),
                };
                return Ok(Snapshot { transaction, header, tables });
            }
        }
        Err(Error::Damaged("the tenant is being migrated again and again".into()).into())
    }
}

async fn read_tenant(
    db: &impl ConnectionTrait,
    id: Uuid,
) -> Result<Option<(ArchivedTenant, SchemaName, i32)>, ArchiveError> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT slug, name, schema_name, schema_version FROM tenantry.tenants \
         WHERE id = $1 AND status <> 'purging'",
        [id.into()],
    );
    let Some(row) = db.query_one_raw(statement).await? else { return Ok(None) };
    let schema: String = row.try_get("", "schema_name")?;
    let schema = SchemaName::own(&schema, id)?;
    let tenant = ArchivedTenant { id, slug: row.try_get("", "slug")?, name: row.try_get("", "name")? };
    Ok(Some((tenant, schema, row.try_get("", "schema_version")?)))
}

/// How many rows PostgreSQL believes there are: to count them would take as long as to read them.
async fn estimate(transaction: &CatalogTx, header: &Header) -> Result<u64, ArchiveError> {
    let names: Vec<&str> = header.tables.iter().map(|(name, _)| name.as_str()).collect();
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT coalesce(sum(pg_stat_get_live_tuples(name::regclass)), 0)::bigint AS rows \
         FROM string_to_table($1, ',') AS name",
        [names.join(",").into()],
    );
    let rows: i64 = match transaction.query_one_raw(statement).await? {
        Some(row) => row.try_get("", "rows")?,
        None => 0,
    };
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// Packs what comes, table after table. Sealed is only what is all.
fn pack<W: Write>(
    out: W,
    header: Header,
    tables: Vec<mpsc::Receiver<Vec<u8>>>,
    mut is_all: oneshot::Receiver<()>,
    key: &SecretKey,
    meter: &Meter,
) -> Result<(W, Manifest), ArchiveError> {
    let mut packer = Packer::begin(out, header)?;
    let mut complete = false;
    for (table, mut pieces) in (0..).zip(tables) {
        while let Some(piece) = pieces.blocking_recv() {
            match is_all.try_recv() {
                Ok(()) => complete = true,
                // Nobody waits for it any more.
                Err(TryRecvError::Closed) if !complete => return Err(ArchiveError::GivenUp),
                Err(_) => {}
            }
            meter.advance(packer.add(table, &piece)?);
        }
    }
    if !complete {
        is_all.blocking_recv().map_err(|_| ArchiveError::GivenUp)?;
    }
    packer.end(key)
}

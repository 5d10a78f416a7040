//! The end of a tenant: everything it has is dropped, a few tables in each transaction.
//!
//! A purge may be cut off between any two of them, and goes on from what is left. The tenant's row is there until the last
//! one, and says from before the first one that nothing can be restored any more.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Error, SchemaName, Tenancy,
    action::KEPT,
    db::CatalogTx,
    dropping::{Dropped, counted, databases_holding, left_in, next_of, statement},
    listener::Change,
    resolution::Status,
};

/// How many rows of the catalog a statement deletes.
const BATCH: i64 = 10_000;
/// What is gone of a tenant that is being purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Tables that were dropped; and views and sequences, where somebody had put some there.
    pub tables: u64,
    /// The rows that were in them.
    pub rows: u64,
    /// The tenant's rows in the catalog that were deleted: hosts, jobs, hashes of addresses.
    pub catalog_rows: u64,
}

/// What was looked for when all was gone, and is not there. Each is true, but the role's where another database keeps it; what
/// else is not keeps the purge from ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "a list of what was looked for")]
pub struct Absent {
    /// The schema.
    pub schema: bool,
    /// The role.
    pub role: bool,
    /// Every row of the catalog that belongs to the tenant.
    pub catalog_rows: bool,
    /// The tenant's own row.
    pub tenant: bool,
}

/// A tenant that is being purged.
#[derive(Clone, Debug)]
pub struct Purging {
    tenancy: Tenancy,
    /// Its id.
    pub id: Uuid,
    /// Its slug.
    pub slug: String,
    /// The organization's name.
    pub name: String,
    /// Its schema, and its role of the same name.
    pub schema: SchemaName,
    /// When it was closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// What was gone when this was read.
    pub purged: Purged,
}

/// A tenant of which nothing is left, once this is committed. Dropped, the last step was not made.
#[derive(Debug)]
pub struct LastStep {
    tenancy: Tenancy,
    transaction: CatalogTx,
    id: Uuid,
    /// All that was dropped.
    pub purged: Purged,
    /// What was looked for, and is not there any more.
    pub absent: Absent,
    /// The databases in which somebody gave the role rights, so that PostgreSQL keeps it.
    pub role_held_in: Vec<String>,
}

impl Tenancy {
    /// Begins to purge a tenant that was closed at this time, or goes on with it. `None` if there is none: all is gone. From
    /// here on it cannot be restored.
    ///
    /// # Errors
    /// [`Error::NotClosed`] if it was restored since, or those of the database.
    pub async fn purge(&self, id: Uuid, closed_at: DateTime<Utc>) -> Result<Option<Purging>, Error> {
        let transaction = self.owner().begin().await?;
        let Some(purging) = self.read_purging(&transaction, id).await? else { return Ok(None) };
        let (status, purging) = purging;
        match status {
            Status::Purging => return Ok(Some(purging)),
            Status::Deleting if purging.closed_at == Some(closed_at) => {}
            _ => return Err(Error::NotClosed),
        }
        let none = serde_json::json!(Purged::default());
        let update = "UPDATE tenants SET status = 'purging', purged = $2 WHERE id = $1";
        transaction.execute_raw(statement(update, [id.into(), none.into()])).await?;
        transaction.batch(&Change::Tenant(id).announcement()).await?;
        transaction.commit().await?;
        self.resolver().changed(id);
        Ok(Some(purging))
    }

    /// The tenant, its row locked.
    async fn read_purging(
        &self,
        transaction: &CatalogTx,
        id: Uuid,
    ) -> Result<Option<(Status, Purging)>, Error> {
        let select = "SELECT slug, name, schema_name, status, closed_at, purged FROM tenants \
                      WHERE id = $1 FOR NO KEY UPDATE";
        let Some(row) = transaction.query_one_raw(statement(select, [id.into()])).await? else {
            return Ok(None);
        };
        let schema = SchemaName::own(&row.try_get::<String>("", "schema_name")?, id)?;
        let purged: Option<serde_json::Value> = row.try_get("", "purged")?;
        let purging = Purging {
            tenancy: self.clone(),
            id,
            slug: row.try_get("", "slug")?,
            name: row.try_get("", "name")?,
            schema,
            closed_at: row.try_get("", "closed_at")?,
            purged: purged.and_then(|purged| serde_json::from_value(purged).ok()).unwrap_or_default(),
        };
        Ok(Some((row.try_get::<String>("", "status")?.parse()?, purging)))
    }

    /// Up to `limit` tenants whose grace period ended before this time and that nobody purges: their ids, and when each was
    /// closed. One whose purge failed has its next turn a day later.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tenants_to_purge(
        &self,
        closed_before: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Uuid>, Error> {
        let select = "SELECT t.id FROM tenants t WHERE t.status IN ('deleting', 'purging') AND t.closed_at < $1 \
             AND NOT EXISTS (SELECT FROM operations o WHERE o.tenant_id = t.id AND o.is_exclusive \
                 AND (o.status IN ('queued', 'running') OR (o.kind = 'tenant.purge' AND o.created_at > $2))) \
             ORDER BY t.closed_at, t.id LIMIT $3";
        let yesterday = now - chrono::TimeDelta::days(1);
        let values = [closed_before.into(), yesterday.into(), i64::from(limit).into()];
        let rows = self.catalog().query_all_raw(statement(select, values)).await?;
        Ok(rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, DbErr>>()?)
    }
}

impl Purging {
    /// What is left in the schema.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn left(&self) -> Result<Vec<Dropped>, Error> {
        left_in(&self.tenancy, &self.schema).await
    }

    /// The first few of these, as many as there are locks for now, one at least; and the others.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn next_of<'a>(&self, left: &'a [Dropped]) -> Result<(&'a [Dropped], &'a [Dropped]), Error> {
        next_of(&self.tenancy, left).await
    }

    /// Drops these, and notes that in the same transaction. What was gone already does not count.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn drop_these(&self, these: &[Dropped]) -> Result<(), Error> {
        let (transaction, mut purged) = self.hold().await?;
        for it in these {
            it.drop_from(&transaction, &self.schema, &mut purged).await?;
        }
        self.note(&transaction, purged).await?;
        Ok(transaction.commit().await?)
    }

    /// Deletes some of the tenant's rows in the catalog. Whether there were any.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete_some_rows(&self) -> Result<bool, Error> {
        let (transaction, mut purged) = self.hold().await?;
        let mut deleted = 0;
        for (table, column) in of_tenants(&transaction).await? {
            let delete = format!(
                "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {column} = $1 LIMIT {BATCH}))"
            );
            deleted += transaction.execute_raw(statement(delete, [self.id.into()])).await?.rows_affected();
        }
        purged.catalog_rows += deleted;
        self.note(&transaction, purged).await?;
        transaction.commit().await?;
        Ok(deleted > 0)
    }

    /// Drops the schema, empty by now, the role and the tenant's row, gives its slug up, and looks whether anything is left;
    /// up to the commit. A role that PostgreSQL keeps is taken from its lane, so that nobody can act as it, and stays in the
    /// group, by which it is known as ours and nobody's.
    ///
    /// # Errors
    /// Something is left, or those of the database.
    pub async fn last_step(&self, now: DateTime<Utc>) -> Result<LastStep, Error> {
        let (transaction, mut purged) = self.hold().await?;
        let (id, schema) = (self.id, &self.schema);
        // What came since, a mail that somebody left just before the tenant was closed, goes with the row.
        for (table, column) in of_tenants(&transaction).await? {
            let delete = format!("DELETE FROM {table} WHERE {column} = $1");
            purged.catalog_rows +=
                transaction.execute_raw(statement(delete, [id.into()])).await?.rows_affected();
        }
        transaction.batch(&format!(r#"DROP SCHEMA IF EXISTS "{schema}" CASCADE"#)).await?;
        let role_held_in = databases_holding(&transaction, schema.as_str()).await?;
        let maker = self.tenancy.role_maker();
        if role_held_in.is_empty() {
            transaction.batch(&maker.drop(schema.as_str())).await?;
        } else {
            for lane in self.lanes(&transaction).await? {
                transaction.batch(&maker.revoke(schema.as_str(), &lane)).await?;
            }
        }
        let release = "INSERT INTO released_slugs (tenant_id, slug, released_at, free_from) \
             SELECT id, slug, $2, $3 FROM tenants WHERE id = $1 \
             ON CONFLICT ON CONSTRAINT released_slugs_pkey DO UPDATE SET tenant_id = EXCLUDED.tenant_id, \
                 released_at = EXCLUDED.released_at, free_from = EXCLUDED.free_from";
        transaction.execute_raw(statement(release, [id.into(), now.into(), (now + KEPT).into()])).await?;
        transaction.execute_raw(statement("DELETE FROM tenants WHERE id = $1", [id.into()])).await?;
        let absent = self.absent(&transaction, role_held_in.is_empty()).await?;
        transaction.batch(&Change::Tenant(id).announcement()).await?;
        Ok(LastStep { tenancy: self.tenancy.clone(), transaction, id, purged, absent, role_held_in })
    }

    /// The lanes that may act as the tenant.
    async fn lanes(&self, transaction: &CatalogTx) -> Result<Vec<String>, DbErr> {
        let select = "SELECT w.rolname::text AS name FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid \
             JOIN pg_roles w ON w.oid = m.member WHERE r.rolname = $1 AND starts_with(w.rolname::text, $2)";
        let values = [self.schema.as_str().into(), self.tenancy.roles().lane_prefix().into()];
        let rows = transaction.query_all_raw(statement(select, values)).await?;
        rows.iter().map(|row| row.try_get("", "name")).collect()
    }

    /// Looks for what may be left.
    async fn absent(&self, transaction: &CatalogTx, role: bool) -> Result<Absent, Error> {
        let select = "SELECT to_regnamespace($1) IS NULL AS schema, \
                 NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS role, \
                 NOT EXISTS (SELECT FROM tenants WHERE id = $2) AS tenant";
        let values = [self.schema.as_str().into(), self.id.into()];
        let row = transaction.query_one_raw(statement(select, values)).await?;
        let row = row.ok_or_else(|| Error::Damaged("no answer".into()))?;
        let mut left = 0;
        for (table, column) in of_tenants(transaction).await? {
            let count = format!("SELECT count(*) AS rows FROM {table} WHERE {column} = $1");
            left += counted(transaction.query_one_raw(statement(count, [self.id.into()])).await?, "rows")?;
        }
        let absent = Absent {
            schema: row.try_get("", "schema")?,
            role: row.try_get("", "role")?,
            catalog_rows: left == 0,
            tenant: row.try_get("", "tenant")?,
        };
        if absent == (Absent { schema: true, role, catalog_rows: true, tenant: true }) {
            Ok(absent)
        } else {
            Err(Error::Damaged(format!("something of the tenant is left after its purge: {absent:?}")))
        }
    }

    /// A transaction that has the tenant's row, and what is gone by now.
    async fn hold(&self) -> Result<(CatalogTx, Purged), Error> {
        let transaction = self.tenancy.owner().begin().await?;
        match self.tenancy.read_purging(&transaction, self.id).await? {
            Some((Status::Purging, now)) => Ok((transaction, now.purged)),
            Some(_) => Err(Error::NotClosed),
            // Another process took this for dead and has come to the end.
            None => Err(Error::NoSuchTenant(self.slug.clone())),
        }
    }

    async fn note(&self, transaction: &CatalogTx, purged: Purged) -> Result<(), DbErr> {
        let update = "UPDATE tenants SET purged = $2 WHERE id = $1";
        let values = [self.id.into(), serde_json::json!(purged).into()];
        transaction.execute_raw(statement(update, values)).await.map(|_| ())
    }
}

impl LastStep {
    /// Where to write what is to be there if and only if this was done.
    #[must_use]
    pub fn transaction(&self) -> &CatalogTx {
        &self.transaction
    }

    /// Commits, and tells every process.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commit(self) -> Result<(), Error> {
        self.transaction.commit().await?;
        self.tenancy.resolver().changed(self.id);
        Ok(())
    }
}

/// The tables of the catalog whose rows belong to a tenant, and the column that says to which: those that refer to its row.
/// What is to outlive it does not: audit log, operations, slugs that were given up.
async fn of_tenants(transaction: &CatalogTx) -> Result<Vec<(String, String)>, DbErr> {
    let select = "SELECT c.conrelid::regclass::text AS of, quote_ident(a.attname) AS by FROM pg_constraint c \
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] \
         WHERE c.contype = 'f' AND c.confrelid = 'tenantry.tenants'::regclass ORDER BY 1";
    let rows = transaction.query_all_raw(statement(select, [])).await?;
    rows.iter().map(|row| Ok((row.try_get("", "of")?, row.try_get("", "by")?))).collect()
}

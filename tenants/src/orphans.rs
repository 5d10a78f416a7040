//! What belongs to no tenant: schemas and roles whose row is gone. Nothing of ours leaves such behind, because a tenant's
//! row, schema and role come and go together; a restore of a part of the database does, or somebody's hand.

use sea_orm::{ConnectionTrait, DbErr};

use crate::{
    Error, Fault, Purged, SchemaName, Tenancy,
    db::CatalogTx,
    dropping::{databases_holding, left_in, next_of, quoted, statement},
    fault,
};

/// What a schema of a tenant is called.
const SCHEMA: &str = "'^t_[0-9a-v]{26}$'";

/// Something that belongs to no tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The schema, if there is one, or else the role; it has the name of both.
    pub name: SchemaName,
    /// Whether there is a schema.
    pub has_schema: bool,
    /// Whether there are rows in it, those aside that say which migrations it has had.
    pub has_rows: bool,
    /// Whether there is a role of this installation.
    pub has_role: bool,
}

impl Tenancy {
    /// All of them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn orphans(&self) -> Result<Vec<Orphan>, Error> {
        // A role without a schema is ours if it is in our group of tenants; another database of the cluster has others.
        let select = format!(
            "SELECT found.name, bool_or(is_schema) AS has_schema, bool_or(NOT is_schema) AS has_role FROM ( \
                 SELECT nspname::text AS name, true AS is_schema FROM pg_namespace WHERE nspname ~ {SCHEMA} \
                 UNION ALL SELECT r.rolname::text, false FROM pg_roles r WHERE r.rolname ~ {SCHEMA} AND EXISTS ( \
                     SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid \
                     WHERE m.member = r.oid AND g.rolname = $1)) AS found \
             WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.schema_name = found.name) \
             GROUP BY found.name ORDER BY found.name"
        );
        let rows = self.owner().query_all_raw(statement(select, [self.roles().tenants().into()])).await?;
        let mut orphans = Vec::with_capacity(rows.len());
        for row in rows {
            // What only looks like one of our names is somebody else's.
            let Ok(name) = row.try_get::<String>("", "name")?.parse::<SchemaName>() else { continue };
            // Its tenant's row names another one; `doctor` tells of it.
            if self.has_tenant(&name).await? {
                continue;
            }
            let has_schema = row.try_get("", "has_schema")?;
            let has_rows = has_schema && self.has_rows(&name).await?;
            orphans.push(Orphan { name, has_schema, has_rows, has_role: row.try_get("", "has_role")? });
        }
        Ok(orphans)
    }

    /// Whether it would be the schema of a tenant there is.
    async fn has_tenant(&self, schema: &SchemaName) -> Result<bool, Error> {
        let select = "SELECT id FROM tenants WHERE id = $1";
        let Some(tenant) = schema.tenant() else { return Ok(false) };
        Ok(self.owner().query_one_raw(statement(select, [tenant.into()])).await?.is_some())
    }

    /// Whether there is anything in a schema that somebody may miss. What cannot be read may be missed, too.
    async fn has_rows(&self, schema: &SchemaName) -> Result<bool, Error> {
        let select = "SELECT c.relname::text AS name FROM pg_class c WHERE c.relnamespace = to_regnamespace($1) \
             AND c.relkind IN ('r', 'p', 'm', 'f') AND c.relname <> 'schema_migrations'";
        for row in self.owner().query_all_raw(statement(select, [schema.as_str().into()])).await? {
            let table = quoted(schema, &row.try_get::<String>("", "name")?);
            let any = statement(format!("SELECT EXISTS (SELECT FROM {table}) AS any"), []);
            match self.owner().query_one_raw(any).await {
                Ok(row) => {
                    if row.map_or(Ok::<_, DbErr>(false), |row| row.try_get("", "any"))? {
                        return Ok(true);
                    }
                }
                Err(error) if fault(&error) == Fault::TenantChanged => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Whether something is under way by which a schema may come to be before its tenant.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn has_operations(&self) -> Result<bool, Error> {
        let select = "SELECT EXISTS (SELECT FROM operations WHERE status IN ('queued', 'running')) AS any";
        let row = self.catalog().query_one_raw(statement(select, [])).await?;
        Ok(row.map_or(Ok(false), |row| row.try_get("", "any"))?)
    }

    /// Drops a schema and a role that belong to no tenant, a few tables in each transaction. Cut off, it goes on when it is
    /// asked for again.
    ///
    /// # Errors
    /// [`Error::NoOrphan`], [`Error::RoleHeld`] when all but the role is gone, or those of the database.
    pub async fn drop_orphan(&self, name: &SchemaName) -> Result<Purged, Error> {
        let mut purged = Purged::default();
        let all = left_in(self, name).await?;
        let mut left = &all[..];
        while !left.is_empty() {
            let (these, rest) = next_of(self, left).await?;
            let transaction = self.begin_on_orphan(name).await?;
            for it in these {
                it.drop_from(&transaction, name, &mut purged).await?;
            }
            transaction.commit().await?;
            left = rest;
        }
        let transaction = self.begin_on_orphan(name).await?;
        transaction.batch(&format!(r#"DROP SCHEMA IF EXISTS "{name}" CASCADE"#)).await?;
        let held_in = databases_holding(&transaction, name.as_str()).await?;
        if held_in.is_empty() {
            transaction.batch(&self.role_maker().drop(name.as_str())).await?;
        }
        transaction.commit().await?;
        if held_in.is_empty() {
            Ok(purged)
        } else {
            Err(Error::RoleHeld(name.to_string(), held_in.join(", ")))
        }
    }

    async fn begin_on_orphan(&self, name: &SchemaName) -> Result<CatalogTx, Error> {
        let transaction = self.owner().begin().await?;
        let select = "SELECT NOT EXISTS (SELECT FROM tenants WHERE schema_name = $1) \
             AND (to_regnamespace($1) IS NOT NULL OR EXISTS (SELECT FROM pg_roles r JOIN pg_auth_members m \
                 ON m.member = r.oid JOIN pg_roles g ON g.oid = m.roleid WHERE r.rolname = $1 AND g.rolname = $2)) AS is_one";
        let values = [name.as_str().into(), self.roles().tenants().into()];
        let row = transaction.query_one_raw(statement(select, values)).await?;
        let is_one = row.map_or(Ok::<_, DbErr>(false), |row| row.try_get("", "is_one"))?
            && !self.has_tenant(name).await?;
        if is_one { Ok(transaction) } else { Err(Error::NoOrphan(name.to_string())) }
    }
}

//! Dropping what is in a schema, a part in each transaction.
//!
//! `DROP SCHEMA` of a whole tenant takes a lock for each of its objects, 518 for 30 tables, out of a table of locks that the
//! whole server shares: when that is full, everybody's statements fail. So each transaction takes a part of what is free.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, QueryResult, Statement, Value};

use crate::{Error, Purged, SchemaName, Tenancy, db::CatalogTx};

/// How many locks a transaction takes at most, however many are free: some ten tables, a moment's work.
const MOST_LOCKS: i64 = 200;
/// The part of the server's locks that a purge may have, others' included: who takes locks meanwhile finds the rest.
const PART: i64 = 4;
/// To count and drop a table of a billion rows takes longer than other statements may.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(15);

/// Something in a tenant's schema that is dropped by itself.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Dropped {
    name: String,
    /// As `DROP` calls it.
    kind: String,
    /// How many locks that takes.
    locks: i64,
}

pub(crate) fn statement(sql: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

impl Dropped {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many locks dropping it takes.
    #[must_use]
    pub fn locks(&self) -> i64 {
        self.locks
    }

    /// Drops it, and counts it. What is gone already does not count.
    pub(crate) async fn drop_from(
        &self,
        transaction: &CatalogTx,
        schema: &SchemaName,
        purged: &mut Purged,
    ) -> Result<(), DbErr> {
        let (name, kind) = (quoted(schema, &self.name), &self.kind);
        transaction.allow(STATEMENT_TIMEOUT).await?;
        let select = "SELECT has_table_privilege(oid, 'SELECT') AS readable, \
             pg_stat_get_live_tuples(oid) AS rows FROM pg_class WHERE oid = to_regclass($1)";
        let found = transaction.query_one_raw(statement(select, [name.clone().into()])).await?;
        let Some(found) = found else { return Ok(()) };
        if kind == "TABLE" && found.try_get("", "readable")? {
            let count = format!("SELECT count(*) AS rows FROM {name}");
            purged.rows += counted(transaction.query_one_raw(statement(count, [])).await?, "rows")?;
        } else if kind == "TABLE" {
            // Somebody else's, put there by hand: the owner of the schema may drop it, and not look into it.
            purged.rows += counted(Some(found), "rows")?;
        }
        transaction.batch(&format!("DROP {kind} {name} CASCADE")).await?;
        purged.tables += 1;
        Ok(())
    }
}

/// What is in a schema, each thing with the locks that dropping it takes: as many as there are objects that depend on it,
/// itself among them.
pub(crate) async fn left_in(tenancy: &Tenancy, schema: &SchemaName) -> Result<Vec<Dropped>, Error> {
    let select = "WITH RECURSIVE part (root, class, object) AS ( \
             SELECT c.oid, 'pg_class'::regclass::oid, c.oid FROM pg_class c \
             WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
             UNION \
             SELECT part.root, d.classid, d.objid FROM part JOIN pg_depend d \
             ON d.refclassid = part.class AND d.refobjid = part.object) \
         SELECT c.relname::text AS name, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' \
             WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, count(*) AS locks \
         FROM part JOIN pg_class c ON c.oid = part.root GROUP BY c.oid, c.relname, c.relkind \
         ORDER BY c.relkind IN ('v', 'm') DESC, c.relname";
    let select = statement(select, [schema.as_str().into()]);
    Ok(Dropped::find_by_statement(select).all(tenancy.owner()).await?)
}

/// The first few of these, as many as there are locks for now, one at least; and the others.
pub(crate) async fn next_of<'a>(
    tenancy: &Tenancy,
    left: &'a [Dropped],
) -> Result<(&'a [Dropped], &'a [Dropped]), Error> {
    let select = "SELECT current_setting('max_locks_per_transaction')::bigint \
             * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint) \
             AS capacity, (SELECT count(*) FROM pg_locks WHERE NOT fastpath) AS taken";
    let row = tenancy.owner().query_one_raw(statement(select, [])).await?;
    let budget = match row {
        Some(row) => budget(row.try_get("", "capacity")?, row.try_get("", "taken")?),
        None => 0,
    };
    Ok(left.split_at(within(left, budget)))
}

/// The databases in which a role has rights, or on which: PostgreSQL drops none that has some. Anybody can give a role of
/// another installation rights on what is his.
pub(crate) async fn databases_holding(transaction: &CatalogTx, role: &str) -> Result<Vec<String>, DbErr> {
    let select = "SELECT DISTINCT d.datname::text AS name FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid \
         JOIN pg_database d ON d.oid = CASE WHEN s.dbid <> 0 THEN s.dbid \
             WHEN s.classid = 'pg_database'::regclass THEN s.objid END \
         WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = $1 ORDER BY 1";
    let rows = transaction.query_all_raw(statement(select, [role.into()])).await?;
    rows.iter().map(|row| row.try_get("", "name")).collect()
}

/// The name of something in a schema, as it stands in a statement.
pub(crate) fn quoted(schema: &SchemaName, name: &str) -> String {
    format!(r#""{schema}"."{}""#, name.replace('"', r#""""#))
}

pub(crate) fn counted(row: Option<QueryResult>, column: &str) -> Result<u64, DbErr> {
    let count: i64 = row.map_or(Ok(0), |row| row.try_get("", column))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many locks a transaction may take.
fn budget(capacity: i64, taken: i64) -> i64 {
    (capacity / PART - taken).clamp(0, MOST_LOCKS)
}

/// How many of the first of these take no more locks than that. One always: there is no way with less.
fn within(these: &[Dropped], budget: i64) -> usize {
    let mut sum = 0;
    let fitting = these.iter().take_while(|it| {
        sum += it.locks;
        sum <= budget
    });
    fitting.count().max(1).min(these.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(locks: &[i64]) -> Vec<Dropped> {
        let of = |locks: &i64| Dropped { name: "t".into(), kind: "TABLE".into(), locks: *locks };
        locks.iter().map(of).collect()
    }

    #[test]
    fn a_transaction_takes_what_fits_and_one_at_least() {
        assert_eq!(within(&of(&[17, 20, 30]), 66), 2);
        assert_eq!(within(&of(&[17, 20, 30]), 67), 3);
        assert_eq!(within(&of(&[300, 1]), 200), 1);
        assert_eq!(within(&of(&[1]), 0), 1);
        assert_eq!(within(&[], 100), 0);
    }

    #[test]
    fn a_purge_leaves_others_their_locks() {
        assert_eq!(budget(6_400, 100), MOST_LOCKS);
        assert_eq!(budget(640, 100), 60);
        assert_eq!(budget(640, 300), 0);
    }
}

//! Indexes, keys and references of a schema, taken off while it is loaded: to build an index once is several times as fast
//! as to keep it up to date for every row, and a reference is checked for all rows by one query. What they forbid is
//! found out when they are put on again, in the same transaction.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::{SchemaName, db::CatalogTx};

/// What a schema has, as the statements that take it off and put it on again: references, then keys, then other indexes.
/// The path leads to the schema.
const PARTS: [&str; 3] = [
    "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS off, \
         format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS back \
     FROM pg_constraint WHERE connamespace = $1::text::regnamespace AND contype = 'f' ORDER BY oid",
    "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS off, \
         format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS back \
     FROM pg_constraint WHERE connamespace = $1::text::regnamespace AND contype IN ('p', 'u') ORDER BY oid",
    "SELECT format('DROP INDEX %s', indexrelid::regclass) AS off, pg_get_indexdef(indexrelid) AS back \
     FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = $1::text::regnamespace \
     AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u')) \
     ORDER BY indexrelid",
];

/// What was taken off.
pub(super) struct Indexes {
    back: Vec<String>,
}

impl Indexes {
    pub(super) async fn take_off(transaction: &CatalogTx, schema: &SchemaName) -> Result<Self, DbErr> {
        let (mut off, mut parts) = (Vec::new(), Vec::new());
        for sql in PARTS {
            let statement =
                Statement::from_sql_and_values(DbBackend::Postgres, sql, [schema.as_str().into()]);
            let mut back = Vec::new();
            for row in transaction.query_all_raw(statement).await? {
                off.push(row.try_get::<String>("", "off")?);
                back.push(row.try_get::<String>("", "back")?);
            }
            parts.push(back);
        }
        transaction.batch(&off.join("; ")).await?;
        // References want the keys that they lead to.
        parts.rotate_left(1);
        Ok(Self { back: parts.concat() })
    }

    pub(super) async fn put_on(self, transaction: &CatalogTx) -> Result<(), DbErr> {
        transaction.batch(&self.back.join("; ")).await
    }
}

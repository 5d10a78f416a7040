//! Whether the catalog itself is as its migrations make it: its tables, and the functions that say for tenants who they are.
//!
//! They are replayed into a schema of nobody's, like those of tenants: nothing of the catalog is touched, so nobody who works
//! in it waits.

use std::collections::BTreeMap;

use migration::{CATALOG_SCHEMA, sea_orm_migration::MigratorTrait as _};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{Proposal, Shapes, catalogs};
use crate::{Error, render::Migrations};

const PATTERN: &str = "tenantry_pattern_catalog";

/// The functions of a schema, by what they are called with, as the statements that make them in the catalog.
const FUNCTIONS: &str = "SELECT replace(oid::regprocedure::text, 'tenantry_pattern_catalog.', 'tenantry.'),
    replace(pg_get_functiondef(oid), 'tenantry_pattern_catalog.', 'tenantry.')
    FROM pg_proc WHERE pronamespace = to_regnamespace($1) AND prokind IN ('f', 'p')";

/// Adds what is otherwise in the catalog than its migrations make it.
pub(super) async fn compare(connection: &mut PgConnection, shapes: &mut Shapes) -> Result<(), Error> {
    let migrations = Migrations::render(migration::Catalog::migrations()).await?;
    let mut transaction = connection.begin_with("BEGIN READ WRITE").await?;
    let batch = format!(
        "SET LOCAL statement_timeout TO '1min'; SET LOCAL citus.enable_schema_based_sharding = off; \
         CREATE SCHEMA {PATTERN}; SET LOCAL search_path TO {PATTERN}, pg_temp; {} SET LOCAL search_path TO pg_catalog",
        migrations.statements_between(0, migrations.version())
    );
    transaction.execute(AssertSqlSafe(batch)).await?;
    let mut parts = catalogs::parts(&mut transaction, [PATTERN, CATALOG_SCHEMA].into_iter()).await?;
    let expected = functions(&mut transaction, PATTERN).await?;
    let found = functions(&mut transaction, CATALOG_SCHEMA).await?;
    transaction.rollback().await?;

    let (pattern, is) = (parts.remove(PATTERN), parts.remove(CATALOG_SCHEMA));
    shapes.add("the catalog", CATALOG_SCHEMA, &pattern.unwrap_or_default(), &is.unwrap_or_default());
    for (signature, definition) in expected {
        let code = match found.get(&signature) {
            Some(is) if *is == definition => continue,
            Some(_) => "functions_changed",
            None => "functions_missing",
        };
        // PostgreSQL lets everybody call a new one.
        let statement = format!("{definition}; REVOKE ALL ON FUNCTION {signature} FROM PUBLIC");
        shapes.functions.push((signature, Proposal { code, statement }));
    }
    Ok(())
}

async fn functions(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<BTreeMap<String, String>, sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(FUNCTIONS).bind(schema).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|(signature, definition)| (signature, definition.trim_end().to_owned()))
        .collect())
}

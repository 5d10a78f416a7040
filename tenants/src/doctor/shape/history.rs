//! Whether each tenant's schema has noted the migrations that its version says it has had: the next ones start from there.

use migration::VERSION_TABLE;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{CHUNK, Proposal, Shapes};
use crate::{Error, doctor::rules::own_schema, render::Migrations};

/// Adds the tenants that have noted others. Chunk by chunk and in no transaction: each table that is read is a lock.
pub(super) async fn compare(
    connection: &mut PgConnection,
    migrations: &Migrations,
    shapes: &mut Shapes,
) -> Result<(), Error> {
    let schemas: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT schema_name FROM tenantry.tenants t WHERE status <> 'purging'
         AND to_regclass(schema_name || '.schema_migrations') IS NOT NULL AND schema_name = ",
        own_schema!()
    ))
    .fetch_all(&mut *connection)
    .await?;
    for chunk in schemas.chunks(CHUNK) {
        let noted: Vec<String> = chunk
            .iter()
            .map(|schema| {
                format!(
                    "SELECT '{schema}', ARRAY(SELECT version::text FROM {schema}.{VERSION_TABLE} ORDER BY 1)"
                )
            })
            .collect();
        let sql = format!(
            "SELECT slug, schema_name, schema_version, names FROM ({}) AS noted (of, names) \
             JOIN tenantry.tenants ON schema_name = of ORDER BY slug",
            noted.join(" UNION ALL ")
        );
        let rows: Vec<(String, String, i32, Vec<String>)> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
        for (slug, schema, version, noted) in rows {
            let expected = migrations.names(version);
            // A newer version has its own finding; one that is not the schema's is to be put right first.
            if version > migrations.version()
                || noted == expected
                || shapes.versions.iter().any(|(_, statement)| statement.contains(&schema))
            {
                continue;
            }
            let found = format!("{slug} has noted {} of {}", noted.len(), expected.len());
            let statement = statement(&schema, &expected);
            shapes.histories.push((found, Proposal { code: "migrations_noted", statement }));
        }
    }
    Ok(())
}

/// What is noted rightly keeps its time.
fn statement(schema: &str, names: &[&str]) -> String {
    let values: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let rows: Vec<String> =
        values.iter().map(|name| format!("({name}, extract(epoch FROM now())::bigint)")).collect();
    format!(
        "DELETE FROM {schema}.{VERSION_TABLE} WHERE version NOT IN ({}); \
         INSERT INTO {schema}.{VERSION_TABLE} (version, applied_at) VALUES {} ON CONFLICT DO NOTHING",
        values.join(", "),
        rows.join(", ")
    )
}

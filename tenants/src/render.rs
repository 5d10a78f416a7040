//! Migrations, rendered once into SQL that is replayed in every schema. They stay the only source of truth; a replay costs
//! one round trip instead of one per statement, and no bookkeeping queries.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use migration::{
    VERSION_TABLE,
    sea_orm_migration::{MigrationTrait, MigratorTrait, SchemaManager},
};
use sea_orm::{Database, DbBackend, DbErr, ProxyDatabaseTrait, ProxyExecResult, ProxyRow, Statement};

use crate::SchemaName;

/// The tables, as they stand in statements, to which the tenant's role may add and in which it may change nothing.
const APPEND_ONLY: [&str; 1] = [r#""audit""#];

/// A migration as SQL.
#[derive(Clone, Debug)]
struct Rendered {
    name: String,
    sql: String,
    /// The tables it makes.
    tables: Vec<String>,
}

/// All of a kind, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Migrations {
    version_table: String,
    migrations: Vec<Rendered>,
}

/// The schema version that this program's migrations lead to: their number.
pub(crate) fn current_version() -> i32 {
    i32::try_from(migration::Tenant::migrations().len()).unwrap_or(i32::MAX)
}

impl Migrations {
    /// Renders the migrations by running each against a connection that writes down what it is asked to execute.
    pub(crate) async fn render(migrations: Vec<Box<dyn MigrationTrait>>) -> Result<Self, DbErr> {
        let recorder = Recorder::default();
        let connection =
            Database::connect_proxy(DbBackend::Postgres, Arc::new(Box::new(recorder.clone()))).await?;
        migration::Tenant::install(&connection).await?;
        let version_table = recorder.take();
        let manager = SchemaManager::new(&connection);
        let mut rendered = Vec::new();
        for migration in migrations {
            migration.up(&manager).await?;
            let sql = recorder.take();
            let tables = tables_in(&sql);
            rendered.push(Rendered { name: migration.name().to_owned(), sql, tables });
        }
        Ok(Self { version_table, migrations: rendered })
    }

    /// The schema version they lead to.
    pub(crate) fn version(&self) -> i32 {
        i32::try_from(self.migrations.len()).unwrap_or(i32::MAX)
    }

    /// The batch that brings a schema from this version to the current one: the migrations, the version rows, and the
    /// rights of the tenant's role on what is new. It expects `search_path` to lead to the schema.
    pub(crate) fn batch(&self, schema: &SchemaName, from: i32) -> String {
        self.batch_between(schema, from, self.version())
    }

    /// As [`batch`](Self::batch), to this version and no further.
    pub(crate) fn batch_between(&self, schema: &SchemaName, from: i32, to: i32) -> String {
        let tables: Vec<&str> = self
            .between(from, to)
            .iter()
            .flat_map(|migration| &migration.tables)
            .map(String::as_str)
            .collect();
        let (appended, written): (Vec<_>, Vec<_>) =
            tables.into_iter().partition(|table| APPEND_ONLY.contains(table));
        // One by one: to grant on all tables of a schema, PostgreSQL reads the whole of pg_class, every tenant's tables.
        let grant = |rights: &str, tables: &[&str]| match tables {
            [] => String::new(),
            tables => format!("GRANT {rights} ON {} TO \"{schema}\";\n", tables.join(", ")),
        };
        let grants = grant("SELECT, INSERT, UPDATE, DELETE", &written) + &grant("SELECT, INSERT", &appended);
        self.statements_between(from, to) + &grants
    }

    /// As [`batch_between`](Self::batch_between), for a schema that is nobody's: without the rights.
    pub(crate) fn statements_between(&self, from: i32, to: i32) -> String {
        let version_table = if from == 0 { self.version_table.as_str() } else { "" };
        let statements = self.between(from, to).iter().map(|Rendered { name, sql, .. }| {
            format!(
                "{sql}INSERT INTO {VERSION_TABLE} (version, applied_at) \
                 VALUES ('{name}', extract(epoch FROM now())::bigint);\n"
            )
        });
        std::iter::once(version_table.to_owned()).chain(statements).collect()
    }

    /// The names under which a schema of this version has noted its migrations, in their order.
    pub(crate) fn names(&self, version: i32) -> Vec<&str> {
        let mut names: Vec<&str> = self.between(0, version).iter().map(|it| it.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn between(&self, from: i32, to: i32) -> &[Rendered] {
        let number = |version| usize::try_from(version).unwrap_or(0).min(self.migrations.len());
        self.migrations.get(number(from)..number(to)).unwrap_or_default()
    }
}

/// The tables that a migration makes, quoted as they stand in its statements, a line each.
fn tables_in(sql: &str) -> Vec<String> {
    sql.lines()
        .filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Writes down what it is asked to execute.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<String>>);

impl Recorder {
    fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ProxyDatabaseTrait for Recorder {
    async fn query(&self, statement: Statement) -> Result<Vec<ProxyRow>, DbErr> {
        Err(DbErr::Migration(format!("a tenant migration may ask nothing, but it asked: {}", statement.sql)))
    }

    async fn execute(&self, statement: Statement) -> Result<ProxyExecResult, DbErr> {
        let mut sql = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Displayed, a statement has its values in it.
        sql.push_str(&statement.to_string());
        sql.push_str(";\n");
        Ok(ProxyExecResult::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_starts_after_the_version_that_the_schema_has() {
        let migrations = Migrations::render(migration::Tenant::migrations()).await.unwrap();
        let schema = SchemaName::of(uuid::Uuid::from_u128(7));
        let whole = migrations.batch(&schema, 0);
        assert!(whole.starts_with(r#"CREATE TABLE IF NOT EXISTS "schema_migrations""#), "{whole}");
        assert!(whole.contains(r#"CREATE TABLE "users""#), "{whole}");
        let nothing = migrations.batch(&schema, current_version());
        assert!(!nothing.contains("CREATE") && !nothing.contains("GRANT"), "{nothing}");
    }

    #[tokio::test]
    async fn what_is_only_added_to_cannot_be_changed() {
        let migrations = Migrations::render(migration::Tenant::migrations()).await.unwrap();
        let whole = migrations.batch(&SchemaName::of(uuid::Uuid::from_u128(7)), 0);
        let grants: Vec<_> = whole.lines().filter(|line| line.starts_with("GRANT ")).collect();
        let [written, appended] = grants.as_slice() else { panic!("{grants:?}") };
        assert!(written.contains(r#""users""#) && !written.contains(r#""audit""#), "{written}");
        assert!(appended.starts_with(r#"GRANT SELECT, INSERT ON "audit" TO "#), "{appended}");
        assert!(
            whole.contains(r#"REVOKE UPDATE, DELETE, TRUNCATE ON "audit" FROM CURRENT_USER;"#),
            "{whole}"
        );
    }

    #[tokio::test]
    async fn the_migrations_keep_the_rules_for_citus() {
        let migrations = Migrations::render(migration::Tenant::migrations()).await.unwrap();
        for Rendered { name, sql, tables } in &migrations.migrations {
            assert_eq!(
                tables.len(),
                sql.matches("CREATE TABLE").count(),
                "{name} has a table nobody may use: {tables:?}"
            );
            for forbidden in
                ["TRIGGER", "NOTIFY", "CREATE TYPE", "CREATE DOMAIN", "SERIAL", "GENERATED", "DO $"]
            {
                assert!(!sql.to_uppercase().contains(forbidden), "{name} has {forbidden}: {sql}");
            }
            assert!(!sql.contains("tenantry"), "{name} names a schema: {sql}");
            for table in sql.split("CREATE TABLE").skip(1) {
                assert!(table.contains("PRIMARY KEY"), "{name} has a table without a primary key: {table}");
            }
            for keyword in ["PRIMARY KEY", "UNIQUE (", "CHECK (", "FOREIGN KEY"] {
                for (at, _) in sql.match_indices(keyword) {
                    let constraint = sql[..at].trim_end().rsplit("CONSTRAINT ").next().unwrap();
                    let constraint = constraint.trim_matches('"');
                    assert!(
                        !constraint.contains(' ') && constraint.len() <= 50,
                        "{name}: a {keyword} without a name of its own: …{}",
                        &sql[at.saturating_sub(60)..at]
                    );
                }
            }
        }
    }
}

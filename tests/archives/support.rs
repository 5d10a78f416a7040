//! Exports and imports, straight on the installation.

use std::{fs::File, io::Write as _, sync::Arc};

use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::archives::Inspector;
use tenants::{
    SchemaName, SlugChoice, Tenant,
    archive::{ArchiveError, Importing, Manifest, Meter},
};
use uuid::Uuid;

use crate::support::TestApp;

/// An archive of a tenant.
pub(super) async fn export(app: &TestApp, tenant: &str) -> (Vec<u8>, Manifest) {
    let (meter, now) = (Arc::new(Meter::default()), app.clock.now());
    app.app.tenancy.export(tenant.parse().unwrap(), Vec::new(), now, &meter).await.unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

/// Loads an archive, up to the commit.
pub(super) async fn load(app: &TestApp, archive: &[u8], trusted: bool) -> Result<Importing, ArchiveError> {
    let checked = app.app.tenancy.check_archive(file_of(archive), trusted).await?;
    let (id, meter) = (app.clock.uuid_v7(), Arc::new(Meter::default()));
    app.app.tenancy.import(checked, id, &Inspector, &meter).await
}

/// Makes a tenant of an archive.
pub(super) async fn import(app: &TestApp, archive: &[u8], slug: &str, trusted: bool) -> Arc<Tenant> {
    let importing = load(app, archive, trusted).await.unwrap();
    let slug = SlugChoice::Exactly(slug.parse().unwrap());
    importing.enter(slug, "The Copy", app.clock.now()).await.unwrap();
    importing.commit().await.unwrap()
}

/// Why an archive is refused, after which everything is as it was.
pub(super) async fn refusal(app: &TestApp, archive: &[u8], trusted: bool) -> String {
    let before = state(app).await;
    let refused = load(app, archive, trusted).await.expect_err("it was not refused").to_string();
    let mut superuser = app.superuser().await;
    // The connection is closed by us, and rolled back by PostgreSQL a moment later.
    crate::support::eventually("the import is rolled back", async || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND state LIKE '%transaction%' AND pid <> pg_backend_pid()";
        superuser.fetch_one(open).await.unwrap().get::<i64, _>(0) == 0
    })
    .await;
    assert_eq!(state(app).await, before);
    refused
}

/// All that an import could leave behind in the database.
async fn state(app: &TestApp) -> Vec<String> {
    const PARTS: [&str; 4] = [
        "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_'",
        "SELECT rolname::text FROM pg_roles WHERE pg_has_role(oid, (SELECT relowner FROM pg_class WHERE relname = 'tenants'), 'USAGE') \
         OR EXISTS (SELECT FROM tenantry.tenants WHERE schema_name = rolname)",
        "SELECT t::text FROM tenantry.tenants t",
        "SELECT e::text FROM tenantry.email_index e",
    ];
    let mut superuser = app.superuser().await;
    let mut lines = Vec::new();
    for part in PARTS {
        let rows = superuser.fetch_all(part).await.unwrap();
        lines.extend(rows.iter().map(|row| row.get::<String, _>(0)));
    }
    lines.sort_unstable();
    lines
}

/// The rows of a table, as text, in some order.
pub(super) async fn rows(app: &TestApp, schema: &SchemaName, table: &str) -> Vec<String> {
    let sql = format!(r#"SELECT r::text FROM "{schema}"."{table}" r ORDER BY 1"#);
    let rows = app.superuser().await.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Does something behind everybody's back, in a tenant's schema.
pub(super) async fn tamper(app: &TestApp, schema: &SchemaName, sql: &str) {
    let sql = format!(r#"SET search_path TO "{schema}"; {sql}"#);
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
}

pub(super) fn schema_of(tenant: &str) -> SchemaName {
    SchemaName::of(tenant.parse::<Uuid>().unwrap())
}

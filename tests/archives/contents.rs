//! What goes into archives, compared with what there is.

use std::collections::BTreeSet;

use migration::sea_orm_migration::{MigratorTrait as _, sea_orm::SqlxPostgresConnector};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, postgres::PgPoolOptions};
use tenants::archive::{checked_columns_of, contents_of, left_out_of};

use crate::support::{Database, TestApp, superuser_of};

/// Who adds a table or a column to the tenant migrations has to say what becomes of it in an archive.
#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_of_every_version_is_kept_or_left_out() {
    let database = Database::create().await;
    let mut superuser = superuser_of(&database.superuser).await;
    let newest = *tenants::served_versions().end();
    for version in 1..=newest {
        let schema = format!("v{version}");
        superuser.execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).await.unwrap();
        let options: sqlx::postgres::PgConnectOptions = database.superuser.expose_secret().parse().unwrap();
        let options = options.options([("search_path", &schema)]);
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let steps = Some(u32::try_from(version).unwrap());
        migration::Tenant::up(&SqlxPostgresConnector::from_sqlx_postgres_pool(pool), steps).await.unwrap();

        let columns =
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = $1";
        let there = sqlx::query(columns).bind(&schema).fetch_all(&mut superuser).await.unwrap();
        let there: BTreeSet<String> = there.iter().map(|row| row.get(0)).collect();
        let left_out: Vec<&str> = left_out_of(version).into_iter().map(|(name, _)| name).collect();
        let (gone, there): (BTreeSet<String>, BTreeSet<String>) =
            there.into_iter().partition(|column| left_out.contains(&column.split('.').next().unwrap()));
        let kept: BTreeSet<String> = contents_of(version)
            .into_iter()
            .flat_map(|(table, columns)| columns.into_iter().map(move |column| format!("{table}.{column}")))
            .collect();
        assert_eq!(kept, there, "version {version}");
        let gone: BTreeSet<&str> = gone.iter().map(|column| column.split('.').next().unwrap()).collect();
        assert_eq!(gone, left_out.into_iter().collect(), "version {version} has no such table");
    }
}

/// Who adds a column of a type that can hold what the service cannot has to say so.
#[tokio::test(flavor = "multi_thread")]
async fn every_time_document_and_number_that_is_kept_is_checked() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let risky = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = $1 \
        AND (data_type LIKE 'timestamp%' OR data_type LIKE 'json%' OR data_type = 'date' \
            OR data_type = 'bigint' AND column_name LIKE '%number')";
    let mut superuser = app.superuser().await;
    let risky = sqlx::query(risky).bind(acme.schema().to_string()).fetch_all(&mut superuser).await.unwrap();
    let newest = *tenants::served_versions().end();
    let kept: Vec<&str> = contents_of(newest).into_iter().map(|(name, _)| name).collect();
    let risky: BTreeSet<String> = risky
        .iter()
        .map(|row| row.get::<String, _>(0))
        .filter(|column| kept.contains(&column.split('.').next().unwrap()))
        .collect();
    let checked: BTreeSet<String> =
        checked_columns_of(newest).into_iter().map(|(table, column)| format!("{table}.{column}")).collect();
    assert_eq!(checked, risky);
}

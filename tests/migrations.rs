//! Databases come to be, and are brought up to date.

use migration::{
    VERSION_TABLE,
    sea_orm_migration::{MigratorTrait as _, sea_orm::SqlxPostgresConnector},
};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _, postgres::PgPoolOptions};
use tenantry::{
    audit::Actor,
    clock::Clock,
    error::ServiceError,
    fleet::{self, FleetError, Migrated, Order},
};
use tenants::{Error, Pace, RunPlan, SecretKey, Settings, Tenancy};
use tokio::sync::watch;

use crate::support::{Database, TestApp, superuser_of};

/// Catalog and tenants, as a deployment does it.
pub(crate) async fn migrate(settings: &Settings) -> Result<Migrated, FleetError> {
    let what = (Order::Start(RunPlan::default()), Pace::default());
    fleet::migrate(settings, &Clock::system(), what, &Actor::command_line(), &watch::Sender::default()).await
}

/// What the catalogs say of a schema, one line an object, without the schema's own name.
pub(crate) async fn described(superuser: &mut PgConnection, schema: &str) -> Vec<String> {
    const ASPECTS: [&str; 5] = [
        "SELECT format('relation %s %s', c.relkind, c.relname) FROM pg_class c WHERE c.relnamespace = $1::regnamespace",
        "SELECT format('column %s.%s #%s %s notnull=%s default=%s identity=%s generated=%s collation=%s', \
           c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
           pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attcollation) \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE c.relnamespace = $1::regnamespace AND a.attnum > 0 AND NOT a.attisdropped",
        "SELECT format('constraint %s.%s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) \
         FROM pg_constraint WHERE connamespace = $1::regnamespace",
        "SELECT 'index ' || pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE c.relnamespace = $1::regnamespace",
        "SELECT format('other %s', x) FROM ( \
           SELECT proname::text AS x FROM pg_proc WHERE pronamespace = $1::regnamespace UNION ALL \
           SELECT typname FROM pg_type WHERE typnamespace = $1::regnamespace UNION ALL \
           SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
             WHERE c.relnamespace = $1::regnamespace AND NOT tgisinternal) AS others",
    ];
    let mut lines = Vec::new();
    for aspect in ASPECTS {
        let rows = sqlx::query(aspect).bind(schema).fetch_all(&mut *superuser).await.unwrap();
        lines.extend(rows.iter().map(|row| row.get::<String, _>(0).replace(&format!("{schema}."), "")));
    }
    lines.sort_unstable();
    lines
}

async fn versions(superuser: &mut PgConnection, schema: &str) -> Vec<String> {
    let sql = format!(r#"SELECT version::text FROM "{schema}".{VERSION_TABLE} ORDER BY 1"#);
    superuser.fetch_all(AssertSqlSafe(sql)).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_schema_is_the_one_that_the_migrations_make_step_by_step() {
    let app = TestApp::start().await;
    let replayed = app.sign_up("acme").await.schema();
    let mut superuser = app.superuser().await;
    superuser.execute("CREATE SCHEMA stepwise").await.unwrap();
    let options: sqlx::postgres::PgConnectOptions = app.superuser_url().expose_secret().parse().unwrap();
    let options = options.options([("search_path", "stepwise")]);
    // One connection, or a second one might not have the path.
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    migration::Tenant::up(&SqlxPostgresConnector::from_sqlx_postgres_pool(pool), None).await.unwrap();

    let stepwise = described(&mut superuser, "stepwise").await;
    for aspect in [
        "relation r users",
        "column users.pk ",
        "constraint users.users_email_key UNIQUE",
        "index CREATE",
        "other ",
    ] {
        assert!(stepwise.iter().any(|line| line.starts_with(aspect)), "no {aspect} in {stepwise:#?}");
    }
    assert_eq!(described(&mut superuser, replayed.as_str()).await, stepwise);
    assert_eq!(versions(&mut superuser, replayed.as_str()).await, versions(&mut superuser, "stepwise").await);
    assert_eq!(described(&mut superuser, "public").await, [""; 0]);
}

/// All that a migration of the whole database could change.
async fn state(superuser: &mut PgConnection) -> Vec<String> {
    const PARTS: [&str; 6] = [
        "SELECT format('%s %s %s', oid, relname, relacl) FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_'",
        "SELECT format('%s %s %s', oid, proname, proacl) FROM pg_proc",
        "SELECT format('%s %s', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_'",
        "SELECT format('%s %s', datname, datacl) FROM pg_database WHERE datname = current_database()",
        "SELECT i::text || d::text FROM tenantry.installation i, tenantry.data_keys d",
        "SELECT v::text FROM tenantry.schema_migrations v",
    ];
    let mut lines = Vec::new();
    for part in PARTS {
        let rows = superuser.fetch_all(part).await.unwrap();
        lines.extend(rows.iter().map(|row| row.get::<String, _>(0)));
    }
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_what_is_up_to_date_changes_nothing() {
    let database = Database::empty().await;
    let first = migrate(&database.settings).await.unwrap();
    assert_eq!(first.catalog.len(), migration::Catalog::migrations().len());
    let mut superuser = superuser_of(&database.superuser).await;
    let before = state(&mut superuser).await;

    let second = migrate(&database.settings).await.unwrap();
    assert_eq!((second.catalog.len(), second.tenants), (0, 0));
    assert_eq!(state(&mut superuser).await, before);
    Tenancy::open(&database.settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_may_migrate_an_empty_database_at_once() {
    let Database { settings, superuser } = Database::empty().await;
    let (one, other) = tokio::join!(migrate(&settings), migrate(&settings));
    let applied = one.unwrap().catalog.len() + other.unwrap().catalog.len();
    assert_eq!(applied, migration::Catalog::migrations().len(), "each migration once");
    let mut superuser = superuser_of(&superuser).await;
    let installations = superuser.fetch_one("SELECT count(*) FROM tenantry.installation").await.unwrap();
    assert_eq!(installations.get::<i64, _>(0), 1);
    Tenancy::open(&settings).await.unwrap().ping().await.unwrap();
}

async fn refusal(settings: &Settings) -> String {
    Tenancy::open(settings).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_is_refused() {
    let mut database = Database::create().await;
    let before = state(&mut superuser_of(&database.superuser).await).await;
    database.settings.master_key = SecretKey::generate();
    let sentence = "the master key is not the one this database was set up with";
    assert_eq!(refusal(&database.settings).await, sentence);
    let migrated = migrate(&database.settings).await;
    assert!(
        matches!(migrated, Err(FleetError::Service(ServiceError::Tenancy(Error::WrongMasterKey)))),
        "{migrated:?}"
    );
    assert_eq!(state(&mut superuser_of(&database.superuser).await).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_not_the_programs_is_refused_with_the_way_out() {
    let empty = Database::empty().await;
    assert_eq!(refusal(&empty.settings).await, "the database is not set up: run `tenantry migrate`");

    let Database { settings, superuser } = Database::create().await;
    let mut superuser = superuser_of(&superuser).await;
    superuser
        .execute("INSERT INTO tenantry.schema_migrations (version, applied_at) VALUES ('m9999_tomorrow', 0)")
        .await
        .unwrap();
    let ahead = "the catalog was migrated by a newer version of tenantry: install that version";
    assert_eq!(refusal(&settings).await, ahead);
    assert_eq!(migrate(&settings).await.unwrap_err().to_string(), ahead);

    superuser
        .execute("DELETE FROM tenantry.schema_migrations WHERE version = 'm9999_tomorrow'")
        .await
        .unwrap();
    Tenancy::open(&settings).await.unwrap();
    superuser
        .execute("DELETE FROM tenantry.schema_migrations WHERE version = (SELECT max(version) FROM tenantry.schema_migrations)")
        .await
        .unwrap();
    let known = migration::Catalog::migrations().len();
    assert_eq!(
        refusal(&settings).await,
        format!("the catalog is behind ({} of {known} migrations): run `tenantry migrate`", known - 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_behind_is_brought_up_to_date() {
    let app = TestApp::start().await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let mut superuser = app.superuser().await;
    let expected = described(&mut superuser, acme.schema().as_str()).await;
    // As if it came from before the first migration.
    let reset = format!(
        r#"DROP SCHEMA "{s}" CASCADE; CREATE SCHEMA "{s}"; ALTER SCHEMA "{s}" OWNER TO tenantry_test_owner;
        GRANT USAGE ON SCHEMA "{s}" TO "{s}"; UPDATE tenantry.tenants SET schema_version = 0 WHERE slug = 'acme'"#,
        s = acme.schema()
    );
    superuser.execute(AssertSqlSafe(reset)).await.unwrap();
    assert_eq!(app.app.tenancy.behind().await.unwrap(), 1);

    let report = migrate(app.settings()).await.unwrap();
    assert_eq!((report.catalog.len(), report.tenants), (0, 1));
    assert_eq!(app.app.tenancy.behind().await.unwrap(), 0);
    assert_eq!(described(&mut superuser, acme.schema().as_str()).await, expected);
    // Its role may work in it again, and nobody else lost anything.
    let gone = app.beside().await;
    assert_eq!(acme.owner.at(&gone).request("GET", "/api/users/").send().await.status, 401);
    assert_eq!(beta.owner.get("/api/users/").await["count"], 1);
}

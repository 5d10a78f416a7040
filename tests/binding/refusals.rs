//! What PostgreSQL refuses, whatever the code above it does.

use sea_orm::ConnectionTrait;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};
use tenants::{Fault, Job, Outbox as _, fault};

use crate::support::{Options, TestApp};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn bound_to_one_tenant_another_s_schema_is_closed() {
    let app = TestApp::start().await;
    let (one, other) = neighbours(&app).await;
    let db = database(&app, &one).await;
    let (own, foreign) = (tenant(&app, &one).await, tenant(&app, &other).await);

    let own_users = ask(&db, &format!(r#"SELECT pk FROM "{}".users"#, own.schema)).await.unwrap();
    assert_eq!(own_users.len(), 1, "the query itself works");
    for table in ["users", "sessions", "settings", "schema_migrations"] {
        let query = format!(r#"SELECT * FROM "{}".{table}"#, foreign.schema);
        assert!(refused(ask(&db, &query).await), "{query}");
    }
    for change in ["DELETE FROM", "TRUNCATE"] {
        let statement = format!(r#"{change} "{}".users"#, foreign.schema);
        assert!(refused(ask(&db, &statement).await), "{statement}");
    }
    for own_but_closed in
        ["SELECT * FROM schema_migrations", "CREATE TABLE more (id int)", "DROP TABLE users"]
    {
        assert!(ask(&db, own_but_closed).await.is_err(), "{own_but_closed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_role_sees_nothing_of_the_catalog() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    let mut superuser = app.superuser().await;
    let tables = superuser
        .fetch_all("SELECT tablename::text FROM pg_tables WHERE schemaname = 'tenantry'")
        .await
        .unwrap();
    assert!(tables.len() >= 8, "the catalog has its tables");
    for table in tables {
        let table: String = sqlx::Row::get(&table, 0);
        assert!(refused(ask(&db, &format!("SELECT * FROM tenantry.{table}")).await), "{table}");
    }
    for call in [
        "SELECT set_config('search_path', 'public', false)",
        "SELECT pg_notify('anything', '')",
        "SELECT query_to_xml('SELECT 1', true, true, '')",
        "SELECT tenantry.bound_tenant()",
    ] {
        assert!(refused(ask(&db, call).await), "{call}");
    }
    assert!(ask(&db, "CREATE TEMPORARY TABLE users (pk uuid)").await.is_err());
    assert!(ask(&db, "CREATE TABLE public.users (pk uuid)").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unbound_connection_of_a_lane_reads_nothing() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let tenant = tenant(&app, &one).await;
    let mut connection = unbound(&app, &tenant).await;
    let queries = [
        format!(r#"SELECT * FROM "{}".users"#, tenant.schema),
        "SELECT * FROM tenantry.tenants".to_owned(),
        "SELECT tenantry.enqueue('x', '{}', now(), NULL)".to_owned(),
        "SELECT * FROM users".to_owned(),
    ];
    for query in queries {
        let error = connection.execute(AssertSqlSafe(query.clone())).await.unwrap_err();
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        assert!(matches!(code.as_deref(), Some("42501" | "42P01")), "{query}: {error}");
    }
    // And what it lacks is the binding alone.
    connection.execute(AssertSqlSafe(format!(r#"SET ROLE "{}""#, tenant.schema))).await.unwrap();
    let query = format!(r#"SELECT * FROM "{}".users"#, tenant.schema);
    assert_eq!(connection.fetch_all(AssertSqlSafe(query)).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_belongs_to_the_tenant_whose_transaction_left_it() {
    let app = TestApp::start().await;
    let (one, other) = neighbours(&app).await;
    let job = Job {
        kind: "greet",
        payload: json!({"tenant_id": other.id}),
        run_at: app.clock.now(),
        dedupe_key: Some("once".into()),
    };
    let tx = database(&app, &one).await.begin().await.unwrap();
    assert!(tx.enqueue(&job).await.unwrap().is_some());
    assert_eq!(tx.enqueue(&job).await.unwrap(), None, "the same key again");
    tx.commit().await.unwrap();
    let tx = database(&app, &other).await.begin().await.unwrap();
    assert!(tx.enqueue(&job).await.unwrap().is_some(), "the key is another tenant's");
    tx.index_email(None, Some(&[7; 32])).await.unwrap();
    drop(tx);
    let tx = database(&app, &one).await.begin().await.unwrap();
    tx.index_email(None, Some(&[9; 32])).await.unwrap();
    tx.commit().await.unwrap();

    let mut superuser = app.superuser().await;
    let jobs: Vec<(String, String)> =
        sqlx::query_as("SELECT tenant_id::text, kind FROM tenantry.jobs WHERE kind <> 'mail'")
            .fetch_all(&mut superuser)
            .await
            .unwrap();
    assert_eq!(jobs, [(one.id.clone(), "greet".to_owned())]);
    let indexed: Vec<(String,)> =
        sqlx::query_as("SELECT tenant_id::text FROM tenantry.email_index WHERE email_hash = $1")
            .bind(&[9_u8; 32][..])
            .fetch_all(&mut superuser)
            .await
            .unwrap();
    assert_eq!(indexed, [(one.id.clone(),)]);

    let forged = format!(
        "INSERT INTO tenantry.jobs (tenant_id, kind, payload, run_at, due_since) VALUES ('{}', 'forged', '{{}}', now(), now())",
        other.id
    );
    assert!(refused(ask(&database(&app, &one).await, &forged).await));
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "this is what is refused")]
async fn sql_that_was_not_prepared_is_refused() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    assert!(db.execute_unprepared("SELECT 1").await.is_err());
    let tx = db.begin().await.unwrap();
    assert!(tx.execute_unprepared("SELECT 1; ROLLBACK").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn suspension_reaches_a_connection_that_is_bound_already() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    assert_eq!(ask(&db, "SELECT pk FROM users").await.unwrap().len(), 1);
    app.app.tenancy.set_suspended(&one.slug.parse().unwrap(), true).await.unwrap();
    // The same handle, the same connection, the same prepared statement.
    let error = ask(&db, "SELECT pk FROM users").await.unwrap_err();
    assert_eq!(fault(&error), Fault::TenantChanged, "{error}");
    assert_eq!(app.app.tenancy.lane_figures().iter().map(|lane| lane.opened).sum::<u64>(), 1);
    app.app.tenancy.set_suspended(&one.slug.parse().unwrap(), false).await.unwrap();
    assert_eq!(ask(&db, "SELECT pk FROM users").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_taken_from_its_lane_is_refused_at_the_next_binding_and_harms_nobody_else() {
    let app = TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await;
    let (one, other) = neighbours(&app).await;
    let (ones, others) = (database(&app, &one).await, database(&app, &other).await);
    let tenant = tenant(&app, &one).await;
    ask(&ones, "SELECT pk FROM users").await.unwrap();
    let mut superuser = app.superuser().await;
    let lane = "SELECT m.rolname::text FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member \
                JOIN pg_roles g ON g.oid = a.roleid WHERE g.rolname = $1 AND m.rolname LIKE '%\\_lane\\_%'";
    let (lane,): (String,) =
        sqlx::query_as(lane).bind(tenant.schema.as_str()).fetch_one(&mut superuser).await.unwrap();
    let revoke = format!(r#"REVOKE "{}" FROM "{lane}""#, tenant.schema);
    superuser.execute(AssertSqlSafe(revoke)).await.unwrap();
    kill_backends(&mut superuser).await;
    assert!(refused(ask(&ones, "SELECT pk FROM users").await), "a new connection cannot be bound");
    assert_eq!(ask(&others, "SELECT pk FROM users").await.unwrap().len(), 1);
    let answer = one.owner.request("GET", "/api/current_user/").send().await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.text);
    let grant = format!(r#"GRANT "{}" TO "{lane}""#, tenant.schema);
    superuser.execute(AssertSqlSafe(grant)).await.unwrap();
    assert_eq!(ask(&ones, "SELECT pk FROM users").await.unwrap().len(), 1);
}

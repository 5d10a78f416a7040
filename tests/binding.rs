//! Whose rows a connection sees: what PostgreSQL refuses, and what no cut-off, race or error may change.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tenants::{Fault, Job, PoolFigures, Tenant, TenantDb, TenantName, fault};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Options, Organization, TestApp};

/// Two organizations whose tenants share a lane.
async fn neighbours(app: &TestApp) -> (Organization, Organization) {
    let mut known: Vec<(u16, Organization)> = Vec::new();
    for slug in ["anna", "bert", "cora", "dirk", "emma", "finn", "gina", "hugo"] {
        let organization = app.sign_up(slug).await;
        let lane = tenant(app, &organization).await.lane;
        if let Some(index) = known.iter().position(|(other, _)| *other == lane) {
            return (known.swap_remove(index).1, organization);
        }
        known.push((lane, organization));
    }
    panic!("of three tenants, two share one of two lanes");
}

async fn tenant(app: &TestApp, organization: &Organization) -> Arc<Tenant> {
    let name = TenantName::Slug(organization.slug.parse().unwrap());
    app.app.tenancy.resolver().resolve(name).await.unwrap().unwrap()
}

async fn database(app: &TestApp, organization: &Organization) -> TenantDb {
    app.app.tenancy.database_of(tenant(app, organization).await)
}

#[expect(clippy::disallowed_methods, reason = "what must be refused cannot be built by sea-query")]
fn sql(text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}

#[expect(clippy::disallowed_methods, reason = "what must be refused cannot be built by sea-query")]
async fn ask(db: &impl ConnectionTrait, text: &str) -> Result<Vec<QueryResult>, DbErr> {
    db.query_all_raw(sql(text, [])).await
}

fn refused<T>(result: Result<T, DbErr>) -> bool {
    result.is_err_and(|error| {
        fault(&error) == Fault::TenantChanged && error.to_string().contains("permission denied")
    })
}

/// Who the next connection is and where it works; and that nobody's transaction is open on it.
#[expect(clippy::disallowed_methods, reason = "outside of a transaction, this is an error")]
async fn state(db: &TenantDb) -> (String, String) {
    let error = db.execute_raw(sql("SAVEPOINT nobody_has_begun", [])).await.unwrap_err();
    assert!(error.to_string().contains("can only be used in transaction blocks"), "{error}");
    let row = ask(db, "SELECT current_user::text AS role, current_schema()::text AS schema")
        .await
        .unwrap()
        .remove(0);
    let column = |name: &str| row.try_get::<String>("", name).unwrap();
    (column("role"), column("schema"))
}

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

/// A connection as a lane's login has it before it is bound.
async fn unbound(app: &TestApp, tenant: &Tenant) -> PgConnection {
    let mut connection = app.superuser().await;
    let members = format!(
        "SELECT m.rolname::text FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member \
         JOIN pg_roles g ON g.oid = a.roleid WHERE g.rolname = '{}' AND m.rolcanlogin AND NOT m.rolcreaterole",
        tenant.schema
    );
    let row = connection.fetch_one(AssertSqlSafe(members)).await.unwrap();
    let lane: String = sqlx::Row::get(&row, 0);
    connection.execute(AssertSqlSafe(format!(r#"SET SESSION AUTHORIZATION "{lane}""#))).await.unwrap();
    connection
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
    let jobs: Vec<(String, String)> = sqlx::query_as("SELECT tenant_id::text, kind FROM tenantry.jobs")
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
        "INSERT INTO tenantry.jobs (tenant_id, kind, payload, run_at) VALUES ('{}', 'forged', '{{}}', now())",
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
#[expect(clippy::disallowed_methods, reason = "a statement that fails")]
async fn a_failed_transaction_cannot_be_committed() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    let tx = db.begin().await.unwrap();
    tx.execute_raw(sql("UPDATE users SET first_name = 'lost'", [])).await.unwrap();
    assert!(tx.execute_raw(sql("SELECT 1 / 0", [])).await.is_err());
    let error = tx.commit().await.unwrap_err();
    assert!(error.to_string().contains("rolled back"), "{error}");
    assert_eq!(one.owner.get("/api/current_user/").await["first_name"], "");
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

/// Polls a future so many times and then drops it.
struct CutOff<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for CutOff<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        match self.future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // Cut off as soon as it waits for the last time.
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "short statements for a long test")]
async fn unit_of_work(db: &TenantDb, name: &str) -> Result<(), DbErr> {
    let tx = db.begin().await?;
    // Each takes long enough to be waited for, however fast PostgreSQL answers.
    tx.execute_raw(sql("UPDATE users SET first_name = $1 FROM pg_sleep(0.01)", [name.into()])).await?;
    tx.query_all_raw(sql("SELECT pk, username, email FROM users, pg_sleep(0.01)", [])).await?;
    tx.execute_raw(sql("UPDATE users SET last_name = $1 FROM pg_sleep(0.01)", [name.into()])).await?;
    tx.commit().await
}

#[tokio::test]
async fn a_unit_of_work_may_be_cut_off_at_every_await() {
    let app = TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await;
    let (one, other) = neighbours(&app).await;
    let (ones, others) = (database(&app, &one).await, database(&app, &other).await);
    let (own, foreign) = (tenant(&app, &one).await, tenant(&app, &other).await);

    let mut completed = 0;
    for polls in 1..200 {
        let work = Box::pin(unit_of_work(&ones, "Anna"));
        if let Some(result) = (CutOff { future: work, polls }).await {
            result.unwrap();
            completed += 1;
        }
        // Whichever connection comes next, of whichever tenant: it is the tenant's, and nobody's transaction is open.
        for (db, tenant) in [(&others, &foreign), (&ones, &own), (&others, &foreign)] {
            let schema = tenant.schema.to_string();
            assert_eq!(state(db).await, (schema.clone(), schema), "after {polls} polls");
        }
        let names = ask(&ones, "SELECT first_name, last_name FROM users").await.unwrap().remove(0);
        let name = |column: &str| names.try_get::<String>("", column).unwrap();
        assert_eq!(name("first_name"), name("last_name"), "half a unit of work after {polls} polls");
        if completed == 3 {
            break;
        }
    }
    assert_eq!(completed, 3, "the unit of work ends after some polls");
    let closed: u64 = app.app.tenancy.lane_figures().iter().map(|lane| lane.closed_unfinished).sum();
    assert!(closed >= 3, "{closed} connections were cut off in the middle of an exchange");
}

#[tokio::test]
async fn a_statement_may_be_cut_off_at_every_await() {
    let app = TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await;
    let (one, other) = neighbours(&app).await;
    let (ones, others) = (database(&app, &one).await, database(&app, &other).await);
    let (own, foreign) = (tenant(&app, &one).await, tenant(&app, &other).await);
    for polls in 1..40 {
        let query = Box::pin(ask(
            &ones,
            "SELECT username, repeat(username, 20000) FROM users, generate_series(1, 20)",
        ));
        let _ = (CutOff { future: query, polls }).await;
        let rows = ask(&others, "SELECT username FROM users").await.unwrap();
        assert_eq!(rows.len(), 1);
        let name: String = rows[0].try_get("", "username").unwrap();
        assert_eq!(name, other.owner.username, "after {polls} polls");
        for (db, tenant) in [(&ones, &own), (&others, &foreign)] {
            let schema = tenant.schema.to_string();
            assert_eq!(state(db).await, (schema.clone(), schema), "after {polls} polls");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_no_query_behind() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let mut superuser = app.superuser().await;
    let schema = tenant(&app, &one).await.schema.clone();
    superuser.execute(AssertSqlSafe(format!(r#"BEGIN; LOCK TABLE "{schema}".sessions"#))).await.unwrap();
    let mut watcher = app.superuser().await;
    let mut waiting = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let row = watcher.fetch_one(sql).await.unwrap();
        sqlx::Row::get::<i64, _>(&row, 0)
    };
    let client = tokio::spawn(one.owner.request("GET", "/api/current_user/").send());
    until(async || waiting().await == 1).await;
    client.abort();
    until(async || waiting().await == 0).await;
    let figures = app.app.tenancy.lane_figures();
    assert_eq!(figures.iter().map(|lane| lane.closed_unfinished).sum::<u64>(), 1, "{figures:?}");
    superuser.execute("ROLLBACK").await.unwrap();
    assert_eq!(one.owner.get("/api/current_user/").await["username"], one.owner.username.as_str());
}

/// Waits until it is so, and fails where that takes unreasonably long.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < end, "it never came to that");
        tokio::task::yield_now().await;
    }
}

/// One client among many: sends requests of one organization, and hangs up on half of them after a moment.
async fn client(app: Arc<TestApp>, own: Arc<Organization>, foreign: Arc<Organization>, requests: u32) {
    for n in 0..requests {
        if n % 2 == 0 {
            hang_up(&app, &own).await;
            continue;
        }
        let request = match n % 5 {
            0 => own.owner.request("GET", "/api/users/"),
            1 => own.owner.request("GET", "/api/tenant/"),
            2 => own.owner.request("PATCH", "/api/current_user/").json(&json!({"first_name": own.slug})),
            3 => app.request("GET", "/api/current_user/").bearer(&own.owner.token),
            _ => own.owner.request("GET", &format!("/api/users/{}/", own.owner.pk)),
        };
        let answer = request.send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let text = answer.text.to_lowercase();
        assert!(text.contains(&own.slug), "{text} is not of {}", own.slug);
        assert!(
            !text.contains(&foreign.slug) && !text.contains(&foreign.owner.pk),
            "{text} is of {}",
            foreign.slug
        );
    }
}

/// Sends a request and closes the connection a moment later, whatever the server is at.
async fn hang_up(app: &TestApp, own: &Organization) {
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    let body = format!(r#"{{"first_name":"{}"}}"#, own.slug);
    let request = format!(
        "PATCH /api/current_user/ HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        own.host(app),
        own.owner.token,
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let patience = Duration::from_micros(rand::rng().random_range(0..60_000));
    let mut answer = [0];
    // An answer that comes before the patience ends is as good.
    let _ = tokio::time::timeout(patience, socket.read(&mut answer)).await;
}

/// Two tenants, two connections, hundreds of requests at once, clients that hang up: not one row of the other tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_stress_nobody_sees_a_row_of_the_other_tenant() {
    const CLIENTS: u32 = 32;
    const REQUESTS: u32 = 25;
    let app = Arc::new(TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await);
    let (one, other) = neighbours(&app).await;
    let (one, other) = (Arc::new(one), Arc::new(other));
    let clients = (0..CLIENTS).map(|n| {
        let (own, foreign) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        tokio::spawn(client(Arc::clone(&app), Arc::clone(own), Arc::clone(foreign), REQUESTS))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let figures = app.app.tenancy.lane_figures();
    let closed: u64 = figures.iter().map(|lane| lane.closed_unfinished).sum();
    assert!(closed > 0, "no client hung up in the middle of an exchange: {figures:?}");
    assert!(figures.iter().all(|lane| lane.open <= 2 && lane.waiting == 0), "{figures:?}");

    for organization in [&one, &other] {
        let db = database(&app, organization).await;
        let rows = ask(&db, "SELECT username, first_name FROM users").await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].try_get::<String>("", "username").unwrap(), organization.owner.username);
        assert_eq!(rows[0].try_get::<String>("", "first_name").unwrap(), organization.slug);
    }
}

/// The figures of all lanes together.
fn figures(app: &TestApp) -> PoolFigures {
    app.app.tenancy.lane_figures().into_iter().fold(PoolFigures::default(), |sum, lane| PoolFigures {
        opened: sum.opened + lane.opened,
        bound: sum.bound + lane.bound,
        rebound: sum.rebound + lane.rebound,
        reused: sum.reused + lane.reused,
        retired: sum.retired + lane.retired,
        closed_unfinished: sum.closed_unfinished + lane.closed_unfinished,
        open: sum.open + lane.open,
        waiting: sum.waiting + lane.waiting,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_bound_already_is_not_bound_again() {
    let app = TestApp::start().await;
    let (one, other) = neighbours(&app).await;
    let (ones, others) = (database(&app, &one).await, database(&app, &other).await);
    ask(&ones, "SELECT pk FROM users").await.unwrap();
    ask(&others, "SELECT pk FROM users").await.unwrap();
    let before = figures(&app);
    for db in [&ones, &others, &ones, &others, &ones, &others] {
        assert_eq!(ask(db, "SELECT pk FROM users").await.unwrap().len(), 1);
    }
    let after = figures(&app);
    assert_eq!(
        after,
        PoolFigures { reused: before.reused + 6, ..before },
        "each tenant finds its own connection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_makes_the_next_use_bind_again_and_a_broken_rule_does_not() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    ask(&db, "SELECT pk FROM users").await.unwrap();
    let before = figures(&app);
    let broken = "INSERT INTO settings (singleton, name, created_at) VALUES (2, '', now())";
    assert!(matches!(fault(&ask(&db, broken).await.unwrap_err()), Fault::Check(_)));
    ask(&db, "SELECT pk FROM users").await.unwrap();
    let unharmed = figures(&app);
    assert_eq!((unharmed.rebound, unharmed.reused), (before.rebound, before.reused + 2));
    ask(&db, "SELECT 1 / 0").await.unwrap_err();
    ask(&db, "SELECT pk FROM users").await.unwrap();
    assert_eq!(figures(&app).rebound, before.rebound + 1);
    assert_eq!(figures(&app).opened, before.opened, "all on one connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_unnoticed_costs_nobody_a_read() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    for begin in [false, true] {
        ask(&db, "SELECT pk FROM users").await.unwrap();
        kill_backends(&mut app.superuser().await).await;
        if begin {
            let tx = db.begin().await.unwrap();
            assert_eq!(ask(&tx, "SELECT pk FROM users").await.unwrap().len(), 1);
        } else {
            assert_eq!(ask(&db, "SELECT pk FROM users").await.unwrap().len(), 1);
        }
    }
}

/// Ends every connection of a lane to this database, whatever it is at. Returns how many there were.
async fn kill_backends(superuser: &mut PgConnection) -> usize {
    let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND usename LIKE '%\\_lane\\_%'";
    superuser.fetch_all(sql).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_ends_and_leaves_its_connection_in_order() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let mut superuser = app.superuser().await;
    superuser
        .execute(r#"UPDATE tenantry.tenants SET limits = '{"statement_timeout_ms": 50}'"#)
        .await
        .unwrap();
    let tenant = tenant(&app, &one).await;
    app.app.tenancy.resolver().forget(&tenant).await;
    let db = database(&app, &one).await;
    assert_eq!(fault(&ask(&db, "SELECT pg_sleep(20)").await.unwrap_err()), Fault::TimedOut);
    let schema = tenant.schema.to_string();
    assert_eq!(state(&db).await, (schema.clone(), schema));
    let tx = db.begin().await.unwrap();
    assert_eq!(fault(&ask(&tx, "SELECT pg_sleep(20)").await.unwrap_err()), Fault::TimedOut);
    drop(tx);
    assert_eq!(ask(&db, "SELECT pk FROM users").await.unwrap().len(), 1);
    assert_eq!(figures(&app).closed_unfinished, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_unit_of_work_rolls_it_back() {
    let app = TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    for _ in 0..3 {
        let inside = db.clone();
        let unit = tokio::spawn(async move {
            let tx = inside.begin().await.unwrap();
            ask(&tx, "UPDATE users SET first_name = 'lost' RETURNING pk").await.unwrap();
            panic!("in the middle");
        });
        assert!(unit.await.unwrap_err().is_panic());
        // The next unit of work waits for the row's lock, which only the end of that transaction gives up.
        let rows = ask(&db, "UPDATE users SET last_name = 'kept' RETURNING first_name").await.unwrap();
        assert_eq!(rows[0].try_get::<String>("", "first_name").unwrap(), "");
    }
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

/// Requests of two tenants while every few moments all their connections are ended: what is answered is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_break_at_any_moment_show_nobody_a_row_of_the_other_tenant() {
    const KILLS: usize = 60;
    let app = Arc::new(TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await);
    let (one, other) = neighbours(&app).await;
    let (one, other) = (Arc::new(one), Arc::new(other));
    let over = Arc::new(AtomicBool::new(false));
    let clients = (0..8).map(|n| {
        let (own, foreign) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let (own, foreign, over) = (Arc::clone(own), Arc::clone(foreign), Arc::clone(&over));
        tokio::spawn(async move {
            let (mut right, mut unavailable) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let answer = own.owner.request("GET", "/api/users/").send().await;
                let text = answer.text.to_lowercase();
                assert!(!text.contains(&foreign.slug) && !text.contains(&foreign.owner.pk), "{text}");
                match answer.status {
                    200 => {
                        assert!(text.contains(&own.owner.pk), "{text}");
                        right += 1;
                    }
                    503 => {
                        assert_eq!(answer.header("retry-after"), "1");
                        unavailable += 1;
                    }
                    _ => panic!("{}", answer.text),
                }
            }
            (right, unavailable)
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut superuser = app.superuser().await;
    let mut killed = 0;
    for _ in 0..KILLS {
        killed += kill_backends(&mut superuser).await;
        let patience = Duration::from_micros(rand::rng().random_range(0..20_000));
        let _ = tokio::time::timeout(patience, std::future::pending::<()>()).await;
    }
    over.store(true, Ordering::Relaxed);
    let (mut right, mut unavailable) = (0, 0);
    for client in clients {
        let counts = client.await.unwrap();
        right += counts.0;
        unavailable += counts.1;
    }
    assert!(killed > KILLS / 2 && right > 0, "{killed} killed, {right} right, {unavailable} unavailable");
    for organization in [&one, &other] {
        let me = organization.owner.get("/api/current_user/").await;
        assert_eq!(me["username"], organization.owner.username.as_str());
    }
    let figures = figures(&app);
    assert!(figures.open <= 2 && figures.waiting == 0, "{figures:?}");
}

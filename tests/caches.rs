//! What a process remembers of the catalog: how much, and for how long once another process has changed it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tenants::{ResolverOptions, TenantName};

use crate::support::{Options, Organization, TestApp, eventually};

/// The status of a request that anybody may make in this organization, and that reads none of its rows.
async fn status(app: &TestApp, slug: &str) -> u16 {
    let host = format!("{slug}.localhost:{}", app.address.port());
    app.request("POST", "/api/login/").host(&host).json(&json!({})).send().await.status
}

/// What `status` is for an organization that is open, and for one that is not there.
const OPEN: u16 = 400;
const NOBODY: u16 = 404;

/// Two processes on one database that hear of each other.
async fn two_processes() -> (TestApp, TestApp) {
    let app = TestApp::start().await;
    let other = app.beside().await;
    for app in [&app, &other] {
        listening(app).await;
    }
    (app, other)
}

async fn listening(app: &TestApp) {
    eventually("it listens", async || app.app.tenancy.signals().is_listening()).await;
}

async fn sql(app: &TestApp, sql: impl Into<String>) {
    app.superuser().await.execute(AssertSqlSafe(sql.into())).await.unwrap();
}

/// Changes the catalog as another program would that keeps to the rules.
async fn announced(app: &TestApp, organization: &Organization, change: &str) {
    sql(app, format!("BEGIN; {change}; NOTIFY tenantry, 'tenant {}'; COMMIT", organization.id)).await;
}

/// Waits until all that was announced so far has arrived, the process's own announcements too: they come in their order.
async fn settled(app: &TestApp) {
    let before = app.app.tenancy.signals().signing_keys();
    sql(app, "NOTIFY tenantry, 'keys'").await;
    eventually("it is heard", async || app.app.tenancy.signals().signing_keys() > before).await;
}

fn queries(app: &TestApp) -> u64 {
    app.app.tenancy.resolver().figures().queries
}

/// Half the time for which an unknown name is believed: what is seen in it was announced.
const PROMPTLY: Duration = Duration::from_secs(5);

async fn promptly(what: &str, holds: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(PROMPTLY, eventually(what, holds)).await.unwrap_or_else(|_| panic!("late: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_organization_is_found_by_a_process_that_has_just_found_nobody() {
    let (app, other) = two_processes().await;
    settled(&other).await;
    assert_eq!(status(&other, "acme").await, NOBODY);
    let asked = queries(&other);
    assert_eq!(status(&other, "acme").await, NOBODY);
    assert_eq!(queries(&other), asked, "nobody is remembered");
    app.sign_up("acme").await;
    promptly("acme is found", async || status(&other, "acme").await == OPEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_and_its_end_are_heard_of_without_a_statement_in_the_schema() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    let slug = acme.slug.parse().unwrap();
    for _ in 0..2 {
        assert_eq!(status(&other, "acme").await, OPEN);
        app.app.tenancy.set_suspended(&slug, true).await.unwrap();
        // This request reads no row, so nothing but the announcement can tell.
        promptly("acme is closed", async || status(&other, "acme").await == 403).await;
        app.app.tenancy.set_suspended(&slug, false).await.unwrap();
        assert_eq!(status(&other, "acme").await, OPEN, "what is closed is not remembered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_moves_the_host_on_every_process() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    for app in [&app, &other] {
        assert_eq!((status(app, "acme").await, status(app, "apex").await), (OPEN, NOBODY));
    }
    announced(&app, &acme, "UPDATE tenantry.tenants SET slug = 'apex'").await;
    for app in [&app, &other] {
        promptly("the new name", async || status(app, "apex").await == OPEN).await;
        assert_eq!(status(app, "acme").await, NOBODY, "the old name");
    }
    let me = app.request("GET", "/api/tenant/").bearer(&acme.owner.token);
    assert_eq!(me.expect(200).await["slug"], "apex", "by the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_counts_once_it_is_verified_and_no_longer_than_it_is_there() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    let by_domain = async || {
        let login = other.request("POST", "/api/login/").host("acme.example").json(&json!({}));
        login.send().await.status
    };
    assert_eq!(by_domain().await, NOBODY);
    let id = &acme.id;
    announced(&app, &acme, &format!("INSERT INTO tenantry.domains VALUES ('acme.example', '{id}', now())"))
        .await;
    promptly("the domain", async || by_domain().await == OPEN).await;
    announced(&app, &acme, "DELETE FROM tenantry.domains").await;
    promptly("its end", async || by_domain().await == NOBODY).await;
    assert_eq!(status(&other, "acme").await, OPEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_ignored_and_what_does_costs_a_query() {
    let app = TestApp::start().await;
    listening(&app).await;
    app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    settled(&app).await;
    assert_eq!((status(&app, "acme").await, status(&app, "beta").await), (OPEN, OPEN));
    let asked = queries(&app);
    for payload in ["", "tenant", "tenant acme", "slug acme", "flush", "tenant 0; DROP TABLE users", "💥"] {
        sql(&app, format!("NOTIFY tenantry, '{payload}'")).await;
    }
    settled(&app).await;
    assert_eq!((status(&app, "acme").await, status(&app, "beta").await), (OPEN, OPEN));
    assert_eq!(queries(&app), asked);
    announced(&app, &beta, "SELECT 1").await;
    settled(&app).await;
    assert_eq!((status(&app, "acme").await, status(&app, "beta").await), (OPEN, OPEN));
    assert_eq!(queries(&app), asked + 1);
}

async fn count(app: &TestApp, sql: &'static str) -> i64 {
    app.superuser().await.fetch_one(sql).await.unwrap().get(0)
}

/// How many connections listen in this database.
async fn listeners(app: &TestApp) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'tenantry listener'";
    count(app, sql).await
}

/// Ends them, and says how many there were.
async fn cut(app: &TestApp) -> i64 {
    let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'tenantry listener'";
    count(app, sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_hear_forgets_everything_and_listens_again() {
    let app = TestApp::start().await;
    listening(&app).await;
    let acme = app.sign_up("acme").await;
    settled(&app).await;
    assert_eq!((status(&app, "acme").await, status(&app, "apex").await), (OPEN, NOBODY));
    let asked = queries(&app);
    // Unheard of: it is not announced.
    sql(&app, "UPDATE tenantry.tenants SET slug = 'apex'").await;
    assert_eq!((status(&app, "acme").await, status(&app, "apex").await), (OPEN, NOBODY));
    assert_eq!(queries(&app), asked);

    assert_eq!(cut(&app).await, 1);
    promptly("all is asked for again", async || {
        status(&app, "apex").await == OPEN && status(&app, "acme").await == NOBODY
    })
    .await;
    listening(&app).await;
    promptly("there is a new connection", async || listeners(&app).await == 1).await;
    announced(&app, &acme, "UPDATE tenantry.tenants SET slug = 'acme'").await;
    promptly("it hears again", async || status(&app, "acme").await == OPEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_listen_believes_nothing_for_long() {
    let app = TestApp::start().await;
    listening(&app).await;
    app.sign_up("acme").await;
    // Nobody gets in any more, so that it stays deaf.
    sql(
        &app,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()); END $$",
    )
    .await;
    assert_eq!(cut(&app).await, 1);
    eventually("it is deaf", async || !app.app.tenancy.signals().is_listening()).await;
    assert_eq!((status(&app, "acme").await, status(&app, "apex").await), (OPEN, NOBODY));
    sql(&app, "UPDATE tenantry.tenants SET slug = 'apex'").await;
    promptly("what was believed is asked for again", async || {
        status(&app, "apex").await == OPEN && status(&app, "acme").await == NOBODY
    })
    .await;
    assert!(!app.app.tenancy.signals().is_listening());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_listens_on_one_connection_and_gives_it_back() {
    let (app, other) = two_processes().await;
    other.app.tenancy.listen();
    assert_eq!(listeners(&app).await, 2);
    other.app.tenancy.close();
    promptly("it is closed", async || listeners(&app).await == 1).await;
}

/// Names that nobody has, of the kind that might be somebody's.
fn random_names(count: u32) -> impl Iterator<Item = TenantName> {
    (0..count).map(|n| match n % 2 {
        0 => TenantName::Slug(format!("nobody-{n}").parse().unwrap()),
        _ => TenantName::Domain(format!("nobody-{n}.example")),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_random_hosts_costs_a_query_each_and_no_memory() {
    const FLOOD: u32 = 10_000;
    let resolver = ResolverOptions { unknown: 100, ..ResolverOptions::default() };
    let app = TestApp::with(Options { resolver, ..Options::default() }).await;
    listening(&app).await;
    app.sign_up("acme").await;
    settled(&app).await;
    assert_eq!(status(&app, "acme").await, OPEN);
    let resolver = app.app.tenancy.resolver();
    let before = resolver.figures();

    let names: Vec<_> = random_names(FLOOD).collect();
    for names in names.chunks(500) {
        // Each of them twice at once.
        let both = names.iter().flat_map(|name| [name, name]).map(|name| resolver.resolve(name.clone()));
        for found in join_all(both).await {
            assert!(found.unwrap().is_none());
        }
    }
    let after = resolver.figures();
    assert!(after.queries - before.queries <= u64::from(FLOOD), "{after:?}");
    assert!(after.unknown <= 100, "{after:?}");
    assert_eq!((after.tenants, after.names), (before.tenants, before.names));

    assert_eq!(status(&app, "acme").await, OPEN);
    assert_eq!(resolver.figures().queries, after.queries, "acme was driven out");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_leave_a_connection_to_the_tenants_in_use() {
    let app = TestApp::start().await;
    listening(&app).await;
    app.sign_up("acme").await;
    let mut superuser = app.superuser().await;
    let mut transaction = superuser.begin().await.unwrap();
    // Whoever looks a name up waits here, on his connection.
    transaction.execute("LOCK TABLE tenantry.domains").await.unwrap();
    let tenancy = app.app.tenancy.clone();
    let flood =
        tokio::spawn(
            async move { join_all(random_names(10).map(|name| tenancy.resolver().resolve(name))).await },
        );
    let waiting = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        count(&app, sql).await
    };
    eventually("somebody waits", async || waiting().await > 0).await;
    tokio::time::timeout(Duration::from_secs(2), app.app.tenancy.ping()).await.unwrap().unwrap();
    assert_eq!(waiting().await, 1);
    transaction.rollback().await.unwrap();
    for found in flood.await.unwrap() {
        assert!(found.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_slug_is_never_asked_for() {
    let app = TestApp::start().await;
    let asked = queries(&app);
    for host in ["a", "www", "pg-x", "x--y", "acme-", "1st", "a.b"] {
        assert_eq!(status(&app, host).await, NOBODY, "{host}");
    }
    assert_eq!(queries(&app), asked);
}

//! A PostgreSQL that crashes, is stopped at once and started again, or fails over.

use std::{process::Command, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use super::*;

fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

fn postmaster(options: &embedded::Options) -> String {
    let find =
        Command::new("find").arg(&options.data_dir).args(["-name", "postmaster.pid"]).output().unwrap();
    let path = String::from_utf8(find.stdout).unwrap();
    let file = std::fs::read_to_string(path.trim()).unwrap();
    file.lines().next().unwrap().to_owned()
}

/// One backend is killed as the kernel does when memory runs out: PostgreSQL ends all others and recovers.
async fn crash(pooled: bool, name: &str) {
    let (_directory, _options, cluster) = cluster().await;
    let database = Database::on(&cluster).await;
    let superuser = cluster.superuser_url("postgres");
    let Some((database, _pooler)) = behind(&superuser, pooled, database).await else {
        return cluster.stop().await.unwrap();
    };
    let options = Options { rate_limits: false, ..Options::default() };
    let app = TestApp::on(database, tenantry::clock::Clock::system(), options).await;
    let [one, other] = [app.sign_up("anna").await, app.sign_up("bert").await].map(Arc::new);
    let load = Load::start(&[&one, &other], 3, 1);
    let mut recovered = (0, 0);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        // Whoever it is: PostgreSQL cannot know what it did to the memory that all share.
        let sql = "SELECT pg_backend_pid()::text";
        let mut one_of_them = app.superuser().await;
        let victim: String = one_of_them.fetch_one(sql).await.unwrap().get(0);
        kill("-KILL", &victim);
        eventually("the crash is noticed", async || {
            one.owner.request("GET", "/api/users/").send().await.status == 503
                || figures(&app).closed_unfinished > 0
        })
        .await;
        until_back(app.superuser_url()).await;
        recovered = recovered.max(recovery(&one).await);
        recovery(&other).await;
    }
    let toll = load.end().await;
    assert!(!toll.acknowledged.is_empty() && toll.refused() > 0, "{toll:?}");
    load::assert_kept(&app, &[&one, &other], &toll).await;
    assert_no_leak(&app, &[&one, &other]).await;
    report(name, &toll, recovered, &app);
    drop(app);
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_under_load_loses_nothing_that_was_acknowledged() {
    crash(false, "PostgreSQL crashed twice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_behind_a_pooler_loses_nothing_that_was_acknowledged() {
    crash(true, "PostgreSQL behind the pooler crashed twice").await;
}

/// Stopped at once, as by a machine that loses power, and started again, elsewhere as far as the service can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_load_loses_nothing_that_was_acknowledged() {
    let (_directory, options, cluster) = cluster().await;
    let database = Database::on(&cluster).await;
    let (app, proxy) =
        behind_proxy(database, Options { rate_limits: false, ..Options::default() }, true).await;
    let [one, other] = [app.sign_up("anna").await, app.sign_up("bert").await].map(Arc::new);
    let load = Load::start(&[&one, &other], 3, 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    kill("-QUIT", &postmaster(&options));
    cluster.ended().await;
    // It has ended already, and there is nothing to stop.
    cluster.stop().await.ok();
    let ready = app.request("GET", "/readyz").send().await;
    assert_eq!(ready.status, 503, "{}", ready.text);
    let cluster = Cluster::start(&options).await.unwrap();
    let superuser = cluster.superuser_url("faults");
    proxy.lead_to(socket(&superuser));
    let recovered = recovery(&one).await;
    recovery(&other).await;
    let toll = load.end().await;
    assert!(!toll.acknowledged.is_empty() && toll.refused() > 0, "{toll:?}");
    let app = app.looking_at(superuser);
    load::assert_kept(&app, &[&one, &other], &toll).await;
    assert_no_leak(&app, &[&one, &other]).await;
    report("PostgreSQL stopped at once and restarted", &toll, recovered, &app);
    drop(app);
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_killed_under_load_and_started_again_loses_nothing() {
    let database = Database::create().await;
    let Some(mut pooler) = PgBouncer::start(&database.superuser).await else { return };
    let database = database.behind(&pooler).await;
    let options = Options { rate_limits: false, ..Options::default() };
    let app = TestApp::on(database, tenantry::clock::Clock::system(), options).await;
    let [one, other] = [app.sign_up("anna").await, app.sign_up("bert").await].map(Arc::new);
    let load = Load::start(&[&one, &other], 3, 1);
    tokio::time::sleep(Duration::from_millis(400)).await;
    kill("-KILL", &pooler.pid().to_string());
    eventually("its end is noticed", async || {
        one.owner.request("GET", "/api/users/").send().await.status == 503
    })
    .await;
    pooler.start_again().await;
    let recovered = recovery(&one).await;
    recovery(&other).await;
    let toll = load.end().await;
    assert!(!toll.acknowledged.is_empty() && toll.refused() > 0, "{toll:?}");
    load::assert_kept(&app, &[&one, &other], &toll).await;
    assert_no_leak(&app, &[&one, &other]).await;
    report("PgBouncer killed and started again", &toll, recovered, &app);
}

/// The side of a fail-over that became read only, until the name leads to the other one.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_that_is_read_only_reads_go_on_and_its_connections_are_not_kept() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let patch = async || {
        let body = serde_json::json!({"first_name": "Anna"});
        one.owner.request("PATCH", "/api/current_user/").json(&body).send().await
    };
    assert_eq!(patch().await.status, 200);
    let mut superuser = app.superuser().await;
    let row = superuser.fetch_one("SELECT current_database()::text").await.unwrap();
    let name: String = row.get(0);
    let set = |setting: &str| AssertSqlSafe(format!("ALTER DATABASE {name} {setting}"));
    superuser.execute(set("SET default_transaction_read_only = on")).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND usename LIKE '%\\_lane\\_%'";
    superuser.fetch_all(end).await.unwrap();
    assert_eq!(one.owner.get("/api/current_user/").await["first_name"], "Anna");
    load::assert_unavailable(&patch().await);
    superuser.execute(set("RESET default_transaction_read_only")).await.unwrap();
    let mut tries = 1;
    while patch().await.status != 200 {
        tries += 1;
        assert!(tries <= 4, "connections to the read-only server are kept");
    }
    say(&format!("faults | fail-over | writes refused while read only | recovered in {tries} tries"));
}

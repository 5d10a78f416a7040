//! A network that cuts, tears, stalls and refuses.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;

use super::*;

/// A service in the shared cluster whose database is behind a proxy, and two organizations in it.
async fn service(pooled: bool) -> Option<(TestApp, Proxy, [Arc<Organization>; 2])> {
    let mut database = Database::create().await;
    if pooled {
        database = database.behind_pooler().await?;
    }
    // Soon enough for a test; an hour on the wall for whoever waits.
    database.settings.statement_timeout = Duration::from_secs(1);
    database.settings.lane_pool.answer = Duration::from_secs(1);
    database.settings.lane_pool.connect = Duration::from_secs(2);
    database.settings.lane_pool.wait = Duration::from_secs(2);
    let options = Options { rate_limits: false, ..Options::default() };
    let (app, proxy) = behind_proxy(database, options, false).await;
    let organizations = [app.sign_up("anna").await, app.sign_up("bert").await].map(Arc::new);
    Some((app, proxy, organizations))
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn cut_at_random(pooled: bool, name: &str) {
    const CUTS: usize = 25;
    let Some((app, proxy, [one, other])) = service(pooled).await else { return };
    let load = Load::start(&[&one, &other], 3, 2);
    for _ in 0..CUTS {
        pause(rand::rng().random_range(20..250)).await;
        proxy.cut();
    }
    let recovered = recovery(&one).await;
    let toll = load.end().await;
    assert!(!toll.acknowledged.is_empty() && toll.refused() > 0, "{toll:?}");
    load::assert_kept(&app, &[&one, &other], &toll).await;
    assert_no_leak(&app, &[&one, &other]).await;
    assert!(proxy.connections() > 10, "the connections were cut");
    assert!(recovered.1 < 6_000, "{recovered:?}");
    report(name, &toll, recovered, &app);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_random_moments_lose_nothing() {
    cut_at_random(false, "connections cut").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_pooler_cut_at_random_moments_lose_nothing() {
    cut_at_random(true, "connections to the pooler cut").await;
}

async fn torn_in_a_message(pooled: bool, name: &str) {
    let Some((app, proxy, [one, other])) = service(pooled).await else { return };
    let load = Load::start(&[&one, &other], 3, 2);
    for _ in 0..20 {
        // Logging in takes some hundred bytes, and an answer some thousand.
        proxy.turn(Weather::Torn(rand::rng().random_range(400..6_000)));
        pause(150).await;
    }
    proxy.turn(Weather::Fair);
    let recovered = recovery(&one).await;
    let toll = load.end().await;
    load::assert_kept(&app, &[&one, &other], &toll).await;
    assert_no_leak(&app, &[&one, &other]).await;
    assert!(!toll.acknowledged.is_empty() && figures(&app).opened > 3, "{toll:?}");
    report(name, &toll, recovered, &app);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_torn_within_a_message_lose_nothing() {
    torn_in_a_message(false, "connections torn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_pooler_torn_within_a_message_lose_nothing() {
    torn_in_a_message(true, "connections to the pooler torn").await;
}

async fn stall(pooled: bool, name: &str) {
    let Some((app, proxy, [one, other])) = service(pooled).await else { return };
    let load = Load::start(&[&one, &other], 2, 2);
    pause(300).await;
    proxy.turn(Weather::Stalled);
    pause(4_000).await;
    // Once that is known, few wait any more, and those for one connection that is tried.
    let start = Instant::now();
    for _ in 0..10 {
        load::assert_unavailable(&one.owner.request("GET", "/api/users/").send().await);
    }
    let ten = start.elapsed();
    proxy.turn(Weather::Fair);
    let recovered = recovery(&one).await;
    let toll = load.end().await;
    load::assert_kept(&app, &[&one, &other], &toll).await;
    assert_no_leak(&app, &[&one, &other]).await;
    // The statement or the wait for a connection, and then one that is not to be had: first the catalog's, then the lane's.
    assert!(toll.slowest < Duration::from_secs(9), "{:?}", toll.slowest);
    assert!(toll.refused() > 0 && ten < Duration::from_secs(9), "{ten:?} {toll:?}");
    assert!(recovered.1 < 6_000, "{recovered:?}");
    report(name, &toll, recovered, &app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_stalls_keeps_nobody_waiting() {
    stall(false, "network stalled for 4 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_stalls_before_a_pooler_keeps_nobody_waiting() {
    stall(true, "network before the pooler stalled for 4 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_refuses_nobody_knocks_in_a_storm_and_it_is_found_when_it_is_back() {
    let Some((app, proxy, [one, other])) = service(false).await else { return };
    let load = Load::start(&[&one, &other], 2, 2);
    pause(200).await;
    proxy.turn(Weather::Closed);
    proxy.cut();
    pause(1_500).await;
    let figures_then = figures(&app);
    assert!(app.app.tenancy.lane_figures().iter().any(|lane| lane.is_down), "{figures_then:?}");
    // Two lanes, each of which tried at growing intervals; all others were told at once.
    assert!(figures_then.failed <= 40 && figures_then.refused > figures_then.failed, "{figures_then:?}");
    proxy.turn(Weather::Fair);
    let recovered = recovery(&one).await;
    recovery(&other).await;
    let toll = load.end().await;
    load::assert_kept(&app, &[&one, &other], &toll).await;
    assert_no_leak(&app, &[&one, &other]).await;
    assert!(app.app.tenancy.lane_figures().iter().all(|lane| !lane.is_down));
    assert!(recovered.1 < 6_000 && toll.refused() > 0, "{recovered:?}");
    report("database refuses for 1.5 s", &toll, recovered, &app);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_is_not_down() {
    let Some((app, proxy, [one, _])) = service(false).await else { return };
    proxy.turn(Weather::Slow(Duration::from_millis(30)));
    let before = figures(&app).closed_unfinished;
    for _ in 0..3 {
        assert_eq!(one.owner.get("/api/users/").await["results"][0]["username"], one.owner.username.as_str());
    }
    assert_eq!(figures(&app).closed_unfinished, before);
}

/// Over TCP a connection that was ended is noticed by what it has to say, and not by a write that fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ended_by_the_server_costs_nobody_a_read_or_a_beginning() {
    let Some((app, _proxy, [one, _])) = service(false).await else { return };
    let db = one.db(&app).await;
    for _ in 0..3 {
        let both = tokio::join!(db.begin(), db.begin());
        for tx in [both.0.unwrap(), both.1.unwrap()] {
            ask(&tx, "SELECT pk FROM users").await.unwrap();
            tx.commit().await.unwrap();
        }
        end_lanes(&app).await;
        assert_eq!(ask(&db, "SELECT pk FROM users").await.unwrap().len(), 1);
        end_lanes(&app).await;
        let tx = db.begin().await.unwrap();
        assert_eq!(ask(&tx, "SELECT pk FROM users").await.unwrap().len(), 1);
        drop(tx);
        // What the one found out, the others know: a write, too, goes to one that was looked at anew.
        ask(&db, "SELECT pk FROM users").await.unwrap();
        let answer = one.owner.request("GET", "/api/current_user/").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

async fn end_lanes(app: &TestApp) {
    let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND usename LIKE '%\\_lane\\_%'";
    let ended = sqlx::raw_sql(sql).fetch_all(&mut app.superuser().await).await.unwrap();
    assert!(!ended.is_empty(), "there were connections to end");
}

/// A partition that says nothing: whoever listens asks by itself, and believes nothing meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_notices_a_silent_partition() {
    let (app, proxy) = behind_proxy(Database::create().await, Options::default(), true).await;
    let signals = app.app.tenancy.signals().clone();
    eventually("it listens", async || signals.is_listening()).await;
    let keys = signals.signing_keys();
    proxy.turn(Weather::Stalled);
    let start = Instant::now();
    eventually("the partition is noticed", async || !signals.is_listening()).await;
    let noticed = start.elapsed();
    assert!(noticed < Duration::from_secs(12), "{noticed:?}");
    assert!(signals.signing_keys() > keys, "what was remembered is forgotten");
    proxy.turn(Weather::Fair);
    let start = Instant::now();
    eventually("it listens again", async || signals.is_listening()).await;
    say(&format!(
        "faults | silent partition of the listener | noticed in {} ms | listening again in {} ms",
        noticed.as_millis(),
        start.elapsed().as_millis()
    ));
}

/// A pooler that nobody told of and that takes any start-up message: its connections keep nothing that is set on them.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_comes_to_stand_in_between_gives_nobody_the_rows_of_another() {
    for mode in ["transaction", "session"] {
        let database = Database::create().await;
        let (superuser, direct) = (database.superuser.clone(), database.settings.direct.clone());
        let settings =
            format!("ignore_startup_parameters = options\npool_mode = {mode}\nserver_round_robin = 1");
        let Some(pooler) = PgBouncer::start_with(&superuser, &settings).await else { return };
        pooler.serve(&superuser).await;
        let options = Options { rate_limits: false, ..Options::default() };
        let (app, proxy) = behind_proxy(database, options, false).await;
        let both = [app.sign_up("anna").await, app.sign_up("bert").await];
        let ask = async |one: &Organization| one.owner.request("GET", "/api/users/").send().await;
        proxy.lead_to(pooler.socket());
        proxy.cut();
        let mut refused = 0;
        for _ in 0..12 {
            let [one, other] = &both;
            for (organization, answer) in both.iter().zip(<[_; 2]>::from(tokio::join!(ask(one), ask(other))))
            {
                // A connection that was ended costs one that reads nothing.
                if answer.status == 200 {
                    let name = &answer.json()["results"][0]["username"];
                    assert_eq!(name, organization.owner.username.as_str());
                } else {
                    load::assert_unavailable(&answer);
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 24, "{mode}: nothing is read through it");
        proxy.lead_to(socket(&direct));
        proxy.cut();
        recovery(&both[0]).await;
    }
}

//! Requests a second.

use std::time::Duration;

use serde_json::json;

use super::Operator;
use crate::support::{Answer, Options, PASSWORD, TestApp, assert_not_valid, eventually};

const HEADERS: [&str; 4] = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy"];

fn said(answer: &Answer) -> [&str; 4] {
    HEADERS.map(|name| answer.header(name))
}

/// How often a connection of a lane was had.
fn checkouts(app: &TestApp) -> u64 {
    let figures = app.app.tenancy.lane_figures();
    figures.iter().map(|lane| lane.bound + lane.rebound + lane.reused).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sends_so_many_at_once_and_so_many_a_second() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    assert_eq!(said(&acme.owner.me().await), ["", "", "", ""], "nobody has a rate unless it is given one");
    ops.limit(&app, &acme, json!({"requests_per_second": 2, "burst": 3})).await;

    let first = acme.owner.me().await;
    assert_eq!((first.status, said(&first)), (200, ["3", "2", "1", "2;w=1;burst=3"]));
    // Whoever asks, and whatever comes of it.
    let wrong = json!({"username": "nobody", "password": "wrong"});
    let login = app.request("POST", "/api/login/").host(&acme.host(&app)).json(&wrong).send().await;
    assert_eq!((login.status, said(&login)), (400, ["3", "1", "1", "2;w=1;burst=3"]));
    let missing = acme.owner.request("GET", "/api/users/5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de/").send().await;
    assert_eq!((missing.status, said(&missing)), (404, ["3", "0", "2", "2;w=1;burst=3"]));

    let before = checkouts(&app);
    for _ in 0..5 {
        let refused = acme.owner.me().await;
        assert_eq!(
            refused.problem(),
            json!({
                "type": "about:blank", "title": "Too Many Requests", "status": 429, "code": "throttled",
                "detail": "Request was throttled. Expected available in 1 second.",
            })
        );
        assert_eq!(refused.header("retry-after"), "1");
        assert_eq!(said(&refused), ["3", "0", "1", "2;w=1;burst=3"]);
    }
    let unauthenticated = app.request("POST", "/api/login/").host(&acme.host(&app)).json(&wrong).send().await;
    assert_eq!(unauthenticated.said(), (429, "throttled".into()));
    assert_eq!(checkouts(&app), before, "who is refused costs the database nothing");
    // What is wrong with a token is told first, and does not count.
    let forged = app.request("GET", "/api/current_user/").host(&acme.host(&app)).bearer("x.y.z").send().await;
    assert_not_valid(&forged, "forged");
    let foreign = app.request("GET", "/api/current_user/").host(&acme.host(&app)).bearer(&beta.owner.token);
    assert_not_valid(&foreign.send().await, "another tenant's");
    assert_eq!(beta.owner.me().await.status, 200, "and the neighbour notices nothing");

    app.clock.advance(Duration::from_millis(499));
    assert_eq!(acme.owner.me().await.status, 429);
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(acme.owner.me().await.status, 200);
    assert_eq!(acme.owner.me().await.status, 429);
    app.clock.advance(Duration::from_mins(5));
    let rested = [acme.owner.me().await, acme.owner.me().await, acme.owner.me().await, acme.owner.me().await];
    assert_eq!(rested.map(|answer| answer.status), [200, 200, 200, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_each_process_s_own_and_changes_everywhere() {
    let app = TestApp::start().await;
    let (beside, ops) = (app.beside().await, Operator::of(&app).await);
    let acme = app.sign_up("acme").await;
    let there = acme.owner.at(&beside);
    assert_eq!((acme.owner.me().await.status, there.me().await.status), (200, 200));

    ops.limit(&app, &acme, json!({"requests_per_second": 1})).await;
    let here = [acme.owner.me().await, acme.owner.me().await];
    assert_eq!(here.map(|answer| answer.status), [200, 429], "from the next request on");
    eventually("the other process has heard of it", async || there.me().await.status == 429).await;
    app.clock.advance(Duration::from_secs(1));
    assert_eq!((acme.owner.me().await.status, there.me().await.status), (200, 200), "a bucket each");

    ops.limit(&app, &acme, json!({"requests_per_second": null})).await;
    assert_eq!(said(&acme.owner.me().await), ["", "", "", ""]);
    eventually("it has heard of that, too", async || there.me().await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_can_be_switched_off_and_operators_have_none() {
    let app = TestApp::with(Options { rate_limits: false, ..Options::default() }).await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up("acme").await;
    ops.limit(&app, &acme, json!({"requests_per_second": 1})).await;
    for _ in 0..3 {
        let answer = acme.owner.me().await;
        assert_eq!((answer.status, said(&answer)), (200, ["", "", "", ""]));
    }
    let detail = ops.request(&app, "GET", &super::tenant(&acme)).send().await;
    assert_eq!((detail.status, said(&detail)), (200, ["", "", "", ""]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_counts_when_it_is_opened_and_a_page_may_read_what_is_left() {
    let app = TestApp::with(Options { cors_origins: &["https://app.example"], ..Options::default() }).await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up("acme").await;
    ops.limit(&app, &acme, json!({"requests_per_second": 1, "burst": 3, "concurrency": 1})).await;
    let stream = acme.owner.request("GET", "/api/notifications/stream/").open().await;
    // It is open, and takes the place of nobody.
    let seen =
        acme.owner.request("GET", "/api/current_user/").header("origin", "https://app.example").send().await;
    assert_eq!((seen.status, seen.header("ratelimit-remaining")), (200, "1"));
    let exposed = seen.header("access-control-expose-headers").to_lowercase();
    assert!(HEADERS.iter().all(|name| exposed.contains(name)), "{exposed}");
    drop(stream);
    let right = json!({"username": acme.owner.username, "password": PASSWORD});
    app.request("POST", "/api/login/").host(&acme.host(&app)).json(&right).expect(200).await;
    let stream = acme.owner.request("GET", "/api/notifications/stream/").send().await;
    assert_eq!(stream.said(), (429, "throttled".into()));
}

//! Clocks that jump, and clocks that differ.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::{clock::Clock, jobs};

use crate::support::{Organization, PASSWORD, TestApp};

async fn log_in(app: &TestApp, organization: &Organization, password: &str) -> (u16, Value) {
    let body = json!({"username": organization.owner.username, "password": password});
    let host = organization.host(app);
    let answer = app.request("POST", "/api/login/").host(&host).json(&body).send().await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_is_set_by_the_databases_and_then_runs_by_itself() {
    let app = TestApp::start().await;
    let tenancy = &app.app.tenancy;
    let second = TimeDelta::seconds(1);
    for off in [TimeDelta::hours(1), TimeDelta::hours(-1), TimeDelta::seconds(5)] {
        let clock = Clock::running(tenancy.time().await.unwrap() + off);
        let ahead = clock.follow(tenancy).await.unwrap();
        assert!((ahead - off).abs() < second, "{off}: {ahead}");
        let differs = clock.now() - tenancy.time().await.unwrap();
        assert!(differs.abs() < second, "{off}: {differs}");
    }
    let clock = Clock::running(tenancy.time().await.unwrap());
    let twin = clock.clone();
    let ahead = clock.follow(tenancy).await.unwrap();
    assert!(ahead.abs() < second && twin.now() <= clock.now(), "{ahead}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_does_nothing_twice_and_shuts_nobody_out() {
    const HOUR: Duration = Duration::from_hours(1);
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let noon = app.clock.now();
    assert!(!app.mails().await.is_empty());
    for _ in 0..5 {
        assert_eq!(log_in(&app, &acme, "not the password").await.0, 400);
    }
    assert_eq!(log_in(&app, &acme, PASSWORD).await.0, 429, "too many failed");

    app.clock.set(noon - HOUR);
    assert_eq!(log_in(&app, &acme, PASSWORD).await.0, 200, "that is in the future now");
    assert_eq!(acme.owner.me().await.status, 200, "a session goes on");
    assert_eq!(jobs::run_due(&app.app).await.unwrap(), 0);
    for _ in 0..5 {
        assert_eq!(log_in(&app, &acme, "not the password").await.0, 400);
    }
    assert_eq!(log_in(&app, &acme, PASSWORD).await.0, 429, "what happens from here on counts");

    app.clock.set(noon + HOUR);
    assert_eq!(jobs::run_due(&app.app).await.unwrap(), 0, "nothing is done twice");
    assert_eq!(log_in(&app, &acme, PASSWORD).await.0, 200);
    // An access token lasts for ten minutes; the session goes on.
    assert_eq!(acme.owner.me().await.status, 401);
    acme.owner.refresh().expect(200).await;
}

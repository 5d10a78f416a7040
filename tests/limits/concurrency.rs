//! How much is worked on at once, and for how long.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{Operator, number};
use crate::support::{Organization, TestApp, eventually};

/// Keeps everybody from the users of an organization until it is closed.
async fn blocked(app: &TestApp, organization: &Organization) -> PgConnection {
    let mut lock = app.superuser().await;
    let sql = format!(r#"BEGIN; LOCK TABLE "{}".users IN ACCESS EXCLUSIVE MODE"#, organization.schema());
    lock.execute(AssertSqlSafe(sql)).await.unwrap();
    lock
}

async fn release(mut lock: PgConnection) {
    lock.execute("ROLLBACK").await.unwrap();
}

/// Waits until so many statements wait for a lock.
async fn waiting(app: &TestApp, count: i64) {
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = \
               (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("they wait for the lock", async || number(app, sql).await == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_much_is_worked_on_at_once_and_the_others_wait_a_little() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    app.mails().await;
    ops.limit(&app, &acme, json!({"concurrency": 1})).await;
    let lock = blocked(&app, &acme).await;
    let held = tokio::spawn(acme.owner.request("GET", "/api/current_user/").send());
    waiting(&app, 1).await;

    let refused = acme.owner.me().await;
    assert_eq!(
        refused.problem(),
        json!({
            "type": "about:blank", "title": "Too Many Requests", "status": 429, "code": "throttled",
            "detail": "Request was throttled. Expected available in 1 second.",
        })
    );
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit-limit")), ("1", ""));
    assert_eq!(beta.owner.me().await.status, 200);

    // One that waits has its turn as soon as there is room for it.
    let waits = tokio::spawn(acme.owner.request("GET", "/api/current_user/").send());
    release(lock).await;
    assert_eq!((held.await.unwrap().status, waits.await.unwrap().status), (200, 200));
    assert_eq!(acme.owner.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_part_of_what_is_worked_on() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up("acme").await;
    ops.limit(&app, &acme, json!({"concurrency": 1})).await;
    let lock = blocked(&app, &acme).await;
    let held = tokio::spawn(acme.owner.request("GET", "/api/current_user/").send());
    waiting(&app, 1).await;
    assert_eq!(app.mails().await.len(), 0, "the mail to the owner waits");
    release(lock).await;
    assert_eq!(held.await.unwrap().status, 200);
    let put_off = number(
        &app,
        "SELECT count(*) FROM tenantry.jobs WHERE status = 'queued' AND due_since = run_at \
                                AND error LIKE 'put off: the organization works on%'",
    );
    assert_eq!(put_off.await, 1);
    app.clock.advance(Duration::from_secs(10));
    assert_eq!(app.mails().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_holds_no_more_connections_than_it_works_with() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up("acme").await;
    let db = async || acme.db(&app).await;
    let held = db().await.begin().await.unwrap();
    let second = db().await.begin().await.unwrap();
    drop(second);
    ops.limit(&app, &acme, json!({"concurrency": 1})).await;
    drop(held);
    let held = db().await.begin().await.unwrap();
    let handle = db().await;
    let second = tokio::time::timeout(Duration::from_millis(300), handle.begin()).await;
    assert!(second.is_err(), "it waits for the first one");
    drop(held);
    handle.begin().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_takes_as_long_as_it_may_from_the_next_checkout_on() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up("acme").await;
    // Bound, with the time that everybody has.
    assert_eq!(acme.owner.me().await.status, 200);
    let lock = blocked(&app, &acme).await;
    ops.request(&app, "POST", super::PLANS)
        .json(&json!({"name": "short", "limits": {"statement_timeout_ms": 50}}))
        .expect(201)
        .await;
    execute_plan(&app, &acme, "short").await;
    eventually("the plan has been heard of", async || {
        let answer = tokio::time::timeout(Duration::from_secs(2), acme.owner.me()).await;
        answer.is_ok_and(|answer| answer.said() == (503, "service_unavailable".into()))
    })
    .await;
    release(lock).await;
    assert_eq!(acme.owner.me().await.status, 200);
}

/// Gives a tenant a plan as the command line does, which looks at nothing in the tenant's schema.
async fn execute_plan(app: &TestApp, acme: &Organization, plan: &str) {
    super::execute(app, &format!("UPDATE tenantry.tenants SET plan = '{plan}' WHERE id = '{}'", acme.id))
        .await;
    super::execute(app, &format!("NOTIFY tenantry, 'tenant {}'", acme.id)).await;
}

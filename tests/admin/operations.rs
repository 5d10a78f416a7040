//! What outlasts a request: how it is left, who does it, and what one sees of it. Purges stand for all kinds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use tenantry::operations;

use super::support::Operator;
use crate::support::{Organization, TestApp, eventually};

const OPERATIONS: &str = "/api/admin/operations/";

/// Closes an organization and leaves its purge.
async fn leave(app: &TestApp, ops: &Operator, of: &Organization) -> Value {
    let tenant = format!("/api/admin/tenants/{}/", of.id);
    ops.request(app, "DELETE", &tenant).expect(204).await;
    let purge = ops.request(app, "POST", &format!("{tenant}purge/")).json(&json!({"now": true}));
    purge.expect(202).await
}

fn path(operation: &Value) -> String {
    format!("{OPERATIONS}{}/", operation["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_left_listed_done_and_looked_up() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let left = leave(&app, &ops, &acme).await;
    let id = left["id"].as_str().unwrap();
    assert_eq!(
        left,
        json!({
            "id": id, "kind": "tenant.purge", "tenant": {"id": acme.id, "slug": "acme"}, "status": "queued",
            "done": 0, "total": null, "error": null, "result": null,
            "created_at": "2026-01-02T03:04:05.678901Z", "started_at": null, "finished_at": null,
        })
    );
    assert_eq!(ops.get(&app, &path(&left)).await, left);
    app.clock.advance(Duration::from_secs(1));
    let other = leave(&app, &ops, &beta).await;

    let ids = async |query: &str| {
        let page = ops.get(&app, &format!("{OPERATIONS}{query}")).await;
        let ids = page["results"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let other_id = other["id"].as_str().unwrap();
    assert_eq!(ids("").await, [other_id, id]);
    assert_eq!(ids("?ordering=created_at").await, [id, other_id]);
    assert_eq!(ids(&format!("?tenant={}", beta.id)).await, [other_id]);
    assert_eq!(ids("?status=running").await, Vec::<String>::new());

    assert_eq!(operations::run_queued(&app.app).await.unwrap(), 2);
    let done = ops.get(&app, &path(&left)).await;
    assert_eq!((&done["status"], &done["error"]), (&json!("succeeded"), &Value::Null));
    assert_eq!(done["done"], done["total"]);
    assert_eq!(done["finished_at"], "2026-01-02T03:04:06.678901Z");
    assert_eq!(done["result"]["slug"], "acme");
    assert_eq!(ids("?status=succeeded").await.len(), 2);
    assert_eq!(operations::run_queued(&app.app).await.unwrap(), 0);

    let nobody = format!("{OPERATIONS}5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de/");
    for path in [nobody.clone(), format!("{nobody}events/")] {
        assert_eq!(ops.request(&app, "GET", &path).send().await.said(), (404, "not_found".into()));
    }
    let key = ops.key_with(&app, &["provision", "destroy"]).await;
    for path in [OPERATIONS.to_owned(), path(&left), format!("{}events/", path(&left))] {
        let refused = app.request("GET", &path).bearer(&key).send().await;
        assert_eq!(refused.said(), (403, "permission_denied".into()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_one_operation_at_a_time_that_changes_it_as_a_whole() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    leave(&app, &ops, &acme).await;
    let purge = format!("/api/admin/tenants/{}/purge/", acme.id);
    let before = ops.log(&app).await.len();
    let second = ops.request(&app, "POST", &purge).json(&json!({"now": true})).send().await;
    assert_eq!(
        second.problem(),
        json!({
            "type": "about:blank", "title": "Conflict", "status": 409, "code": "operation_in_progress",
            "detail": "Another operation on this organization is under way: wait until it has ended.",
        })
    );
    assert_eq!(ops.log(&app).await.len(), before, "and what was not left is not in the log");
    assert_eq!(ops.get(&app, OPERATIONS).await["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_followed_until_it_has_ended() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let left = leave(&app, &ops, &acme).await;
    let mut events = ops.request(&app, "GET", &format!("{}events/", path(&left))).open().await;
    let first = events.next().await.unwrap();
    assert_eq!((first.name.as_str(), first.id), ("operation", 1));
    assert_eq!(first.data, left);
    let runners = operations::start(&app.app);
    let mut last = first.data;
    while last["status"] != "succeeded" {
        assert_eq!(last["finished_at"], Value::Null);
        last = events.next().await.unwrap().data;
    }
    assert_eq!(last, ops.get(&app, &path(&left)).await);
    assert_eq!(events.next().await, None);
    // One that has ended is told once.
    let mut again = ops.request(&app, "GET", &format!("{}events/", path(&left))).open().await;
    assert_eq!(again.next().await.unwrap().data, last);
    assert_eq!(again.next().await, None);
    assert_eq!(app.app.streams.count(), 0);
    runners.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_key_that_opened_it() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let left = leave(&app, &ops, &acme).await;
    let made = json!({"name": "watch", "scopes": ["read"]});
    let made = ops.request(&app, "POST", "/api/admin/api_keys/").json(&made).expect(201).await;
    let events = app.request("GET", &format!("{}events/", path(&left))).bearer(made["key"].as_str().unwrap());
    let mut events = events.open().await;
    assert_eq!(events.next().await.unwrap().data["status"], "queued");
    let key = format!("/api/admin/api_keys/{}/", made["id"].as_str().unwrap());
    ops.request(&app, "DELETE", &key).expect(204).await;
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_left_half_done_another_takes_up_when_the_lease_ran_out() {
    let app = TestApp::start().await;
    let beside = app.beside().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let left = leave(&app, &ops, &acme).await;
    // Whoever begins waits for this lock, in the middle of it.
    let mut superuser = app.superuser().await;
    let lock = format!(r#"BEGIN; LOCK TABLE "{}".users IN ACCESS SHARE MODE"#, acme.schema());
    superuser.execute(AssertSqlSafe(lock)).await.unwrap();
    let first = operations::start(&app.app);
    eventually("it is under way", async || ops.get(&app, &path(&left)).await["status"] == "running").await;
    assert_eq!(operations::run_queued(&beside.app).await.unwrap(), 0, "it has the lease");
    app.clock.advance(Duration::from_secs(61));
    let second = tokio::spawn({
        let app = beside.app.clone();
        async move { operations::run_queued(&app).await.unwrap() }
    });
    eventually("the other one is at it", async || attempts(&app).await == 2).await;
    superuser.execute("ROLLBACK").await.unwrap();
    assert_eq!(second.await.unwrap(), 1);
    let done = ops.get(&app, &path(&left)).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    first.finish().await;
    assert_eq!(ops.get(&app, &path(&left)).await, done, "what the first one reports does not count");
    let purged: Vec<_> =
        ops.log(&app).await.into_iter().filter(|entry| entry["action"] == "tenant.purged").collect();
    assert_eq!(purged.len(), 1);
}

async fn attempts(app: &TestApp) -> i32 {
    sqlx::query_scalar("SELECT attempts FROM tenantry.operations")
        .fetch_one(&mut app.superuser().await)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_for_a_moment_is_tried_again() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let left = leave(&app, &ops, &acme).await;
    let mut superuser = app.superuser().await;
    let lock = format!(r#"BEGIN; LOCK TABLE "{}".users IN ACCESS SHARE MODE"#, acme.schema());
    superuser.execute(AssertSqlSafe(lock)).await.unwrap();
    assert_eq!(operations::run_queued(&app.app).await.unwrap(), 1);
    let waits = ops.get(&app, &path(&left)).await;
    assert_eq!((&waits["status"], &waits["finished_at"]), (&json!("queued"), &Value::Null));
    assert!(waits["error"].as_str().unwrap().contains("lock timeout"), "{waits}");
    assert_eq!(operations::run_queued(&app.app).await.unwrap(), 0, "not at once");
    superuser.execute("ROLLBACK").await.unwrap();
    app.clock.advance(Duration::from_secs(10));
    assert_eq!(operations::run_queued(&app.app).await.unwrap(), 1);
    let done = ops.get(&app, &path(&left)).await;
    assert_eq!((&done["status"], &done["error"]), (&json!("succeeded"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_hands_back_what_it_is_at() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let left = leave(&app, &ops, &acme).await;
    let mut superuser = app.superuser().await;
    let lock = format!(r#"BEGIN; LOCK TABLE "{}".users IN ACCESS SHARE MODE"#, acme.schema());
    superuser.execute(AssertSqlSafe(lock)).await.unwrap();
    let runners = operations::start(&app.app);
    eventually("it is under way", async || ops.get(&app, &path(&left)).await["status"] == "running").await;
    runners.stop(Instant::now());
    runners.finish().await;
    let back = ops.get(&app, &path(&left)).await;
    assert_eq!(back["status"], "queued");
    assert_eq!(back["error"], "the server was stopped before it was done");
    let attempts: i32 = sqlx::query_scalar("SELECT attempts FROM tenantry.operations")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    assert_eq!(attempts, 0, "that was no failure");
    superuser.execute("ROLLBACK").await.unwrap();
    assert_eq!(operations::run_queued(&app.app).await.unwrap(), 1);
    assert_eq!(ops.get(&app, &path(&left)).await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_process_survives_is_given_up_and_an_operator_may_insist() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let left = leave(&app, &ops, &acme).await;
    let mut superuser = app.superuser().await;
    superuser.execute("UPDATE tenantry.operations SET attempts = 10").await.unwrap();
    operations::run_queued(&app.app).await.unwrap();
    let failed = ops.get(&app, &path(&left)).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["error"], "given up after 10 attempts: no process that began it lived to its end");
    superuser.execute("UPDATE tenantry.operations SET attempts = 3").await.unwrap();
    let id = left["id"].as_str().unwrap().parse().unwrap();
    let taken = operations::resume(&app.app, id).await.unwrap();
    assert_eq!(operations::run_queued(&app.app).await.unwrap(), 0, "it is taken");
    operations::perform(&app.app, &operations::Progress::of(taken.unwrap())).await;
    assert_eq!(ops.get(&app, &path(&left)).await["status"], "succeeded");
    assert!(operations::resume(&app.app, id).await.unwrap().is_none(), "what succeeded is not done again");
}

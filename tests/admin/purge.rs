//! The end of a tenant.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{
    cleanup, operations,
    purge::{self, Signed},
};

use super::support::Operator;
use crate::support::{Organization, Person, TestApp};

const DAY: Duration = Duration::from_hours(24);

fn path(of: &Organization) -> String {
    format!("/api/admin/tenants/{}/", of.id)
}

/// What there is of a tenant in the database: its schema, its role, and rows of the catalog that name it.
async fn traces(app: &TestApp, of: &Organization) -> Vec<(String, i64)> {
    let mut superuser = app.superuser().await;
    let select = "SELECT 'schema' AS what, count(*) FROM pg_namespace WHERE nspname = $1 \
         UNION ALL SELECT 'role', count(*) FROM pg_roles WHERE rolname = $1 \
         UNION ALL SELECT 'row', count(*) FROM tenantry.tenants WHERE id = $2 \
         UNION ALL SELECT 'addresses', count(*) FROM tenantry.email_index WHERE tenant_id = $2 \
         UNION ALL SELECT 'jobs', count(*) FROM tenantry.jobs WHERE tenant_id = $2";
    let id: uuid::Uuid = of.id.parse().unwrap();
    let rows = sqlx::query(select).bind(of.schema().to_string()).bind(id).fetch_all(&mut superuser).await;
    rows.unwrap().iter().map(|row| (row.get(0), row.get(1))).filter(|(_, count)| *count > 0).collect()
}

/// How many tables and rows a tenant has.
async fn tables_and_rows(app: &TestApp, of: &Organization) -> (usize, i64) {
    let mut superuser = app.superuser().await;
    let select = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1";
    let tables: Vec<String> =
        sqlx::query_scalar(select).bind(of.schema().to_string()).fetch_all(&mut superuser).await.unwrap();
    let mut rows = 0;
    for table in &tables {
        let count = AssertSqlSafe(format!(r#"SELECT count(*) FROM "{}"."{table}""#, of.schema()));
        rows += sqlx::query_scalar::<_, i64>(count).fetch_one(&mut superuser).await.unwrap();
    }
    (tables.len(), rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_purged_tenant_but_what_the_log_says() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    acme.add_user(&app, Person::named("ann")).await;
    let others = (traces(&app, &beta).await, tables_and_rows(&app, &beta).await);
    assert_eq!(traces(&app, &acme).await.len(), 5);
    let purge = async |body: &Value| {
        ops.request(&app, "POST", &format!("{}purge/", path(&acme))).json(body).send().await
    };
    assert_eq!(purge(&json!({"now": true})).await.said(), (409, "tenant_not_deleting".into()));
    ops.request(&app, "DELETE", &path(&acme)).expect(204).await;
    let early = purge(&json!({})).await;
    assert_eq!(early.said(), (409, "grace_period".into()));
    assert_eq!(early.json()["detail"], "The organization can be restored until 2026-02-01T03:04:05Z.");
    let key = ops.key_with(&app, &["read", "provision"]).await;
    let refused = app.request("POST", &format!("{}purge/", path(&acme))).bearer(&key).send().await;
    assert_eq!(refused.said(), (403, "permission_denied".into()));
    assert_eq!(purge(&json!({"now": 1})).await.json()["now"], json!(["Must be a valid boolean."]));
    let wanted = purge(&json!({"now": true})).await;
    assert_eq!(wanted.status, 202, "{}", wanted.text);

    let (tables, rows) = tables_and_rows(&app, &acme).await;
    operations::run_queued(&app.app).await.unwrap();
    assert_eq!(traces(&app, &acme).await, []);
    assert_eq!((traces(&app, &beta).await, tables_and_rows(&app, &beta).await), others);
    assert_eq!(ops.request(&app, "GET", &path(&acme)).send().await.said(), (404, "not_found".into()));
    assert_eq!(acme.owner.me().await.said(), (404, "tenant_not_found".into()));
    assert_eq!(beta.owner.me().await.status, 200);

    let log = ops.log(&app).await;
    let (purged, requested) = (&log[0], &log[1]);
    let operation = wanted.json()["id"].clone();
    assert_eq!(requested["action"], "tenant.purge_requested");
    assert_eq!(requested["detail"], json!({"operation": operation, "now": true}));
    assert_eq!(
        (&purged["action"], &purged["actor"]["name"]),
        (&json!("tenant.purged"), &json!("ops@example.com"))
    );
    assert_eq!(purged["tenant"], json!({"id": acme.id, "slug": "acme"}));
    let mut detail = purged["detail"].clone();
    assert_eq!(
        ops.get(&app, &format!("/api/admin/operations/{}/", operation.as_str().unwrap())).await["result"],
        detail
    );
    let mac = detail.as_object_mut().unwrap().remove("mac").unwrap();
    assert_eq!(mac.as_str().unwrap().len(), 64);
    let catalog_rows = detail["catalog_rows"].clone();
    assert!(catalog_rows.as_i64().unwrap() >= 2, "an address and a mail: {detail}");
    assert_eq!(
        detail,
        json!({
            "operation": operation, "tenant": acme.id, "slug": "acme", "name": "ACME", "schema": acme.schema().to_string(),
            "tables": tables, "rows": rows, "catalog_rows": catalog_rows, "by": "ops@example.com",
            "absent": {"schema": true, "role": true, "catalog_rows": true, "tenant": true},
            "closed_at": "2026-01-02T03:04:05.678901Z", "purged_at": "2026-01-02T03:04:05.678901Z",
        })
    );
    a_certificate_is_as_it_was_signed(&app, &acme, &purged["detail"]).await;
    the_slug_stays_taken(&app, &ops).await;
}

async fn a_certificate_is_as_it_was_signed(app: &TestApp, acme: &Organization, detail: &Value) {
    for (id, slug) in [(Some(acme.id.parse().unwrap()), None), (None, Some("acme"))] {
        let found = purge::find_certificate(&app.app, id, slug).await.unwrap().unwrap();
        assert!(found.is_valid(&app.app));
    }
    assert_eq!(purge::find_certificate(&app.app, None, Some("beta")).await.unwrap(), None);
    for (member, value) in
        [("rows", json!(0)), ("slug", json!("beta")), ("purged_at", json!("2026-01-01T00:00:00Z"))]
    {
        let mut forged = detail.clone();
        forged[member] = value;
        assert!(!Signed::read(forged).unwrap().is_valid(&app.app), "{member}");
    }
}

async fn the_slug_stays_taken(app: &TestApp, ops: &Operator) {
    let again = json!({"name": "Acme", "slug": "acme", "owner": {"email": "ann@acme.example"}});
    let provision = async || ops.request(app, "POST", "/api/admin/tenants/").json(&again).send().await;
    assert_eq!(provision().await.said(), (409, "slug_taken".into()));
    app.clock.advance(DAY * 90);
    assert_eq!(provision().await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_grace_period_is_over_the_clean_up_leaves_the_purge() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    ops.request(&app, "DELETE", &path(&acme)).expect(204).await;
    let pass = async || cleanup::pass(&app.app, app.clock.now()).await.unwrap().purges;
    app.clock.advance(DAY * 30);
    assert_eq!(pass().await, 0);
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(pass().await, 1);
    assert_eq!(pass().await, 0, "it is left once");
    operations::run_queued(&app.app).await.unwrap();
    assert_eq!(traces(&app, &acme).await, []);
    assert_eq!(traces(&app, &beta).await.len(), 5);
    assert_eq!(ops.log(&app).await[0]["actor"]["name"], "clean-up");
    assert_eq!(pass().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_restored_in_time_is_not_purged() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    ops.request(&app, "DELETE", &path(&acme)).expect(204).await;
    let now = json!({"now": true});
    let left = ops.request(&app, "POST", &format!("{}purge/", path(&acme))).json(&now).expect(202).await;
    ops.request(&app, "POST", &format!("{}restore/", path(&acme))).expect(200).await;
    // Closed again, it has another grace period.
    app.clock.advance(DAY);
    ops.request(&app, "DELETE", &path(&acme)).expect(204).await;
    operations::run_queued(&app.app).await.unwrap();
    let operation = format!("/api/admin/operations/{}/", left["id"].as_str().unwrap());
    let failed = ops.get(&app, &operation).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["error"], "the tenant is not being deleted any more: it was restored");
    ops.request(&app, "POST", &format!("{}restore/", path(&acme))).expect(200).await;
    assert_eq!(acme.log_in(&app).await.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_gone_can_be_looked_at_and_not_be_brought_back() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    ops.request(&app, "DELETE", &path(&acme)).expect(204).await;
    let id = acme.id.parse().unwrap();
    let purging = app.app.tenancy.purge(id, app.clock.now()).await.unwrap().unwrap();
    let left = purging.left().await.unwrap();
    let users: Vec<_> = left.iter().filter(|it| it.name() == "users").cloned().collect();
    purging.drop_these(&users).await.unwrap();
    purging.drop_these(&users).await.unwrap();

    let shown = ops.get(&app, &path(&acme)).await;
    assert_eq!((&shown["status"], &shown["usage"]["users"]), (&json!("purging"), &json!(0)));
    assert_eq!(ops.get(&app, "/api/admin/tenants/?status=purging").await["count"], 1);
    for (method, to, body) in [
        ("POST", "restore/", json!({})),
        ("POST", "suspend/", json!({})),
        ("POST", "resume/", json!({})),
        ("DELETE", "", json!({})),
        ("PATCH", "", json!({"slug": "acme-2"})),
    ] {
        let refused = ops.request(&app, method, &format!("{}{to}", path(&acme))).json(&body).send().await;
        assert_eq!(refused.said(), (409, "tenant_purging".into()), "{method} {to}");
    }
    assert_eq!(acme.owner.me().await.said(), (404, "tenant_not_found".into()));
    assert_eq!(app.app.tenancy.behind().await.unwrap(), 0);

    // Its purge failed, or nobody left one: an operator does, without having to wait.
    ops.request(&app, "POST", &format!("{}purge/", path(&acme))).expect(202).await;
    operations::run_queued(&app.app).await.unwrap();
    assert_eq!(traces(&app, &acme).await, []);
    let detail = ops.log(&app).await.remove(0)["detail"].clone();
    assert_eq!(detail["tables"], left.len(), "each counted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_may_be_cut_off_anywhere() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    ops.request(&app, "DELETE", &path(&acme)).expect(204).await;
    let left = ops.request(&app, "POST", &format!("{}purge/", path(&acme))).json(&json!({"now": true}));
    let left = left.expect(202).await;
    let (tables, rows) = tables_and_rows(&app, &acme).await;
    let operation = format!("/api/admin/operations/{}/", left["id"].as_str().unwrap());
    // Each attempt gets a little further; nothing of one that was cut off goes on.
    let mut attempts = 0;
    while ops.get(&app, &operation).await["status"] != "succeeded" {
        attempts += 1;
        let patience = Duration::from_millis(3 * attempts);
        tokio::time::timeout(patience, operations::run_queued(&app.app)).await.ok();
        app.clock.advance(Duration::from_secs(61));
        sqlx::query("UPDATE tenantry.operations SET attempts = attempts % 5")
            .execute(&mut app.superuser().await)
            .await
            .unwrap();
    }
    assert!(attempts > 3, "{attempts}");
    assert_eq!(traces(&app, &acme).await, []);
    let done = ops.get(&app, &operation).await;
    assert_eq!((&done["result"]["tables"], &done["result"]["rows"]), (&json!(tables), &json!(rows)));
    let purged = ops.log(&app).await.into_iter().filter(|entry| entry["action"] == "tenant.purged");
    assert_eq!(purged.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_takes_no_more_locks_than_were_reckoned_with() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let id = acme.id.parse().unwrap();
    app.app.tenancy.close_tenant(id, app.clock.now()).await.unwrap();
    let purging = app.app.tenancy.purge(id, app.clock.now()).await.unwrap().unwrap();
    let mut superuser = app.superuser().await;
    for it in purging.left().await.unwrap() {
        let drop = format!(r#"BEGIN; DROP TABLE "{}"."{}" CASCADE"#, acme.schema(), it.name());
        superuser.execute(AssertSqlSafe(drop)).await.unwrap();
        // What every transaction has, pg_locks itself among it, is not of the table.
        let taken: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND NOT fastpath \
             AND locktype IN ('relation', 'object')",
        )
        .fetch_one(&mut superuser)
        .await
        .unwrap();
        superuser.execute("ROLLBACK").await.unwrap();
        // Beside its own objects: the schema, a few tables of PostgreSQL's own, and those it refers to.
        assert!(taken <= it.locks() + 25, "{}: {taken} and not {}", it.name(), it.locks());
        assert!(it.locks() >= 4, "{}: {}", it.name(), it.locks());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_put_there_by_hand_goes_too() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let sql = "CREATE TABLE {s}.\"odd \"\"name\" (id int); CREATE VIEW {s}.people AS SELECT * FROM {s}.users; \
         CREATE SEQUENCE {s}.numbers; CREATE MATERIALIZED VIEW {s}.m AS SELECT 1 AS one; \
         CREATE FUNCTION {s}.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE {s}.pair AS (a int, b int)";
    let sql = sql.replace("{s}", &format!("\"{}\"", acme.schema()));
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
    ops.request(&app, "DELETE", &path(&acme)).expect(204).await;
    let purge = ops.request(&app, "POST", &format!("{}purge/", path(&acme))).json(&json!({"now": true}));
    purge.expect(202).await;
    operations::run_queued(&app.app).await.unwrap();
    assert_eq!(traces(&app, &acme).await, []);
}

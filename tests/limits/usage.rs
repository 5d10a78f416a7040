//! What tenants used, as operators see it.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry::usage;

use super::{Operator, execute, tenant};
use crate::support::{Organization, TestApp};

async fn days(app: &TestApp, ops: &Operator, organization: &Organization) -> Vec<Value> {
    let page = ops.get(app, &format!("{}usage/", tenant(organization))).await;
    page["results"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_processes_together_count_what_a_tenant_used_on_a_day() {
    let app = TestApp::start().await;
    let (beside, ops) = (app.beside().await, Operator::of(&app).await);
    let acme = app.sign_up("acme").await;
    assert_eq!(days(&app, &ops, &acme).await, [json!(null); 0]);
    for _ in 0..3 {
        assert_eq!(acme.owner.me().await.status, 200);
        assert_eq!(acme.owner.at(&beside).me().await.status, 200);
    }
    ops.limit(&app, &acme, json!({"requests_per_second": 1})).await;
    assert_eq!(acme.owner.me().await.status, 200);
    assert_eq!(acme.owner.me().await.status, 429);
    // The table is missing, so the tenant is resolved again and the answer is a 503.
    execute(&app, &format!(r#"ALTER TABLE "{}".sessions RENAME TO gone"#, acme.schema())).await;
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(acme.owner.me().await.status, 503);
    execute(&app, &format!(r#"ALTER TABLE "{}".gone RENAME TO sessions"#, acme.schema())).await;
    for process in [&app, &beside] {
        usage::flush(&process.app).await.unwrap();
    }
    let shown = days(&app, &ops, &acme).await;
    assert_eq!(shown.len(), 1);
    let mut day = shown[0].clone();
    let time = day.as_object_mut().unwrap().remove("database_time_ms").unwrap();
    let expected = json!({"day": "2026-01-02", "requests": 9, "errors": 1, "throttled": 1, "mails": 0});
    assert_eq!(day, expected);
    assert!(time.as_i64().unwrap() > 0 && time.as_i64().unwrap() < 60_000, "{time}");

    // What is written down is not written down again, and the next day is another one.
    usage::flush(&app.app).await.unwrap();
    assert_eq!(days(&app, &ops, &acme).await, shown);
    app.clock.advance(Duration::from_hours(24));
    assert_eq!(acme.sign_in(&app).await.me().await.status, 200);
    usage::flush(&app.app).await.unwrap();
    let two = days(&app, &ops, &acme).await;
    assert_eq!((two.len(), &two[0]["day"], &two[0]["requests"]), (2, &json!("2026-01-03"), &json!(1)));
    assert_eq!(two[1], shown[0]);
    let oldest = ops.get(&app, &format!("{}usage/?ordering=day&page_size=1", tenant(&acme))).await;
    assert_eq!((&oldest["count"], &oldest["results"][0]), (&json!(2), &shown[0]));
    let nobody = "/api/admin/tenants/5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de/usage/";
    assert_eq!(ops.request(&app, "GET", nobody).send().await.said(), (404, "not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_down_is_kept() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up("acme").await;
    assert_eq!(acme.owner.me().await.status, 200);
    execute(&app, "ALTER TABLE tenantry.tenant_usage RENAME TO gone").await;
    usage::flush(&app.app).await.unwrap_err();
    execute(&app, "ALTER TABLE tenantry.gone RENAME TO tenant_usage").await;
    assert_eq!(acme.owner.me().await.status, 200);
    usage::flush(&app.app).await.unwrap();
    assert_eq!(days(&app, &ops, &acme).await[0]["requests"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_busiest_come_first() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let (acme, beta, idle) =
        (app.sign_up("acme").await, app.sign_up("beta").await, app.sign_up("idle").await);
    for _ in 0..3 {
        acme.owner.me().await;
    }
    beta.owner.me().await;
    usage::flush(&app.app).await.unwrap();
    usage::measure(&app.app, app.clock.now()).await.unwrap();
    let time = |id: &str, micros: u64| {
        format!(
            "UPDATE tenantry.tenant_usage SET database_micros = {micros}, errors = {micros} WHERE tenant_id = '{id}'"
        )
    };
    execute(&app, &time(&acme.id, 1_500)).await;
    execute(&app, &time(&beta.id, 2_000)).await;
    let busiest = async |query: &str| {
        let page = ops.get(&app, &format!("/api/admin/usage/{query}")).await;
        let slugs = page["results"].as_array().unwrap().iter().map(|one| one["tenant"]["slug"].clone());
        slugs.filter(|slug| slug != "idle").collect::<Vec<_>>()
    };
    assert_eq!(busiest("").await, ["acme", "beta"]);
    for query in ["?ordering=-database_time", "?ordering=-errors", "?ordering=requests"] {
        assert_eq!(busiest(query).await, ["beta", "acme"], "{query}");
    }
    assert_eq!(busiest("?day=2026-01-01").await, [""; 0]);
    assert_eq!(busiest("?day=2026-01-02").await, ["acme", "beta"]);
    let wrong = ops.request(&app, "GET", "/api/admin/usage/?day=yesterday").send().await;
    assert_eq!((wrong.status, wrong.json()["day"].is_array()), (400, true), "{}", wrong.text);

    let first = ops.get(&app, "/api/admin/usage/?page_size=1").await["results"][0].clone();
    assert!(first["bytes"].as_i64().unwrap() > 100_000 && first["rows"].as_i64().is_some());
    let expected = json!({
        "tenant": {"id": acme.id, "slug": "acme"}, "requests": 3, "errors": 1500, "throttled": 0,
        "database_time_ms": 1, "mails": 0, "users": 1, "rows": first["rows"], "bytes": first["bytes"],
        "measured_at": "2026-01-02T03:04:05.678901Z",
    });
    assert_eq!(first, expected);
    drop(idle);
}

//! Tenants that are restored from archives.

use serde_json::{Value, json};
use tenantry::operations;

use super::{
    archives::{exported, host, of, succeeded},
    support::Operator,
};
use crate::support::{Organization, PASSWORD, Person, TestApp, assert_not_valid};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_restored_and_what_was_there_is_kept_aside() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let archive = exported(&app, &ops, &acme.id).await;
    let domain = format!("INSERT INTO tenantry.domains VALUES ('acme.example', '{}', now())", acme.id);
    sqlx::Executor::execute(&mut app.superuser().await, sqlx::AssertSqlSafe(domain)).await.unwrap();
    acme.add_account(&app, Person::named("late")).await;
    let body = json!({"archive": archive});
    let request = || ops.request(&app, "POST", &of(&acme.id, "restore_from")).json(&body);
    let result = succeeded(&app, &ops, request()).await;
    assert_eq!(result["replaced"], json!({"id": acme.id, "slug": "acme-2", "status": "suspended"}));
    assert_eq!((&result["tenant"]["slug"], &result["tenant"]["name"]), (&json!("acme"), &json!("ACME")));

    // Whoever was signed in signs in again; and finds what there was.
    assert_not_valid(&acme.owner.me().await, "a token of the tenant that was replaced");
    let id = result["tenant"]["id"].as_str().unwrap().to_owned();
    let restored = Organization { id, slug: "acme".into(), owner: acme.owner.clone() };
    let owner = restored.log_in(&app).await;
    assert_eq!(owner.get("/api/users/").await["count"], 1);
    let by_domain = json!({"username": "acme-owner", "password": PASSWORD});
    app.request("POST", "/api/login/").host("acme.example").json(&by_domain).expect(200).await;
    assert_eq!(ops.get(&app, &format!("/api/admin/tenants/{}/", restored.id)).await["mails_held"], false);
    let entry = owner.get("/api/tenant/audit/").await["results"][0].clone();
    assert_eq!(
        (&entry["action"], &entry["detail"]["replaced"]),
        (&json!("tenant.restored_from"), &json!(acme.id))
    );

    let old = app.request("POST", "/api/login/").host(&host(&app, "acme-2")).json(&by_domain).send().await;
    assert_eq!(old.said(), (403, "tenant_suspended".into()));
    ops.request(&app, "POST", &of(&acme.id, "resume")).expect(200).await;
    let old = Organization { id: acme.id.clone(), slug: "acme-2".into(), owner: acme.owner.clone() };
    let old = old.log_in(&app).await;
    assert_eq!(old.get("/api/users/").await["count"], 2);
    assert_eq!(old.get("/api/tenant/audit/").await["results"][1]["action"], "tenant.replaced");

    ops.request(&app, "DELETE", &format!("/api/admin/tenants/{}/", acme.id)).expect(204).await;
    assert_eq!(request().send().await.said(), (409, "tenant_deleting".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_kept_out_is_so_after_a_restore() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let archive = exported(&app, &ops, &acme.id).await;
    ops.request(&app, "POST", &of(&acme.id, "suspend")).expect(200).await;
    let body = json!({"archive": archive});
    let request = ops.request(&app, "POST", &of(&acme.id, "restore_from")).json(&body);
    let id = succeeded(&app, &ops, request).await["tenant"]["id"].as_str().unwrap().to_owned();
    let login = json!({"username": "acme-owner", "password": PASSWORD});
    let login = || app.request("POST", "/api/login/").host(&host(&app, "acme")).json(&login);
    assert_eq!(login().send().await.said(), (403, "tenant_suspended".into()));
    ops.request(&app, "POST", &of(&id, "resume")).expect(200).await;
    login().expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_an_archive_of_the_tenant_or_of_one_whose_place_it_took() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let (of_acme, of_beta) = (exported(&app, &ops, &acme.id).await, exported(&app, &ops, &beta.id).await);
    let restore =
        |tenant: &str, body: Value| ops.request(&app, "POST", &of(tenant, "restore_from")).json(&body);
    let refused = restore(&acme.id, json!({"archive": of_beta})).send().await;
    assert_eq!(refused.said(), (409, "archive_of_another_tenant".into()));
    assert!(refused.text.contains("another tenant, beta"), "{}", refused.text);
    assert_eq!(ops.get(&app, "/api/admin/operations/").await["count"], 2, "the exports");

    // The tenant that took acme's place, and the one that took that one's: each is what acme was.
    let mut current = acme.id.clone();
    for _ in 0..2 {
        let result = succeeded(&app, &ops, restore(&current, json!({"archive": of_acme}))).await;
        current = result["tenant"]["id"].as_str().unwrap().to_owned();
    }
    // Also when those between are gone.
    let purged = format!("DELETE FROM tenantry.tenants WHERE id NOT IN ('{current}', '{}')", beta.id);
    sqlx::Executor::execute(&mut app.superuser().await, sqlx::AssertSqlSafe(purged)).await.unwrap();
    let result = succeeded(&app, &ops, restore(&current, json!({"archive": of_acme}))).await;
    assert_eq!(result["tenant"]["slug"], "acme");
    let acme_now = result["tenant"]["id"].as_str().unwrap();
    // Not the other way round: who was put aside took nobody's place.
    let of_now = exported(&app, &ops, acme_now).await;
    let refused = restore(&current, json!({"archive": of_now})).send().await;
    assert_eq!(refused.said(), (409, "archive_of_another_tenant".into()));

    // Who says that he means it gets it, under the name and with the age of the one that was there.
    let before = ops.get(&app, &format!("/api/admin/tenants/{acme_now}/")).await;
    app.clock.advance(std::time::Duration::from_hours(24));
    let body = json!({"archive": of_beta, "other_tenant": true});
    let result = succeeded(&app, &ops, restore(acme_now, body)).await;
    assert_eq!((&result["tenant"]["slug"], &result["tenant"]["name"]), (&json!("acme"), &json!("ACME")));
    let id = result["tenant"]["id"].as_str().unwrap().to_owned();
    let after = ops.get(&app, &format!("/api/admin/tenants/{id}/")).await;
    assert_eq!((&after["name"], &after["created_at"]), (&before["name"], &before["created_at"]));
    let restored = Organization { id, slug: "acme".into(), owner: beta.owner.clone() };
    let seen = restored.log_in(&app).await.get("/api/tenant/").await;
    assert_eq!((&seen["name"], &seen["created_at"]), (&json!("ACME"), &before["created_at"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_left_when_the_archive_was_another_is_refused_when_it_is_done() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let (of_acme, of_beta) = (exported(&app, &ops, &acme.id).await, exported(&app, &ops, &beta.id).await);
    let body = json!({"archive": of_acme});
    let left = ops.request(&app, "POST", &of(&acme.id, "restore_from")).json(&body).expect(202).await;
    let store = app.store.path().join("exports");
    std::fs::rename(store.join(&of_beta), store.join(&of_acme)).unwrap();
    while operations::run_queued(&app.app).await.unwrap() > 0 {}
    let done = ops.get(&app, &format!("/api/admin/operations/{}/", left["id"].as_str().unwrap())).await;
    assert_eq!(done["status"], "failed");
    assert!(done["error"].as_str().unwrap().starts_with("the archive is of another tenant, beta"), "{done}");
    assert_eq!(ops.get(&app, &format!("/api/admin/tenants/{}/", acme.id)).await["slug"], "acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_keeps_its_name_when_it_is_restored() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let archive = exported(&app, &ops, &acme.id).await;
    let name = json!({"name": "Acme & Daughters"});
    acme.owner.request("PATCH", "/api/tenant/").json(&name).expect(200).await;
    let body = json!({"archive": archive});
    let request = ops.request(&app, "POST", &of(&acme.id, "restore_from")).json(&body);
    let result = succeeded(&app, &ops, request).await;
    assert_eq!(result["tenant"]["name"], name["name"]);
    let id = result["tenant"]["id"].as_str().unwrap().to_owned();
    assert_eq!(ops.get(&app, &format!("/api/admin/tenants/{id}/")).await["name"], name["name"]);
    let restored = Organization { id, slug: "acme".into(), owner: acme.owner.clone() };
    assert_eq!(restored.log_in(&app).await.get("/api/tenant/").await["name"], name["name"]);
}

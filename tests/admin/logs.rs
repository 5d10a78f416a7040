//! What is kept of it all, and that nobody can change it.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use tenantry::entity::users::Role;

use super::support::Operator;
use crate::support::{PASSWORD, Person, TestApp};

const LOG: &str = "/api/tenant/audit/";

/// Why PostgreSQL refuses this to that role, if it does.
async fn refusal(app: &TestApp, role: &str, sql: &str) -> Option<String> {
    let mut superuser = app.superuser().await;
    superuser.execute(AssertSqlSafe(format!(r#"SET ROLE "{role}""#))).await.unwrap();
    let error = superuser.execute(AssertSqlSafe(sql.to_owned())).await.err()?;
    error.as_database_error()?.code().map(Into::into)
}

async fn role(superuser: &mut PgConnection, sql: &'static str) -> String {
    superuser.fetch_one(sql).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_what_stands_in_a_log() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let path = format!("/api/admin/tenants/{}/suspend/", acme.id);
    ops.request(&app, "POST", &path).expect(200).await;
    ops.request(&app, "POST", &path.replace("suspend", "resume")).expect(200).await;
    let (schema, mut superuser) = (acme.schema().to_string(), app.superuser().await);
    let owner =
        "SELECT tableowner::text FROM pg_tables WHERE schemaname = 'tenantry' AND tablename = 'audit'";
    let owner = role(&mut superuser, owner).await;
    let catalog = "SELECT 'tenantry_' || id || '_catalog' FROM tenantry.installation";
    let catalog = role(&mut superuser, catalog).await;
    let logs = [
        ("tenantry.audit".to_owned(), [owner.clone(), catalog]),
        (format!(r#""{schema}".audit"#), [owner, schema]),
    ];
    for (log, roles) in logs {
        for role in roles {
            let read = refusal(&app, &role, &format!("SELECT count(*) FROM {log}")).await;
            assert_eq!(read, None, "{role} reads {log}");
            for sql in [
                format!("UPDATE {log} SET action = ''"),
                format!("DELETE FROM {log}"),
                format!("TRUNCATE {log}"),
            ] {
                assert_eq!(refusal(&app, &role, &sql).await.as_deref(), Some("42501"), "{role}: {sql}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_not_done() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let before = (ops.get(&app, "/api/admin/operators/").await, acme.owner.get("/api/tenant/").await);
    let mut superuser = app.superuser().await;
    let full = "ALTER TABLE tenantry.audit ADD CONSTRAINT full_up CHECK (false) NOT VALID";
    superuser.execute(full).await.unwrap();
    let tenant = format!("/api/admin/tenants/{}/", acme.id);
    let new = json!({"name": "New", "slug": "new-one", "owner": {"email": "new@example.com", "password": PASSWORD}});
    let operator = json!({"email": "second@example.com", "password": PASSWORD});
    for (method, path, body) in [
        ("POST", format!("{tenant}suspend/"), json!({})),
        ("DELETE", tenant.clone(), json!({})),
        ("PATCH", tenant.clone(), json!({"slug": "other", "name": "Other"})),
        ("GET", format!("{tenant}users/"), json!({})),
        ("POST", "/api/admin/tenants/".into(), new),
        ("POST", "/api/admin/operators/".into(), operator),
        ("POST", "/api/admin/api_keys/".into(), json!({"name": "x", "scopes": ["read"]})),
        ("POST", "/api/admin/keys/rotate/".into(), json!({})),
        ("POST", "/api/admin/login/".into(), json!({"email": "ops@example.com", "password": PASSWORD})),
    ] {
        let answer = ops.request(&app, method, &path).json(&body).send().await;
        assert_eq!(answer.status, 500, "{method} {path}: {}", answer.text);
    }
    let after = (ops.get(&app, "/api/admin/operators/").await, acme.owner.get("/api/tenant/").await);
    assert_eq!(after, before);
    assert_eq!(app.app.tokens.keys().await.unwrap().len(), 1);
    for path in ["/api/admin/tenants/", "/api/admin/api_keys/"] {
        assert_eq!(ops.get(&app, path).await["count"], 1, "{path}");
    }
    superuser.execute("ALTER TABLE tenantry.audit DROP CONSTRAINT full_up").await.unwrap();
    // And what a tenant's own log cannot take is done neither to it nor by its admins.
    let full =
        format!(r#"ALTER TABLE "{}".audit ADD CONSTRAINT full_up CHECK (false) NOT VALID"#, acme.schema());
    superuser.execute(AssertSqlSafe(full)).await.unwrap();
    let suspended = ops.request(&app, "POST", &format!("{tenant}suspend/")).send().await;
    assert_eq!(suspended.status, 500);
    let change = acme.owner.request("PATCH", "/api/tenant/").json(&json!({"name": "Else"})).send().await;
    assert_eq!(change.status, 500);
    assert_eq!(acme.owner.get("/api/tenant/").await, before.1);
    let log = ops.log(&app).await;
    assert!(log.iter().all(|entry| entry["action"] != "tenant.suspended"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_admins_see_what_was_done_to_it_and_by_whom_of_them() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, other) = (app.sign_up("acme").await, app.sign_up("other").await);
    let ann = Person { role: Role::Admin, first_name: "Ann", ..Person::named("ann") };
    let admin = acme.add_user(&app, ann).await;
    let member = acme.add_user(&app, Person::named("bob")).await;
    let refused = member.request("GET", LOG).send().await;
    assert_eq!(refused.said(), (403, "permission_denied".into()));
    let nothing = json!({"count": 0, "next": null, "previous": null, "results": []});
    assert_eq!(acme.owner.get(LOG).await, nothing);

    let bob = format!("/api/users/{}/", member.pk);
    for change in [
        json!({"role": "admin"}),
        json!({"role": "member", "is_active": false}),
        json!({"is_active": true}),
        json!({}),
    ] {
        admin.request("PATCH", &bob).json(&change).expect(200).await;
    }
    admin.request("DELETE", &bob).expect(204).await;
    for change in [json!({"name": "Acme Labs", "sign_up_policy": "open"}), json!({"name": "Acme Labs"})] {
        admin.request("PATCH", "/api/tenant/").json(&change).expect(200).await;
    }
    ops.get(&app, &format!("/api/admin/tenants/{}/users/?search=ann", acme.id)).await;

    let log = acme.owner.get(LOG).await;
    let user = json!({"pk": member.pk, "username": "bob"});
    let settings = json!({
        "before": {"name": "ACME", "sign_up_policy": "invite_only"},
        "after": {"name": "Acme Labs", "sign_up_policy": "open"},
    });
    let of_role = |before: &str, after: &str| json!({"user": user, "before": {"role": before}, "after": {"role": after}});
    let expected = [
        ("tenant.users_viewed", json!({"search": "ann"})),
        ("settings.changed", settings),
        ("user.removed", json!({"user": {"pk": member.pk, "username": "bob", "role": "member"}})),
        ("user.activated", json!({"user": user})),
        ("user.deactivated", json!({"user": user})),
        ("user.role_changed", of_role("admin", "member")),
        ("user.role_changed", of_role("member", "admin")),
    ];
    let results = log["results"].as_array().unwrap();
    let said = results.iter().map(|entry| (entry["action"].as_str().unwrap(), entry["detail"].clone()));
    assert_eq!(said.collect::<Vec<_>>(), expected);
    let ann = json!({"pk": admin.pk, "username": "ann", "first_name": "Ann", "last_name": ""});
    assert_eq!((&results[0]["by_operator"], &results[0]["actor"]), (&json!(true), &Value::Null));
    assert_eq!((&results[1]["by_operator"], &results[1]["actor"]), (&json!(false), &ann));
    assert!(!log.to_string().contains("ops@example.com"), "which operator it was is not told to the tenant");
    // The same entry, by its id, tells operators.
    let of_tenant = ops.get(&app, &format!("/api/admin/audit/?tenant={}", acme.id)).await;
    assert_eq!(of_tenant["count"], 1);
    let entry = &of_tenant["results"][0];
    assert_eq!((&entry["id"], &entry["actor"]["name"]), (&results[0]["id"], &json!("ops@example.com")));
    assert_eq!(entry["tenant"], json!({"id": acme.id, "slug": "acme"}));

    assert_eq!(other.owner.get(LOG).await["count"], 0);
    let page = acme.owner.get(&format!("{LOG}?page=2&page_size=3&ordering=created_at")).await;
    assert_eq!((&page["count"], &page["results"][0]["id"]), (&json!(7), &results[3]["id"]));
    // Who is gone is not named any more.
    acme.owner.request("DELETE", &format!("/api/users/{}/", admin.pk)).expect(204).await;
    assert_eq!(acme.owner.get(LOG).await["results"][2]["actor"], Value::Null);
    let odd = ops.request(&app, "GET", "/api/admin/audit/?tenant=a").send().await;
    let sentence = "Enter the id or the slug of an organization.";
    assert_eq!((odd.status, &odd.json()["tenant"]), (400, &json!([sentence])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_a_tenant_is_found_by_every_slug_it_had() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let path = |id: &str| format!("/api/admin/tenants/{id}/");
    let found = async |name: &str| {
        let page = ops.get(&app, &format!("/api/admin/audit/?tenant={name}")).await;
        let actions = page["results"].as_array().unwrap().iter();
        let actions: Vec<_> = actions.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
        assert_eq!(page["count"], actions.len());
        actions.join(" ")
    };
    ops.request(&app, "POST", &format!("{}suspend/", path(&beta.id))).expect(200).await;
    assert_eq!([found("acme").await, found("nobody").await], ["", ""]);
    let rename = async |slug: &str| {
        ops.request(&app, "PATCH", &path(&acme.id)).json(&json!({"slug": slug})).expect(200).await;
    };
    rename("labs").await;
    // Nothing was done to it under its new name yet.
    assert_eq!([found("acme").await, found("labs").await], ["tenant.renamed", "tenant.renamed"]);
    rename("works").await;
    ops.request(&app, "DELETE", &path(&acme.id)).expect(204).await;
    let purge = ops.request(&app, "POST", &format!("{}purge/", path(&acme.id))).json(&json!({"now": true}));
    purge.expect(202).await;
    tenantry::operations::run_queued(&app.app).await.unwrap();
    let all = "tenant.purged tenant.purge_requested tenant.deleted tenant.renamed tenant.renamed";
    for name in ["acme", "labs", "works", acme.id.as_str()] {
        assert_eq!(found(name).await, all, "{name}");
    }
    assert_eq!(found("beta").await, "tenant.suspended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_closes_the_organization_stands_in_its_log() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    acme.owner.request("DELETE", "/api/tenant/").json(&json!({"password": PASSWORD})).expect(204).await;
    ops.request(&app, "POST", &format!("/api/admin/tenants/{}/restore/", acme.id)).expect(200).await;
    let log = acme.owner.get(LOG).await;
    let results = log["results"].as_array().unwrap();
    let actions: Vec<_> = results.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["tenant.restored", "tenant.closed"]);
    assert_eq!(results[1]["actor"]["username"], "acme-owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_schema_has_no_log_yet_can_be_suspended_all_the_same() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let mut superuser = app.superuser().await;
    let behind = format!(
        r#"UPDATE tenantry.tenants SET schema_version = 3; ALTER TABLE "{}".audit RENAME TO nothing"#,
        acme.schema()
    );
    sqlx::raw_sql(AssertSqlSafe(behind)).execute(&mut superuser).await.unwrap();
    let tenant = format!("/api/admin/tenants/{}/", acme.id);
    let suspended = ops.request(&app, "POST", &format!("{tenant}suspend/")).expect(200).await;
    assert_eq!((&suspended["status"], &suspended["schema_version"]), (&json!("suspended"), &json!(3)));
    assert_eq!(ops.log(&app).await[0]["action"], "tenant.suspended");
    let users = ops.request(&app, "GET", &format!("{tenant}users/")).send().await;
    assert_eq!(users.said(), (503, "service_unavailable".into()));
}

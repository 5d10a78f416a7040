//! The life of a tenant in the hands of operators.

use serde_json::{Value, json};
use tenants::SchemaName;

use super::support::Operator;
use crate::support::{Answer, PASSWORD, Person, TestApp, eventually, mail_to, text_of, token_to};

const TENANTS: &str = "/api/admin/tenants/";

/// A request to a tenant's host.
async fn at(app: &TestApp, slug: &str, path: &str, body: &Value) -> Answer {
    let host = format!("{slug}.localhost:{}", app.address.port());
    app.request("POST", path).host(&host).json(body).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_made_with_an_owner_who_signs_in() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let owner = json!({"email": "ada@acme.example", "username": "ada", "password": PASSWORD});
    let body = json!({"name": "Acme Ltd", "slug": "acme", "owner": owner});
    let made = ops.request(&app, "POST", TENANTS).json(&body).expect(201).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["usage"]["users"], 1);
    assert!(made["usage"]["bytes"].as_i64().unwrap() > 100_000 && made["usage"]["rows"].as_i64().is_some());
    let mut shown = made.clone();
    shown.as_object_mut().unwrap().remove("usage");
    let version = *tenants::served_versions().end();
    assert_eq!(
        shown,
        json!({
            "id": id, "slug": "acme", "name": "Acme Ltd", "status": "active",
            "schema": SchemaName::of(id.parse().unwrap()).to_string(), "schema_version": version,
            "created_at": "2026-01-02T03:04:05.678901Z", "limits": {}, "mails_held": false, "plan": null,
            "effective_limits": {},
        })
    );
    let login = json!({"username": "ada", "password": PASSWORD});
    assert_eq!(at(&app, "acme", "/api/login/", &login).await.status, 200);
    assert_eq!(ops.get(&app, &format!("{TENANTS}{id}/")).await["slug"], "acme");

    let newest = ops.log(&app).await.remove(0);
    assert_eq!(
        (&newest["action"], &newest["tenant"]),
        (&json!("tenant.provisioned"), &json!({"id": id, "slug": "acme"}))
    );
    let after = json!({"slug": "acme", "name": "Acme Ltd", "owner": {"email": "ada@acme.example", "username": "ada"}});
    assert_eq!(newest["detail"], json!({"after": after}));

    let taken = ops.request(&app, "POST", TENANTS).json(&body).send().await;
    assert_eq!(taken.said(), (409, "slug_taken".into()));
    let sentences = [
        "email: Enter a valid email address.",
        "password: This password is too short. It must contain at least 8 characters.",
    ];
    let wrong = json!({"name": "", "slug": "www", "owner": {"email": "x", "password": "1"}});
    let wrong = ops.request(&app, "POST", TENANTS).json(&wrong).send().await;
    assert_eq!(wrong.json()["slug"], json!(["This name is reserved."]));
    assert_eq!(wrong.json()["owner"], json!(sentences));
    let easy =
        json!({"name": "X", "slug": "xyz", "owner": {"email": "x@example.com", "password": "password"}});
    let easy = ops.request(&app, "POST", TENANTS).json(&easy).send().await;
    assert_eq!((easy.status, easy.json()["password"].is_array()), (400, true), "{}", easy.text);
    let odd = json!({"name": "X", "slug": "xyz", "owner": "ada"});
    let odd = ops.request(&app, "POST", TENANTS).json(&odd).send().await;
    assert_eq!(odd.json()["owner"], json!(["Invalid data. Expected a dictionary, but got str."]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_is_invited_comes_by_the_link() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let body = json!({"name": "Acme Ltd", "owner": {"email": "ada@acme.example"}});
    let made = ops.request(&app, "POST", TENANTS).json(&body).expect(201).await;
    assert_eq!((&made["slug"], &made["usage"]["users"]), (&json!("acme-ltd"), &json!(0)));
    let mails = app.mails().await;
    assert_eq!(mails.len(), 1);
    let mail = text_of(mail_to(&mails, "ada@acme.example"));
    assert!(
        mail.contains("Acme Ltd") && mail.contains("http://acme-ltd.localhost:") && !mail.contains("ops@"),
        "{mail}"
    );
    let token = token_to(&mails, "ada@acme.example");
    let accept = json!({"token": token, "username": "ada", "password": PASSWORD});
    let joined = at(&app, "acme-ltd", "/api/invitations/accept/", &accept).await;
    assert_eq!(joined.status, 201, "{}", joined.text);
    let me = app.request("GET", "/api/current_user/").bearer(joined.json()["token"].as_str().unwrap());
    let me = me.expect(200).await;
    assert_eq!((&me["role"], &me["email_verified"]), (&json!("owner"), &json!(true)));
    let again = at(&app, "acme-ltd", "/api/invitations/accept/", &accept).await;
    assert_eq!((again.status, &again.json()["token"]), (400, &json!(["Invalid value."])));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_listed_searched_and_shown() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let mut all = Vec::new();
    for slug in ["alpha", "beta", "beta-two"] {
        all.push(app.sign_up(slug).await);
    }
    let slugs = async |query: &str| {
        let page = ops.get(&app, &format!("{TENANTS}{query}")).await;
        let slugs = page["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tenant| tenant["slug"].as_str().unwrap().to_owned());
        (page["count"].as_u64().unwrap(), slugs.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(slugs("").await, (3, "beta-two beta alpha".into()));
    assert_eq!(slugs("?ordering=created_at&page_size=2").await, (3, "alpha beta".into()));
    assert_eq!(slugs("?page=last&page_size=2").await, (3, "alpha".into()));
    assert_eq!(slugs("?search=TWO%20bet").await, (1, "beta-two".into()));
    assert_eq!(slugs("?search=%25").await, (0, String::new()));
    ops.request(&app, "POST", &format!("{TENANTS}{}/suspend/", all[1].id)).expect(200).await;
    assert_eq!(slugs("?status=suspended").await, (1, "beta".into()));
    assert_eq!(slugs("?status=active&search=beta").await, (1, "beta-two".into()));
    assert_eq!(slugs("?status=deleting").await, (0, String::new()));
    assert_eq!(ops.request(&app, "GET", &format!("{TENANTS}?status=gone")).send().await.status, 400);
    assert_eq!(
        ops.request(&app, "GET", &format!("{TENANTS}?page=9")).send().await.json()["detail"],
        "Invalid page."
    );
    let one = ops.get(&app, &format!("{TENANTS}?search=alpha")).await["results"][0].clone();
    let version = *tenants::served_versions().end();
    assert_eq!(
        one,
        json!({
            "id": all[0].id, "slug": "alpha", "name": "ALPHA", "status": "active", "schema_version": version,
            "created_at": "2026-01-02T03:04:05.678901Z",
        })
    );
    let detail = ops.request(&app, "GET", &format!("{TENANTS}{}/", all[0].id)).send().await;
    assert_eq!((detail.status, &detail.json()["usage"]["users"]), (200, &json!(1)));
    assert!(!detail.header("etag").is_empty());
    for id in ["5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de", "alpha"] {
        let nobody = ops.request(&app, "GET", &format!("{TENANTS}{id}/")).send().await;
        assert_eq!(nobody.said(), (404, "not_found".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_suspended_deleted_and_restored_everywhere() {
    let app = TestApp::start().await;
    let beside = app.beside().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let tenant = format!("{TENANTS}{}/", acme.id);
    let said = async || {
        let mut all = Vec::new();
        for process in [&app, &beside] {
            let answer = acme.owner.at(process).me().await;
            all.push(if answer.status == 200 { "200".into() } else { answer.said().1 });
        }
        all
    };
    let change = async |what: &str| {
        ops.request(&app, "POST", &format!("{tenant}{what}/")).expect(200).await["status"].clone()
    };
    assert_eq!(said().await, ["200", "200"]);
    assert_eq!(change("suspend").await, "suspended");
    assert_eq!(said().await, ["tenant_suspended", "tenant_suspended"]);
    assert_eq!(change("suspend").await, "suspended");
    assert_eq!(change("restore").await, "suspended", "it was not deleted");

    let stale = ops.request(&app, "DELETE", &tenant).header("if-match", "\"x\"").send().await;
    assert_eq!(stale.said(), (412, "precondition_failed".into()));
    let tag = ops.request(&app, "GET", &tenant).send().await.header("etag").to_owned();
    ops.request(&app, "DELETE", &tenant).header("if-match", &tag).expect(204).await;
    eventually("it is gone everywhere", async || said().await == ["tenant_not_found", "tenant_not_found"])
        .await;
    assert_eq!(ops.get(&app, &tenant).await["status"], "deleting");
    for what in ["suspend", "resume"] {
        let refused = ops.request(&app, "POST", &format!("{tenant}{what}/")).send().await;
        assert_eq!(refused.said(), (409, "tenant_deleting".into()));
    }
    let rename = ops.request(&app, "PATCH", &tenant).json(&json!({"name": "X"})).send().await;
    assert_eq!(rename.said(), (409, "tenant_deleting".into()));
    ops.request(&app, "DELETE", &tenant).expect(204).await;
    assert_eq!(change("restore").await, "suspended", "as it was before it was deleted");
    eventually("it is suspended again", async || said().await == ["tenant_suspended", "tenant_suspended"])
        .await;
    assert_eq!(change("resume").await, "active");
    eventually("its sessions go on", async || said().await == ["200", "200"]).await;

    let actions: Vec<_> = ops.log(&app).await.iter().map(|entry| entry["action"].clone()).take(4).collect();
    assert_eq!(
        actions,
        ["tenant.resumed", "tenant.restored", "tenant.deleted", "tenant.suspended"],
        "and what changed nothing is not in it"
    );
    let restored = ops.log(&app).await.remove(1);
    assert_eq!(
        restored["detail"],
        json!({"before": {"status": "deleting"}, "after": {"status": "suspended"}})
    );
    assert_eq!(acme.owner.get("/api/tenant/audit/").await["count"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_users_are_shown_whatever_its_status() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    acme.add_user(&app, Person { first_name: "Ann", ..Person::named("ann") }).await;
    let tenant = format!("{TENANTS}{}/", acme.id);
    let expected = acme.owner.get("/api/users/?search=ann").await["results"].clone();
    ops.request(&app, "DELETE", &tenant).expect(204).await;
    let users = ops.get(&app, &format!("{tenant}users/?search=ann&page_size=1")).await;
    assert_eq!((&users["count"], &users["results"]), (&json!(1), &expected));
    assert!(!users.to_string().contains("argon2"));
    let none = ops.request(&app, "GET", &format!("{tenant}users/?page=2")).send().await;
    assert_eq!(none.json()["detail"], "Invalid page.");
    let viewed = ops.log(&app).await;
    let viewed: Vec<_> = viewed.iter().filter(|entry| entry["action"] == "tenant.users_viewed").collect();
    assert_eq!(viewed.len(), 1);
    assert_eq!(viewed[0]["detail"], json!({"search": "ann"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_is_written_where_its_people_see_it_too() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let tenant = format!("{TENANTS}{}/", acme.id);
    let renamed = ops.request(&app, "PATCH", &tenant).json(&json!({"name": "Acme Labs"})).expect(200).await;
    assert_eq!((&renamed["name"], &renamed["slug"]), (&json!("Acme Labs"), &json!("acme")));
    assert_eq!(acme.owner.get("/api/tenant/").await["name"], "Acme Labs");
    ops.request(&app, "PATCH", &tenant).json(&json!({"name": "Acme Labs"})).expect(200).await;
    let log = ops.log(&app).await;
    let detail = json!({"before": {"name": "ACME"}, "after": {"name": "Acme Labs"}});
    assert_eq!((&log[0]["action"], &log[0]["detail"]), (&json!("tenant.renamed"), &detail));
    assert_ne!(log[1]["action"], "tenant.renamed");

    // Both at once, again and again: neither waits for the other without end, and both places agree.
    for round in 0..10 {
        let (a, b) = (json!({"name": format!("A{round}")}), json!({"name": format!("B{round}")}));
        let one = ops.request(&app, "PATCH", &tenant).json(&a);
        let other = acme.owner.request("PATCH", "/api/tenant/").json(&b);
        let (one, other) = tokio::join!(tokio::spawn(one.send()), tokio::spawn(other.send()));
        assert_eq!((one.unwrap().status, other.unwrap().status), (200, 200));
        assert_eq!(acme.owner.get("/api/tenant/").await["name"], ops.get(&app, &tenant).await["name"]);
    }
}

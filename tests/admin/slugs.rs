//! Slugs that are given up: gone at once, and nobody else's for 90 days.

use std::time::Duration;

use serde_json::json;

use super::support::Operator;
use crate::support::{Answer, PASSWORD, Request, TestApp, eventually};

const DAY: Duration = Duration::from_hours(24);

fn sign_up(app: &TestApp, slug: &str) -> Request {
    app.request("POST", "/api/sign_up/tenant/").json(&json!({
        "organization": "Acme", "slug": slug, "username": "eve", "email": "eve@evil.example", "password": PASSWORD,
    }))
}

async fn rename(app: &TestApp, ops: &Operator, id: &str, slug: &str) -> Answer {
    let path = format!("/api/admin/tenants/{id}/");
    ops.request(app, "PATCH", &path).json(&json!({"slug": slug})).send().await
}

async fn available(app: &TestApp, slug: &str) -> bool {
    let answer = app.request("GET", &format!("/api/sign_up/tenant/check/?slug={slug}")).expect(200).await;
    let reason = answer["reason"].as_str();
    assert_eq!(reason.is_none(), answer["available"] == true, "{answer}");
    assert!(reason.is_none_or(|reason| reason == "This name is taken."), "{answer}");
    reason.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_host_is_gone_on_every_process_and_the_sessions_go_on() {
    let app = TestApp::start().await;
    let beside = app.beside().await;
    eventually("it listens", async || beside.app.tenancy.signals().is_listening()).await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let ask = async |app: &TestApp, slug: &str| {
        let request = app.request("GET", "/api/current_user/").host(&format!("{slug}.localhost"));
        let answer = request.bearer(&acme.owner.token).send().await;
        if answer.status == 200 { "200".to_owned() } else { answer.said().1 }
    };
    for process in [&app, &beside] {
        assert_eq!(ask(process, "acme").await, "200");
        assert_eq!(ask(process, "labs").await, "tenant_not_found");
    }
    let renamed = rename(&app, &ops, &acme.id, "labs").await;
    assert_eq!((renamed.status, &renamed.json()["slug"]), (200, &json!("labs")));
    assert_eq!(
        (ask(&app, "acme").await.as_str(), ask(&app, "labs").await.as_str()),
        ("tenant_not_found", "200")
    );
    // As soon as the announcement is there; nothing runs out meanwhile, because no time passes.
    eventually("the other process knows", async || {
        ask(&beside, "acme").await == "tenant_not_found" && ask(&beside, "labs").await == "200"
    })
    .await;
    let log = ops.log(&app).await;
    assert_eq!(log[0]["detail"], json!({"before": {"slug": "acme"}, "after": {"slug": "labs"}}));
    assert_eq!(log[0]["tenant"], json!({"id": acme.id, "slug": "acme"}), "as it was called when it was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_that_was_given_up_stays_taken_for_90_days() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, other) = (app.sign_up("acme").await, app.sign_up("other").await);
    assert_eq!(rename(&app, &ops, &acme.id, "labs").await.status, 200);
    let taken = || (409, "slug_taken".to_owned());
    for days in [0, 89] {
        app.clock.advance(DAY * days);
        assert!(!available(&app, "acme").await);
        assert_eq!(sign_up(&app, "acme").send().await.said(), taken());
        assert_eq!(rename(&app, &ops, &other.id, "acme").await.said(), taken());
        let provision = json!({"name": "Acme", "slug": "acme", "owner": {"email": "eve@evil.example"}});
        let provision = ops.request(&app, "POST", "/api/admin/tenants/").json(&provision).send().await;
        assert_eq!(provision.said(), taken());
        // A derived one is the next.
        let derived = json!({"name": "Acme", "owner": {"email": "eve@evil.example"}});
        let derived = ops.request(&app, "POST", "/api/admin/tenants/").json(&derived).expect(201).await;
        assert_eq!(derived["slug"], if days == 0 { "acme-2" } else { "acme-3" });
    }
    app.clock.advance(DAY);
    assert!(available(&app, "acme").await);
    sign_up(&app, "acme").expect(201).await;
    assert_eq!(rename(&app, &ops, &other.id, "acme").await.said(), taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gave_a_slug_up_may_have_it_back() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, other) = (app.sign_up("acme").await, app.sign_up("other").await);
    for slug in ["labs", "acme", "labs"] {
        assert_eq!(rename(&app, &ops, &acme.id, slug).await.json()["slug"], slug);
    }
    assert_eq!(rename(&app, &ops, &other.id, "labs").await.said(), (409, "slug_taken".into()));
    assert_eq!(rename(&app, &ops, &acme.id, "other").await.said(), (409, "slug_taken".into()));
    assert_eq!(rename(&app, &ops, &acme.id, "www").await.json()["slug"], json!(["This name is reserved."]));
    assert!(
        !available(&app, "acme").await && !available(&app, "labs").await && available(&app, "free").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_up_while_a_slug_is_being_given_up_does_not_get_it() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    // Held half-way: the tenant has its new slug, and nobody sees that yet.
    let id = acme.id.parse().unwrap();
    let mut action = app.app.tenancy.act_on(tenants::Which::Id(id)).await.unwrap().unwrap();
    assert!(action.set_slug(&"labs".parse().unwrap(), app.clock.now()).await.unwrap());
    let new = tenants::NewTenant {
        id: app.clock.uuid_v7(),
        slug: tenants::SlugChoice::Exactly("acme".parse().unwrap()),
        name: "Eve".into(),
        now: app.clock.now(),
    };
    let tenancy = app.app.tenancy.clone();
    let waiting = tokio::spawn(async move { tenancy.provision(new).await.map(|_| ()) });
    let mut superuser = app.superuser().await;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(asleep).fetch_one(&mut superuser).await.unwrap() == 0 {
        assert!(!waiting.is_finished(), "it did not wait for the slug");
    }
    action.commit().await.unwrap();
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refused, tenants::Error::SlugTaken), "{refused}");
    assert_eq!(ops.get(&app, "/api/admin/tenants/").await["count"], 1);
}

//! How many users a tenant may have, and how many bytes.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Executor as _, postgres::PgListener};
use tenantry::usage;

use super::{Operator, number};
use crate::support::{Answer, Organization, PASSWORD, Person, Request, TestApp, eventually, token_to};

const INVITATIONS: &str = "/api/invitations/";

fn full(users: u64) -> Value {
    json!({
        "type": "about:blank", "title": "Forbidden", "status": 403, "code": "limit_reached",
        "detail": format!("This organization has reached its limit of {users} users."),
    })
}

fn accept(app: &TestApp, organization: &Organization, token: &str, username: &str) -> Request {
    let body = json!({"token": token, "username": username, "password": PASSWORD});
    app.request("POST", "/api/invitations/accept/").host(&organization.host(app)).json(&body)
}

/// Invites somebody, and takes the token from the mail.
async fn invited(app: &TestApp, organization: &Organization, email: &str, role: &str) -> String {
    let body = json!({"email": email, "role": role});
    organization.owner.request("POST", INVITATIONS).json(&body).expect(201).await;
    token_to(&app.mails().await, email)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_come_at_once_as_many_join_as_there_is_room_for() {
    let app = TestApp::start().await;
    let (beside, ops) = (app.beside().await, Operator::of(&app).await);
    let acme = app.sign_up("acme").await;
    app.mails().await;
    ops.limit(&app, &acme, json!({"users": 3})).await;
    let mut links = Vec::new();
    // With different roles: they are counted apart.
    for (n, role) in ["member", "admin", "member", "owner", "admin"].into_iter().enumerate() {
        links.push(invited(&app, &acme, &format!("new{n}@example.com"), role).await);
    }
    // The other process has heard of the limit.
    let limit = acme.id.parse().unwrap();
    eventually("it has", async || {
        let name = tenants::TenantName::Id(limit);
        let tenant = beside.app.tenancy.resolver().resolve(name).await.unwrap().unwrap();
        tenant.limits.users == Some(3)
    })
    .await;
    let all = links.iter().enumerate().map(|(n, token)| {
        let process = if n % 2 == 0 { &app } else { &beside };
        let request = accept(&app, &acme, token, &format!("new{n}"));
        // The host names the tenant; where it is asked is another thing.
        let body = json!({"token": token, "username": format!("new{n}"), "password": PASSWORD});
        let there = process.request("POST", "/api/invitations/accept/").host(&acme.host(&app)).json(&body);
        tokio::spawn(if n % 2 == 0 { request.send() } else { there.send() })
    });
    let answers: Vec<Answer> = join_all(all).await.into_iter().map(Result::unwrap).collect();
    let joined = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(joined, 2, "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(refused.problem(), full(3));
    }
    assert_eq!(acme.owner.get("/api/users/").await["count"], 3);

    // Nobody is forgotten by being deactivated, and room is made by being deleted; the link works as before.
    let late = answers.iter().position(|answer| answer.status == 403).unwrap();
    let someone = acme.owner.get("/api/users/?role=member").await["results"][0]["pk"].clone();
    let admin = acme.owner.get("/api/users/?role=admin").await["results"][0]["pk"].clone();
    let one = [someone, admin].into_iter().find_map(|pk| pk.as_str().map(str::to_owned)).unwrap();
    let path = format!("/api/users/{one}/");
    acme.owner.request("PATCH", &path).json(&json!({"is_active": false})).expect(200).await;
    let still = accept(&app, &acme, &links[late], "late").send().await;
    assert_eq!(still.problem(), full(3));
    acme.owner.request("DELETE", &path).expect(204).await;
    accept(&app, &acme, &links[late], "late").expect(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signed_up_joins_once_there_is_room() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up("acme").await;
    acme.owner.request("PATCH", "/api/tenant/").json(&json!({"sign_up_policy": "open"})).expect(200).await;
    ops.limit(&app, &acme, json!({"users": 1})).await;
    let body = json!({"username": "ann", "email": "ann@example.com", "password": PASSWORD});
    app.request("POST", "/api/sign_up/").host(&acme.host(&app)).json(&body).expect(201).await;
    let token = token_to(&app.mails().await, "ann@example.com");
    let proof = json!({"token": token, "password": PASSWORD});
    let verify = || app.request("POST", "/api/sign_up/verify_email/").host(&acme.host(&app)).json(&proof);
    let refused = verify().send().await;
    assert_eq!(refused.problem(), full(1));
    // Who is in it already proves his address, and signs in.
    let owner = json!({"username": acme.owner.username, "password": PASSWORD});
    app.request("POST", "/api/login/").host(&acme.host(&app)).json(&owner).expect(200).await;
    ops.limit(&app, &acme, json!({"users": 2})).await;
    verify().expect(200).await;
    assert_eq!(acme.owner.get("/api/users/").await["count"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_adds_rows_is_refused_where_there_is_no_room_and_nothing_else() {
    let app = TestApp::start().await;
    let (beside, ops) = (app.beside().await, Operator::of(&app).await);
    let acme = app.sign_up("acme").await;
    acme.owner.request("PATCH", "/api/tenant/").json(&json!({"sign_up_policy": "open"})).expect(200).await;
    let link = invited(&app, &acme, "late@example.com", "member").await;
    acme.add_user(&app, Person::named("ann")).await;
    let page = format!("/api/users/{}/comments/", acme.owner.pk);
    let comment = acme.owner.request("POST", &page).json(&json!({"body": "first"})).expect(201).await;
    ops.limit(&app, &acme, json!({"storage_bytes": 1000})).await;
    // Nobody has measured yet.
    acme.owner.request("POST", &page).json(&json!({"body": "second"})).expect(201).await;

    // The other process knows the limit, and that nobody has.
    let id = acme.id.parse().unwrap();
    eventually("it does", async || {
        let name = tenants::TenantName::Id(id);
        let tenant = beside.app.tenancy.resolver().resolve(name).await.unwrap().unwrap();
        tenant.limits.storage_bytes == Some(1000) && tenant.has_room()
    })
    .await;
    assert_eq!(acme.owner.at(&beside).me().await.status, 200, "by its name, too");

    usage::flush(&app.app).await.unwrap();
    assert!(usage::measure(&app.app, app.clock.now()).await.unwrap() >= 1);
    let expected = json!({
        "type": "about:blank", "title": "Forbidden", "status": 403, "code": "limit_reached",
        "detail": "This organization has reached its storage limit of 1000 bytes. What is deleted makes room.",
    });
    let there = acme.owner.at(&beside);
    let write = async |user: &crate::support::User| {
        user.request("POST", &page).json(&json!({"body": "third"})).send().await
    };
    assert_eq!(write(&acme.owner).await.problem(), expected);
    eventually("the other process has heard of it", async || write(&there).await.status == 403).await;
    let invite = json!({"email": "ben@example.com"});
    let invite = acme.owner.request("POST", INVITATIONS).json(&invite).send().await;
    assert_eq!(invite.problem(), expected);
    let body = json!({"username": "eve", "email": "eve@example.com", "password": PASSWORD});
    let sign_up = app.request("POST", "/api/sign_up/").host(&acme.host(&app)).json(&body).send().await;
    assert_eq!(sign_up.problem(), expected);
    assert_eq!(accept(&app, &acme, &link, "late").send().await.problem(), expected);

    let right = json!({"username": acme.owner.username, "password": PASSWORD});
    app.request("POST", "/api/login/").host(&acme.host(&app)).json(&right).expect(200).await;
    assert!(acme.owner.get(&page).await["results"][0]["id"].is_string());
    let comment = format!("/api/comments/{}/", comment["id"].as_str().unwrap());
    acme.owner.request("PATCH", &comment).json(&json!({"body": "First"})).expect(200).await;
    acme.owner.request("DELETE", &comment).expect(204).await;

    ops.limit(&app, &acme, json!({"storage_bytes": 1_000_000_000})).await;
    assert_eq!(write(&acme.owner).await.status, 201);
    accept(&app, &acme, &link, "late").expect(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_written_to_is_not_measured_again() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let minutes = |count: i64| chrono::TimeDelta::minutes(count);
    // Everybody who was written to since he was measured, which is so long ago.
    let measure = async |ago: i64| {
        usage::flush(&app.app).await.unwrap();
        usage::measure(&app.app, app.clock.now() - minutes(ago)).await.unwrap()
    };
    let advance = |count: u64| app.clock.advance(Duration::from_mins(count));
    assert_eq!(measure(5).await, 1, "at first");
    advance(1);
    measure(0).await;
    advance(1);
    acme.owner.get("/api/users/").await;
    assert_eq!(measure(0).await, 0, "only read");
    let page = format!("/api/users/{}/comments/", acme.owner.pk);
    acme.owner.request("POST", &page).json(&json!({"body": "one"})).expect(201).await;
    assert_eq!(measure(5).await, 0, "a moment ago");
    advance(5);
    assert_eq!(measure(5).await, 1);
    let rows =
        "SELECT count(*) FROM tenantry.tenant_sizes WHERE users = 1 AND bytes > 100000 AND rows IS NOT NULL";
    assert_eq!(number(&app, rows).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_changes_nothing_is_told_to_nobody() {
    let app = TestApp::start().await;
    let (ops, acme) = (Operator::of(&app).await, app.sign_up_quietly("acme").await);
    ops.limit(&app, &acme, json!({"storage_bytes": 1_000_000_000})).await;
    acme.owner.get("/api/users/").await;
    usage::flush(&app.app).await.unwrap();
    let url = secrecy::ExposeSecret::expose_secret(app.superuser_url());
    let mut listener = PgListener::connect(url).await.unwrap();
    listener.listen("tenantry").await.unwrap();
    assert_eq!(usage::measure(&app.app, app.clock.now()).await.unwrap(), 1);
    app.superuser().await.execute("NOTIFY tenantry, 'end'").await.unwrap();
    assert_eq!(
        listener.recv().await.unwrap().payload(),
        "end",
        "announcements come in the order of the commits"
    );
}

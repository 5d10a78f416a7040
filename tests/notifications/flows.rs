//! What in the life of an organization tells whom.

use serde_json::{Value, json};
use tenantry::entity::users::Role;

use super::{INBOX, counts, results};
use crate::support::{PASSWORD, Person, TestApp, User, token_to};

async fn only(user: &User) -> Value {
    let results = results(user, "").await;
    assert_eq!(results.len(), 1, "{results:?}");
    results[0].clone()
}

async fn patch(by: &User, user: &User, body: &Value) {
    by.request("PATCH", &format!("/api/users/{}/", user.pk)).json(body).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_role_is_told_to_whose_it_is() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    patch(&acme.owner, &ann, &json!({"role": "member", "is_active": true})).await;
    assert_eq!(ann.get(INBOX).await["count"], 0, "the same role is no news");
    patch(&acme.owner, &ann, &json!({"role": "admin"})).await;
    let told = only(&ann).await;
    assert_eq!(
        [&told["kind"], &told["text"], &told["object"], &told["actor"]["username"]],
        [
            &json!("role_changed"),
            &json!("acme-owner made you an administrator."),
            &json!({"type": "role", "id": null, "display": "admin"}),
            &json!("acme-owner"),
        ]
    );
    patch(&ann, &ann, &json!({"role": "member"})).await;
    assert_eq!(counts(&app, &acme, &ann).await, (1, 1), "what one does oneself is no news");
    assert_eq!(acme.owner.get(INBOX).await["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_invites_is_told_when_he_is_followed() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    app.mails().await;
    let admin = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("admin") }).await;
    let body = json!({"email": "ann@example.com", "role": "member"});
    let invitation = admin.request("POST", "/api/invitations/").json(&body).expect(201).await;
    let token = token_to(&app.mails().await, "ann@example.com");
    let mut body = json!({"token": token, "username": "admin", "password": PASSWORD, "first_name": "Ann"});
    let accept = |body: Value| {
        app.request("POST", "/api/invitations/accept/").host(&acme.host(&app)).json(&body).send()
    };
    assert_eq!(accept(body.clone()).await.status, 400, "the username is taken");
    assert_eq!(admin.get(INBOX).await["count"], 0);
    body["username"] = json!("ann");
    let joined = accept(body).await;
    assert_eq!(joined.status, 201, "{}", joined.text);
    let told = only(&admin).await;
    assert_eq!(
        [&told["kind"], &told["text"], &told["object"], &told["actor"]["pk"]],
        [
            &json!("invitation_accepted"),
            &json!("Ann accepted your invitation."),
            &json!({"type": "invitation", "id": invitation["id"], "display": "member"}),
            &joined.json()["user"]["pk"],
        ]
    );
    assert_eq!(acme.owner.get(INBOX).await["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_is_told_to_its_user_and_mailed_whatever_he_wants() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = acme.add_user(&app, Person { email: "ann@acme.example", ..Person::named("ann") }).await;
    let log_in = async |user_agent: &str| {
        let body = json!({"username": "ann", "password": PASSWORD});
        let request = app.request("POST", "/api/login/").host(&acme.host(&app)).json(&body);
        request.header("user-agent", user_agent).expect(200).await
    };
    log_in("Phone").await;
    let told = only(&ann).await;
    let sessions = ann.get("/api/sessions/").await;
    let phone =
        sessions["results"].as_array().unwrap().iter().find(|it| it["user_agent"] == "Phone").unwrap();
    assert_eq!(
        [&told["kind"], &told["text"], &told["object"], &told["actor"]],
        [
            &json!("new_device"),
            &json!("Somebody signed in to your account with a new device."),
            &json!({"type": "session", "id": phone["id"], "display": "Phone"}),
            &Value::Null,
        ]
    );
    assert_eq!(app.mails().await.len(), 1);
    let off = json!({"new_device": {"in_app": "off", "email": "off"}});
    ann.request("PUT", super::PREFERENCES).json(&off).expect(200).await;
    log_in("Tablet").await;
    assert_eq!(counts(&app, &acme, &ann).await, (1, 1));
    assert_eq!(app.mails().await.len(), 1);
}

//! Owners who are invited once more.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry::cleanup;

use super::support::Operator;
use crate::support::{Answer, PASSWORD, TestApp, mail_to, text_of, token_to};

const TENANTS: &str = "/api/admin/tenants/";
const DAY: Duration = Duration::from_hours(24);

/// Makes an organization whose owner is invited; its path.
async fn provision(app: &TestApp, ops: &Operator) -> String {
    let body = json!({"name": "Acme Ltd", "slug": "acme", "owner": {"email": "ada@acme.example"}});
    let made = ops.request(app, "POST", TENANTS).json(&body).expect(201).await;
    format!("{TENANTS}{}/", made["id"].as_str().unwrap())
}

async fn accept(app: &TestApp, token: &str) -> Answer {
    let body = json!({"token": token, "username": "ada", "password": PASSWORD});
    app.request("POST", "/api/invitations/accept/").header("x-tenant", "acme").json(&body).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_invitation_has_expired_gets_another_one() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let path = provision(&app, &ops).await;
    let first = token_to(&app.mails().await, "ada@acme.example");
    app.clock.advance(DAY * 8);
    cleanup::pass(&app.app, app.clock.now()).await.unwrap();
    assert_eq!(accept(&app, &first).await.status, 400);

    let invite = || ops.request(&app, "POST", &format!("{path}invite_owner/"));
    let invited = invite().expect(201).await;
    let expected = json!({
        "email": "ada@acme.example", "created_at": "2026-01-10T03:04:05.678901Z", "expires_at": "2026-01-17T03:04:05.678901Z",
    });
    assert_eq!(invited, expected);
    let mails = app.mails().await;
    let mail = text_of(mail_to(&mails, "ada@acme.example"));
    assert!(mail.contains("Acme Ltd"), "{mail}");
    let second = token_to(&mails, "ada@acme.example");

    // To somebody else: the one before is void.
    let body = json!({"email": "Ben@acme.example"});
    assert_eq!(invite().json(&body).expect(201).await["email"], "Ben@acme.example");
    let third = token_to(&app.mails().await, "Ben@acme.example");
    assert_eq!(accept(&app, &second).await.status, 400);
    let owner = accept(&app, &third).await;
    assert_eq!(owner.status, 201, "{}", owner.text);
    let token = owner.json()["token"].as_str().unwrap().to_owned();
    let invitations = app.request("GET", "/api/invitations/").bearer(&token).expect(200).await;
    assert_eq!((&invitations["count"], &invitations["results"]), (&json!(0), &json!([])));

    let refused = invite().json(&body).send().await;
    assert_eq!(refused.said(), (409, "has_owner".into()));
    assert_eq!(app.mails().await.len(), 0);
    let log = ops.get(&app, "/api/admin/audit/?tenant=acme").await;
    let details: Vec<&Value> =
        log["results"].as_array().unwrap().iter().map(|entry| &entry["detail"]).collect();
    let (ada, ben) = (json!({"owner": "ada@acme.example"}), json!({"owner": "Ben@acme.example"}));
    assert_eq!(details[0], &json!({"before": ada, "after": ben}));
    assert_eq!(
        (details[1], &log["results"][1]["action"]),
        (&json!({"before": ada, "after": ada}), &json!("tenant.owner_invited"))
    );
    assert_eq!(details.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_invited_to_own_what_has_an_owner_or_is_being_deleted() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up_quietly("beta").await;
    let invite = async |path: &str, body: &Value| {
        ops.request(&app, "POST", &format!("{path}invite_owner/")).json(body).send().await
    };
    let body = json!({"email": "ben@acme.example"});
    let owned = format!("{TENANTS}{}/", acme.id);
    assert_eq!(invite(&owned, &body).await.said(), (409, "has_owner".into()));
    let path = provision(&app, &ops).await;
    let odd = invite(&path, &json!({"email": "nobody"})).await;
    assert_eq!((odd.status, &odd.json()["email"]), (400, &json!(["Enter a valid email address."])));
    ops.request(&app, "DELETE", &path).expect(204).await;
    assert_eq!(invite(&path, &body).await.said(), (409, "tenant_deleting".into()));
    let nowhere = format!("{TENANTS}5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de/");
    assert_eq!(invite(&nowhere, &body).await.said(), (404, "not_found".into()));
}

//! Organizations sign up.

use serde_json::json;

use crate::support::{PASSWORD, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_signs_up_and_its_owner_is_signed_in() {
    let app = TestApp::start().await;
    let body = json!({
        "organization": "Acme Ltd", "username": "Ada", "email": "Ada@Acme.example", "password": PASSWORD,
        "first_name": "Ada", "last_name": "Lovelace",
    });
    let answer = app.request("POST", "/api/sign_up/tenant/").json(&body).send().await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, "no-store"), "{}", answer.text);
    let answer = answer.json();
    assert_eq!(answer["tenant"]["slug"], "acme-ltd");
    assert_eq!(answer["tenant"]["name"], "Acme Ltd");
    assert_eq!(answer["tenant"]["url"], format!("http://acme-ltd.localhost:{}", app.address.port()));
    assert_eq!(answer["token_expiration"], "2026-01-02T03:14:05Z");
    assert_eq!(answer["refresh_expiration"], "2026-02-01T03:04:05.678901Z");

    let me =
        app.request("GET", "/api/current_user/").bearer(answer["token"].as_str().unwrap()).expect(200).await;
    assert_eq!(
        me,
        json!({
            "pk": answer["user"]["pk"], "username": "Ada", "email": "Ada@Acme.example", "first_name": "Ada",
            "last_name": "Lovelace", "role": "owner", "email_verified": false, "locale": "en", "timezone": "UTC",
            "date_joined": "2026-01-02T03:04:05.678901Z",
        })
    );
}

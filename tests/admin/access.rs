//! Who gets in, where, and for how long.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Executor as _;

use super::support::{Operator, sign_in};
use crate::support::{Operation, Options, PASSWORD, TestApp, assert_not_valid, operations};

const NOBODY: &str = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";
const TENANTS: &str = "/api/admin/tenants/";

fn of_operators() -> Vec<Operation> {
    let found: Vec<_> =
        operations().into_iter().filter(|operation| operation.path.starts_with("/api/admin/")).collect();
    assert!(found.len() >= 15, "{}", found.len());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_gets_in_and_never_on_a_tenant_s_host() {
    let app = TestApp::with(Options { rate_limits: false, ..Options::default() }).await;
    let (ops, acme) = (Operator::create(&app, "ops@example.com").await, app.sign_up("acme").await);
    let token = ops.sign_in(&app).await;
    let unknown = app.request("GET", "/api/nothing/").host(&acme.host(&app)).send().await;
    for operation in of_operators() {
        for host in [
            acme.host(&app),
            "nobody.localhost".into(),
            "no slug.localhost".replace(' ', "_"),
            "acme.example.com".into(),
        ] {
            let request = operation.request(&app, NOBODY).host(&host).bearer(&token);
            let answer = request.send().await;
            assert_eq!((answer.status, answer.problem()), (404, unknown.problem()), "{operation} on {host}");
            let options = app.request("OPTIONS", &operation.path_of(NOBODY)).host(&host).send().await;
            assert_eq!((options.status, options.header("allow")), (404, ""), "{operation} on {host}");
        }
        if !operation.secured {
            continue;
        }
        let missing = operation.request(&app, NOBODY).send().await;
        assert_eq!(missing.said(), (401, "not_authenticated".into()), "{operation}");
        assert_eq!(missing.header("www-authenticate"), "Bearer", "{operation}");
        for wrong in [acme.owner.token.as_str(), "garbage", "tenantry_garbage", &ops.key[..ops.key.len() - 1]]
        {
            // By whichever way it comes: no header makes a tenant's user an operator.
            let request = operation.request(&app, NOBODY).header("x-tenant", "acme").bearer(wrong);
            assert_not_valid(&request.send().await, &operation.to_string());
        }
    }
    for host in ["localhost", "LOCALHOST.:1", "127.0.0.1", "[::1]:8080"] {
        app.request("GET", TENANTS).host(host).bearer(&token).expect(200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_have_opens_nothing_of_a_tenant() {
    let app = TestApp::with(Options { rate_limits: false, ..Options::default() }).await;
    let (ops, acme) = (Operator::create(&app, "ops@example.com").await, app.sign_up("acme").await);
    let token = ops.sign_in(&app).await;
    let mut walked = 0;
    for operation in operations().into_iter().filter(|operation| operation.secured && operation.tenanted) {
        for credentials in [&token, &ops.key] {
            for request in [
                operation.request(&app, NOBODY).host(&acme.host(&app)),
                operation.request(&app, NOBODY).header("x-tenant", "acme"),
                operation.request(&app, NOBODY),
            ] {
                assert_not_valid(&request.bearer(credentials).send().await, &operation.to_string());
            }
        }
        walked += 1;
    }
    assert!(walked >= 15, "{walked}");
    let verify = json!({"token": token});
    let verified =
        app.request("POST", "/api/token/verify/").host(&acme.host(&app)).json(&verify).send().await;
    assert_not_valid(&verified, "verify");
}

/// What each operation wants.
const SCOPES: &[(&str, &[&str])] = &[
    ("GET /api/admin/operators/", &["read"]),
    ("POST /api/admin/operators/", &["read", "provision", "destroy"]),
    ("DELETE /api/admin/operators/{id}/", &["read", "provision", "destroy"]),
    // For people: no key does it, whatever its scopes.
    ("POST /api/admin/operators/password/", &["read", "provision", "destroy"]),
    ("GET /api/admin/api_keys/", &["read"]),
    ("POST /api/admin/api_keys/", &["provision"]),
    ("DELETE /api/admin/api_keys/{id}/", &["destroy"]),
    ("POST /api/admin/keys/rotate/", &["provision"]),
    ("GET /api/admin/audit/", &["read"]),
    ("GET /api/admin/tenants/", &["read"]),
    ("POST /api/admin/tenants/", &["provision"]),
    ("GET /api/admin/tenants/{id}/", &["read"]),
    ("PATCH /api/admin/tenants/{id}/", &["provision"]),
    ("POST /api/admin/tenants/{id}/invite_owner/", &["provision"]),
    ("DELETE /api/admin/tenants/{id}/", &["destroy"]),
    ("POST /api/admin/tenants/{id}/suspend/", &["provision"]),
    ("POST /api/admin/tenants/{id}/resume/", &["provision"]),
    ("POST /api/admin/tenants/{id}/restore/", &["provision"]),
    ("GET /api/admin/tenants/{id}/users/", &["read"]),
    ("POST /api/admin/tenants/{id}/purge/", &["destroy"]),
    ("POST /api/admin/tenants/{id}/impersonate/", &["provision"]),
    ("GET /api/admin/tenants/{id}/impersonations/", &["read"]),
    ("DELETE /api/admin/tenants/{id}/impersonations/{session}/", &["provision"]),
    ("POST /api/admin/tenants/{id}/export/", &["provision"]),
    ("POST /api/admin/tenants/import/", &["provision"]),
    ("POST /api/admin/tenants/{id}/clone/", &["provision"]),
    ("POST /api/admin/tenants/{id}/restore_from/", &["destroy"]),
    ("GET /api/admin/archives/", &["read"]),
    ("GET /api/admin/archives/{name}/", &["provision"]),
    ("PUT /api/admin/archives/{name}/", &["provision"]),
    ("DELETE /api/admin/archives/{name}/", &["destroy"]),
    ("GET /api/admin/export_schedules/", &["read"]),
    ("POST /api/admin/export_schedules/", &["provision"]),
    ("DELETE /api/admin/export_schedules/{id}/", &["provision"]),
    ("GET /api/admin/operations/", &["read"]),
    ("GET /api/admin/operations/{id}/", &["read"]),
    ("GET /api/admin/operations/{id}/events/", &["read"]),
    ("GET /api/admin/tenants/{id}/usage/", &["read"]),
    ("GET /api/admin/usage/", &["read"]),
    ("GET /api/admin/plans/", &["read"]),
    ("POST /api/admin/plans/", &["provision"]),
    ("PATCH /api/admin/plans/{name}/", &["provision"]),
    ("DELETE /api/admin/plans/{name}/", &["destroy"]),
    // Needs no credentials at all.
    ("POST /api/admin/login/", &[]),
    ("GET /api/admin/migrations/", &["read"]),
    ("POST /api/admin/migrations/", &["provision"]),
    ("GET /api/admin/migrations/{id}/", &["read"]),
    ("GET /api/admin/migrations/{id}/events/", &["read"]),
    ("POST /api/admin/migrations/{id}/resume/", &["provision"]),
    ("POST /api/admin/migrations/{id}/retry/", &["provision"]),
    ("GET /api/admin/jobs/", &["read"]),
    ("POST /api/admin/jobs/{id}/retry/", &["provision"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_do_what_its_scopes_say() {
    let app = TestApp::with(Options { rate_limits: false, ..Options::default() }).await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let all = ["read", "provision", "destroy"];
    let mut without = Vec::new();
    for left_out in all {
        let scopes: Vec<_> = all.into_iter().filter(|scope| *scope != left_out).collect();
        without.push((left_out, ops.key_with(&app, &scopes).await));
    }
    for operation in of_operators().into_iter().filter(|operation| operation.secured) {
        let (_, wants) =
            SCOPES.iter().find(|(name, _)| *name == operation.to_string()).expect("an operation we know of");
        for (left_out, key) in &without {
            let answer = operation.request(&app, NOBODY).bearer(key).send().await;
            if wants.contains(left_out) {
                assert_eq!(
                    answer.said(),
                    (403, "permission_denied".into()),
                    "{operation} without {left_out}"
                );
            } else {
                assert_ne!(answer.status, 403, "{operation} without {left_out}: {}", answer.text);
            }
        }
        let by_person = operation.request(&app, NOBODY).bearer(&ops.sign_in(&app).await).send().await;
        assert!(!matches!(by_person.status, 401 | 403), "{operation}: {}", by_person.text);
    }
    // Before the id and the body are looked at.
    let read = ops.key_with(&app, &["read"]).await;
    let answer =
        app.request("PATCH", "/api/admin/tenants/x/").bearer(&read).body("text/plain", "").send().await;
    assert_eq!(answer.said(), (403, "permission_denied".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time_its_password_and_its_operator() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "Ops@example.com").await;
    let second = Operator::create(&app, "second@example.com").await;
    let answer = sign_in(&app, "OPS@Example.com", PASSWORD).send().await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    let login = answer.json();
    assert_eq!(login["operator"], json!({"id": ops.id, "email": "Ops@example.com"}));
    assert_eq!(login["token_expiration"], "2026-01-02T03:19:05Z");
    assert_eq!(login.as_object().unwrap().len(), 3);
    let token = login["token"].as_str().unwrap();
    let ask = async |token: &str| app.request("GET", TENANTS).bearer(token).send().await;
    assert_eq!(ask(token).await.status, 200);

    app.clock.advance(Duration::from_secs(15 * 60 - 1));
    assert_eq!(ask(token).await.status, 200);
    app.clock.advance(Duration::from_secs(1));
    assert_not_valid(&ask(token).await, "after 15 minutes");

    let token = ops.sign_in(&app).await;
    let [mut superuser, mut other] = [app.superuser().await, app.superuser().await];
    superuser.execute("UPDATE tenantry.operators SET password_hash = password_hash || 'x' WHERE email_key = 'ops@example.com'").await.unwrap();
    assert_not_valid(&ask(&token).await, "of another password");
    assert_eq!(ask(&ops.key).await.status, 200, "a key has nothing to do with it");
    other.execute("UPDATE tenantry.operators SET password_hash = left(password_hash, -1) WHERE email_key = 'ops@example.com'").await.unwrap();
    assert_eq!(ask(&token).await.status, 200);

    let path = format!("/api/admin/operators/{}/", ops.id);
    assert_eq!(second.request(&app, "DELETE", &path).expect(204).await, Value::Null);
    assert_not_valid(&ask(&token).await, "of an operator who is gone");
    assert_not_valid(&ask(&ops.key).await, "a key of an operator who is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_with_its_time_and_its_row_and_is_seen_once_a_minute() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let body = json!({"name": "night", "scopes": ["read"], "expires_at": "2026-01-02T04:00:00Z"});
    let made = ops.request(&app, "POST", "/api/admin/api_keys/").json(&body).send().await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let made = made.json();
    let key = made["key"].as_str().unwrap();
    let ask = async || app.request("GET", TENANTS).bearer(key).send().await;
    let seen = async || {
        let keys = ops.get(&app, "/api/admin/api_keys/").await;
        assert!(!keys.to_string().contains(key) && keys["results"][0].get("key").is_none(), "{keys}");
        keys["results"][0]["last_used_at"].clone()
    };
    assert_eq!(seen().await, Value::Null);
    for (seconds, expected) in [
        (0, "2026-01-02T03:04:05.678901Z"),
        (59, "2026-01-02T03:04:05.678901Z"),
        (1, "2026-01-02T03:05:05.678901Z"),
    ] {
        app.clock.advance(Duration::from_secs(seconds));
        assert_eq!(ask().await.status, 200);
        assert_eq!(seen().await, expected, "after {seconds} s");
    }
    app.clock.advance(Duration::from_mins(54));
    assert_eq!(ask().await.status, 200);
    app.clock.advance(Duration::from_secs(55));
    assert_not_valid(&ask().await, "a key that has expired");

    let deleted = ops.key_with(&app, &["read"]).await;
    let newest = ops.get(&app, "/api/admin/api_keys/").await["results"][0]["id"].clone();
    let path = format!("/api/admin/api_keys/{}/", newest.as_str().unwrap());
    ops.request(&app, "DELETE", &path).expect(204).await;
    assert_not_valid(&app.request("GET", TENANTS).bearer(&deleted).send().await, "a key that was deleted");
    assert_eq!(ops.request(&app, "DELETE", &path).send().await.said(), (404, "not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_tells_nothing_and_is_limited() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let refused = json!({
        "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid", "detail": "Invalid input.",
        "non_field_errors": ["Unable to log in with provided credentials."],
    });
    let typed = ["ops@example.com", "nobody@example.com", "hunter2 in the wrong field"];
    for email in typed {
        let answer = sign_in(&app, email, "not it at all").send().await;
        assert_eq!((answer.status, answer.problem()), (400, refused.clone()), "{email}");
    }
    let log = ops.log(&app).await;
    let refusals: Vec<_> = log.iter().filter(|entry| entry["action"] == "login.refused").collect();
    let who = |entry: &Value| (entry["actor"]["name"].clone(), entry["actor"]["operator"].clone());
    assert_eq!(refusals.len(), 3);
    assert_eq!(who(refusals[2]), (json!("ops@example.com"), json!(ops.id)));
    assert_eq!(who(refusals[1]), (json!("nobody"), Value::Null));
    assert_eq!(refusals[2]["ip"], "127.0.0.1");
    let text = json!(log).to_string();
    assert!(!text.contains("hunter2") && !text.contains("nobody@example.com"), "{text}");

    for _ in 0..4 {
        assert_eq!(sign_in(&app, "ops@example.com", "not it at all").send().await.status, 400);
    }
    let late = sign_in(&app, "OPS@example.com", PASSWORD).send().await;
    assert_eq!(late.said(), (429, "throttled".into()));
    assert!(late.header("retry-after").parse::<u32>().unwrap() <= 15);
    app.clock.advance(Duration::from_secs(15));
    sign_in(&app, "ops@example.com", PASSWORD).expect(200).await;
    let newest = ops.log(&app).await.remove(0);
    assert_eq!(
        (&newest["action"], &newest["actor"]["name"]),
        (&json!("login.succeeded"), &json!("ops@example.com"))
    );
    // What is right never counts, and what is wrong in its form is told so.
    for _ in 0..12 {
        sign_in(&app, "ops@example.com", PASSWORD).expect(200).await;
    }
    let empty = app.request("POST", "/api/admin/login/").json(&json!({})).send().await;
    let required = json!(["This field is required."]);
    assert_eq!((&empty.json()["email"], &empty.json()["password"]), (&required, &required));
}

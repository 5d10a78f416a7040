//! Operators, their API keys, and the signing keys.

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::support::{Operator, sign_in};
use crate::support::{PASSWORD, TestApp, eventually};

const OPERATORS: &str = "/api/admin/operators/";
const KEYS: &str = "/api/admin/api_keys/";

#[tokio::test(flavor = "multi_thread")]
async fn operators_make_and_remove_each_other() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let body = json!({"email": "Second@example.com", "password": "another horse battery"});
    let made = ops.request(&app, "POST", OPERATORS).json(&body).expect(201).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        made,
        json!({"id": id, "email": "Second@example.com", "created_at": "2026-01-02T03:04:05.678901Z"})
    );
    sign_in(&app, "second@example.com", "another horse battery").expect(200).await;
    let list = ops.get(&app, OPERATORS).await;
    assert_eq!((&list["count"], &list["results"][0]), (&json!(2), &made));
    assert_eq!(list["results"][1]["id"], ops.id);
    let first = ops.get(&app, &format!("{OPERATORS}?page_size=1")).await;
    let port = app.address.port();
    assert_eq!(first["next"], format!("http://localhost:{port}{OPERATORS}?page_size=1&page=2"));

    let taken = ops.request(&app, "POST", OPERATORS).json(&body).send().await;
    assert_eq!(taken.json()["email"], json!(["An operator with this e-mail address already exists."]));
    let easy = json!({"email": "no address", "password": "12345678"});
    let easy = ops.request(&app, "POST", OPERATORS).json(&easy).send().await;
    assert_eq!((easy.status, &easy.json()["email"]), (400, &json!(["Enter a valid email address."])));

    ops.request(&app, "DELETE", &format!("{OPERATORS}{id}/")).expect(204).await;
    assert_eq!(sign_in(&app, "second@example.com", "another horse battery").send().await.status, 400);
    let gone = ops.request(&app, "DELETE", &format!("{OPERATORS}{id}/")).send().await;
    assert_eq!(gone.said(), (404, "not_found".into()));
    let refused = ops.request(&app, "DELETE", &format!("{OPERATORS}{}/", ops.id)).send().await;
    assert_eq!(
        refused.problem(),
        json!({
            "type": "about:blank", "title": "Conflict", "status": 409, "code": "last_operator",
            "detail": "Somebody has to run the installation: make another operator first.",
        })
    );
    let log = ops.log(&app).await;
    let deleted = log.iter().find(|entry| entry["action"] == "operator.deleted").unwrap();
    assert_eq!(deleted["detail"], json!({"before": {"id": id, "email": "Second@example.com"}}));
    assert!(!json!(log).to_string().contains("argon2"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_operators_who_remove_each_other_at_once_one_stays() {
    let app = TestApp::start().await;
    for round in 0..4 {
        let before = Operator::create(&app, &format!("before.{round}@example.com")).await;
        let all = ["a", "b"].map(|name| format!("{name}.{round}@example.com"));
        let mut ops = Vec::new();
        for email in &all {
            ops.push(Operator::create(&app, email).await);
        }
        // Whoever was left by the round before goes first, so that these two are all there are.
        let list = ops[0].get(&app, &format!("{OPERATORS}?page_size=100")).await;
        for other in list["results"].as_array().unwrap() {
            let id = other["id"].as_str().unwrap();
            if id != ops[0].id && id != ops[1].id {
                ops[0].request(&app, "DELETE", &format!("{OPERATORS}{id}/")).expect(204).await;
            }
        }
        assert_ne!(before.id, ops[0].id);
        let race = [(0, 1), (1, 0), (0, 0), (1, 1)].map(|(by, whom)| {
            let request = ops[by].request(&app, "DELETE", &format!("{OPERATORS}{}/", ops[whom].id));
            tokio::spawn(async move { request.send().await.status })
        });
        let mut statuses: Vec<_> = join_all(race).await.into_iter().map(Result::unwrap).collect();
        statuses.sort_unstable();
        assert_eq!(statuses[0], 204, "{statuses:?}");
        assert!(statuses[1..].iter().all(|status| [401, 404, 409].contains(status)), "{statuses:?}");
        let mut superuser = app.superuser().await;
        let left = sqlx::query("SELECT count(*) FROM tenantry.operators").fetch_one(&mut superuser);
        assert_eq!(left.await.unwrap().get::<i64, _>(0), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let body = json!({"name": " deploy ", "scopes": ["provision", "read", "read"]});
    let made = ops.request(&app, "POST", KEYS).json(&body).expect(201).await;
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("tenantry_") && key.len() == 9 + 43, "{key}");
    assert_eq!(
        made,
        json!({
            "id": made["id"], "name": "deploy", "scopes": ["read", "provision"], "key": key,
            "created_at": "2026-01-02T03:04:05.678901Z", "expires_at": null,
        })
    );
    let row = sqlx::query(
        "SELECT to_jsonb(k)::text AS kept, (SELECT string_agg(to_jsonb(a)::text, '') FROM tenantry.audit a) AS log, \
             key_hash = sha256($1::text::bytea) AS hashed FROM tenantry.api_keys k WHERE name = 'deploy'",
    )
    .bind(key)
    .fetch_one(&mut app.superuser().await)
    .await
    .unwrap();
    assert!(row.get::<bool, _>("hashed"));
    for kept in ["kept", "log"] {
        assert!(!row.get::<String, _>(kept).contains(&key[9..]), "{kept}");
    }
    let listed = ops.get(&app, KEYS).await["results"][0].clone();
    assert_eq!(
        listed,
        json!({
            "id": made["id"], "name": "deploy", "scopes": ["read", "provision"],
            "operator": {"id": ops.id, "email": "ops@example.com"}, "created_at": made["created_at"],
            "expires_at": null, "last_used_at": null,
        })
    );
    for (member, value, sentence) in [
        ("scopes", json!([]), "This list may not be empty."),
        ("scopes", json!(["root"]), "Item 1: \"root\" is not a valid choice."),
        ("expires_at", json!("2026-01-02T03:04:05Z"), "Ensure this value lies in the future."),
        ("name", json!(""), "This field may not be blank."),
    ] {
        let mut body = json!({"name": "x", "scopes": ["read"]});
        body[member] = value;
        let answer = ops.request(&app, "POST", KEYS).json(&body).send().await;
        assert_eq!((answer.status, &answer.json()[member]), (400, &json!([sentence])), "{member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_none_that_can_do_more_or_lives_longer() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let end = "2026-06-01T00:00:00Z";
    let body = json!({"name": "ci", "scopes": ["read", "provision"], "expires_at": end});
    let made = ops.request(&app, "POST", KEYS).json(&body).expect(201).await;
    let ci = made["key"].as_str().unwrap();
    let ask = async |body: Value| app.request("POST", KEYS).bearer(ci).json(&body).send().await;
    for (scopes, expires_at) in [
        (json!(["read", "destroy"]), json!(end)),
        (json!(["destroy"]), json!(end)),
        (json!(["read"]), json!("2026-06-01T00:00:01Z")),
    ] {
        let answer = ask(json!({"name": "more", "scopes": scopes, "expires_at": expires_at})).await;
        assert_eq!(answer.said(), (403, "permission_denied".into()), "{scopes} until {expires_at}");
    }
    let same = ask(json!({"name": "same", "scopes": ["read", "provision"]})).await;
    assert_eq!(
        (same.status, &same.json()["expires_at"]),
        (201, &json!(end)),
        "it ends with the one that made it"
    );
    let newest = ops.log(&app).await.remove(0);
    assert_eq!(newest["action"], "api_key.created");
    assert_eq!(
        newest["actor"],
        json!({"operator": ops.id, "name": "ops@example.com", "api_key": {"id": made["id"], "name": "ci"}})
    );
    // Who could make an operator would have all scopes by it.
    let operator = json!({"email": "evil@example.com", "password": PASSWORD});
    let answer = app.request("POST", OPERATORS).bearer(ci).json(&operator).send().await;
    assert_eq!(answer.said(), (403, "permission_denied".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_the_log_says_so() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let rotated = ops.request(&app, "POST", "/api/admin/keys/rotate/").expect(200).await;
    assert_eq!((&rotated["is_new"], &rotated["key"]["state"]), (&json!(true), &json!("next")));
    let again = ops.request(&app, "POST", "/api/admin/keys/rotate/").json(&json!({})).expect(200).await;
    assert_eq!((&again["is_new"], &again["key"]["kid"]), (&json!(false), &rotated["key"]["kid"]));
    let token = ops.sign_in(&app).await;
    let now =
        ops.request(&app, "POST", "/api/admin/keys/rotate/").json(&json!({"now": true})).expect(200).await;
    assert_eq!(now["key"]["state"], "signing");
    eventually("the old token is good for as long as it was", async || {
        app.request("GET", OPERATORS).bearer(&token).send().await.status == 200
    })
    .await;
    let newest = ops.log(&app).await.remove(0);
    let detail = json!({"key": now["key"]["kid"], "signs_from": now["key"]["signs_from"], "is_new": true});
    assert_eq!((&newest["action"], &newest["detail"]), (&json!("keys.rotated"), &detail));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_takes_none_away_that_may_do_more() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let list = async || ops.get(&app, KEYS).await["results"].clone();
    let weak = ops.key_with(&app, &["destroy"]).await;
    let weak_id = list().await[0]["id"].clone();
    let mut ids = Vec::new();
    for scopes in [&["read", "provision", "destroy"][..], &["read", "destroy"], &["read"]] {
        ops.key_with(&app, scopes).await;
        ids.push(list().await[0]["id"].clone());
    }
    let path = |id: &Value| format!("{KEYS}{}/", id.as_str().unwrap());
    let delete = async |key: &str, id: &Value| app.request("DELETE", &path(id)).bearer(key).send().await;
    for id in &ids {
        assert_eq!(delete(&weak, id).await.said(), (403, "permission_denied".into()));
    }
    let operator = app.request("DELETE", &format!("{OPERATORS}{}/", ops.id)).bearer(&weak).send().await;
    assert_eq!(operator.said(), (403, "permission_denied".into()), "who has all those keys");
    assert_eq!(list().await.as_array().unwrap().len(), 5, "all are there");
    // One that may do as much, and one less: itself too.
    let middle = ops.key_with(&app, &["read", "destroy"]).await;
    for id in [&ids[1], &ids[2]] {
        assert_eq!(delete(&middle, id).await.status, 204);
    }
    assert_eq!(delete(&weak, &weak_id).await.status, 204);
    assert_eq!(delete(&middle, &ids[0]).await.status, 403);
    let token = ops.sign_in(&app).await;
    assert_eq!(delete(&token, &ids[0]).await.status, 204, "a person may do everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_changes_the_password_and_is_signed_in_anew() {
    const PATH: &str = "/api/admin/operators/password/";
    const NEW: &str = "another horse battery";
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (token, other) = (ops.sign_in(&app).await, ops.sign_in(&app).await);
    let change = async |bearer: &str, old: &str, new: &str| {
        let body = json!({"old_password": old, "new_password": new});
        app.request("POST", PATH).bearer(bearer).json(&body).send().await
    };
    assert_eq!(change(&ops.key, PASSWORD, NEW).await.said(), (403, "permission_denied".into()));
    let wrong = change(&token, "wrong", NEW).await;
    let sentence = "Your old password was entered incorrectly. Please enter it again.";
    assert_eq!((wrong.status, &wrong.json()["old_password"]), (400, &json!([sentence])));
    let easy = change(&token, PASSWORD, "ops@example.com").await;
    assert_eq!(easy.status, 400);
    assert!(easy.json()["new_password"].is_array() && easy.json()["old_password"].is_null(), "{}", easy.text);

    app.clock.advance(std::time::Duration::from_secs(1));
    let changed = change(&token, PASSWORD, NEW).await;
    assert_eq!((changed.status, changed.header("cache-control")), (200, "no-store"), "{}", changed.text);
    let answer = changed.json();
    assert_eq!(answer["operator"], json!({"id": ops.id, "email": "ops@example.com"}));
    assert_eq!(answer["token_expiration"], "2026-01-02T03:19:06Z");
    let ask = async |bearer: &str| app.request("GET", OPERATORS).bearer(bearer).send().await.status;
    assert_eq!([ask(&token).await, ask(&other).await], [401, 401], "those of the old one");
    assert_eq!([ask(answer["token"].as_str().unwrap()).await, ask(&ops.key).await], [200, 200]);
    assert_eq!(sign_in(&app, "ops@example.com", PASSWORD).send().await.status, 400);
    sign_in(&app, "ops@example.com", NEW).expect(200).await;
    let log = ops.log(&app).await;
    let entry = log.iter().find(|entry| entry["action"] == "operator.password_changed").unwrap();
    assert_eq!(entry["detail"], json!({"id": ops.id, "email": "ops@example.com"}));
    assert!(!json!(log).to_string().contains("argon2"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_found_a_desk_open_does_not_find_out_the_password() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let token = ops.sign_in(&app).await;
    let change = async |old: &str| {
        let body = json!({"old_password": old, "new_password": "another horse battery"});
        app.request("POST", "/api/admin/operators/password/").bearer(&token).json(&body).send().await
    };
    for _ in 0..5 {
        assert_eq!(change("wrong").await.status, 400);
    }
    let refused = change(PASSWORD).await;
    assert_eq!((refused.said(), refused.header("retry-after")), ((429, "throttled".into()), "15"));
    app.clock.advance(std::time::Duration::from_secs(15));
    assert_eq!(change(PASSWORD).await.status, 200);
}

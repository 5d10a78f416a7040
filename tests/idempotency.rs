//! Requests that come again and count once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::support::{Answer, Person, Request, TestApp, User, assert_counts, operations};

const KEY: &str = "idempotency-key";
const INVITATIONS: &str = "/api/invitations/";

fn page(user: &User) -> String {
    format!("/api/users/{}/comments/", user.pk)
}

fn post(by: &User, path: &str, key: &str, body: &Value) -> Request {
    by.request("POST", path).header(KEY, key).json(body)
}

fn hello() -> Value {
    json!({"body": "hello"})
}

async fn count(user: &User) -> Value {
    user.get(&page(user)).await["count"].clone()
}

#[track_caller]
fn assert_reused(answer: &Answer) {
    let expected = json!({
        "type": "about:blank", "title": "Unprocessable Entity", "status": 422, "code": "idempotency_key_reused",
        "detail": "This Idempotency-Key was used with another body.",
    });
    assert_eq!((answer.status, answer.problem()), (422, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_again_is_answered_with_what_there_is_now() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = &acme.owner;
    let first = post(ann, &page(ann), "k", &hello()).expect(201).await;
    assert_eq!(post(ann, &page(ann), "k", &hello()).expect(201).await, first);
    assert_eq!(post(ann, page(ann).trim_end_matches('/'), "k", &hello()).expect(201).await, first);
    let path = format!("/api/comments/{}/", first["id"].as_str().unwrap());
    let edited = ann.request("PATCH", &path).json(&json!({"body": "other"})).expect(200).await;
    let spaced = ann.request("POST", &page(ann)).header(KEY, "k");
    let spaced = spaced.body("application/json", "{ \"body\" :\n\"h\\u0065llo\" }");
    assert_eq!(spaced.expect(201).await, edited, "however the JSON is written");
    assert_eq!(count(ann).await, 1);
    assert_reused(&post(ann, &page(ann), "k", &json!({"body": "hello!"})).send().await);
    assert_reused(&post(ann, &page(ann), "k", &json!({"body": "hello", "more": 1})).send().await);
    assert_eq!(count(ann).await, 1);

    ann.request("DELETE", &path).expect(204).await;
    let gone = post(ann, &page(ann), "k", &hello()).send().await;
    assert_eq!(gone.said(), (404, "not_found".into()), "what it made is gone");
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_one_users_for_one_path_for_a_day() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let mut ann = acme.owner.clone();
    let bob = acme.add_user(&app, Person::named("bob")).await;
    let first = post(&ann, &page(&ann), "k", &hello()).expect(201).await;
    for (by, path, key) in [(&bob, page(&ann), "k"), (&ann, page(&bob), "k"), (&ann, page(&ann), "K")] {
        let other = post(by, &path, key, &hello()).expect(201).await;
        assert_ne!(other["id"], first["id"], "{} {path} {key}", by.username);
    }
    let without = ann.request("POST", &page(&ann)).json(&hello());
    assert_ne!(without.expect(201).await["id"], first["id"]);
    app.clock.advance(Duration::from_hours(24) - Duration::from_micros(1));
    ann = acme.sign_in(&app).await;
    assert_eq!(post(&ann, &page(&ann), "k", &hello()).expect(201).await["id"], first["id"]);
    app.clock.advance(Duration::from_micros(1));
    let next = post(&ann, &page(&ann), "k", &json!({"body": "another day"})).expect(201).await;
    assert_ne!(next["id"], first["id"]);
    let again = post(&ann, &page(&ann), "k", &json!({"body": "another day"})).expect(201).await;
    assert_eq!(again, next);
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_has_used_nothing_up() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = &acme.owner;
    let nothing = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";
    for body in
        [json!({"body": ""}), json!({"body": "x", "parent": nothing}), json!({"body": "x", "parent": 1})]
    {
        assert_eq!(post(ann, &page(ann), "k", &body).send().await.said(), (400, "invalid".into()));
    }
    post(ann, &page(ann), "k", &hello()).expect(201).await;
    assert_eq!(count(ann).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_refused() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = &acme.owner;
    let long = "k".repeat(256);
    for key in ["", " ", "é", "a\tb", &long] {
        let answer = post(ann, &page(ann), key, &hello()).send().await;
        let expected = json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid", "detail": "Invalid input.",
            "Idempotency-Key": ["Enter a valid key: 1 to 255 printable characters of ASCII."],
        });
        assert_eq!((answer.status, answer.problem()), (400, expected), "{key}");
    }
    let twice = post(ann, &page(ann), "a", &hello()).header(KEY, "a").send().await;
    assert_eq!(twice.problem()["Idempotency-Key"], json!(["Give one key only."]));
    for key in [&long[..255], "a b", "~", "\"quoted\""] {
        post(ann, &page(ann), key, &hello()).expect(201).await;
    }
    assert_eq!(count(ann).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_counts() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = &acme.owner;
    for round in 0..5 {
        let key = format!("k{round}");
        let tasks = (0..10).map(|_| tokio::spawn(post(ann, &page(ann), &key, &hello()).send()));
        let answers: Vec<Answer> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        let made: Vec<Value> =
            answers.iter().filter(|answer| answer.status == 201).map(Answer::json).collect();
        assert!(!made.is_empty() && made.iter().all(|one| *one == made[0]), "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            assert_eq!(answer.said(), (409, "idempotency_in_flight".into()));
        }
        assert_eq!(count(ann).await, round + 1);
    }
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_decided_keeps_the_others_out_and_waiting() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = &acme.owner;
    let [mut other, mut watch] = [app.superuser().await, app.superuser().await];
    let lock = format!(r#"BEGIN; SELECT FROM "{}".users FOR UPDATE"#, acme.schema());
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut other).await.unwrap();
    let first = tokio::spawn(post(ann, &page(ann), "k", &hello()).send());
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(asleep).fetch_one(&mut watch).await.unwrap() == 0 {
        assert!(!first.is_finished(), "it did not wait for the user");
    }
    let second = post(ann, &page(ann), "k", &hello()).send().await;
    let expected = json!({
        "type": "about:blank", "title": "Conflict", "status": 409, "code": "idempotency_in_flight",
        "detail": "A request with this Idempotency-Key is still being worked on.",
    });
    assert_eq!((second.header("retry-after"), second.problem()), ("1", expected));
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    let first = first.await.unwrap();
    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(post(ann, &page(ann), "k", &hello()).expect(201).await, first.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_comes_again_is_mailed_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let body = json!({"email": "ann@example.com"});
    let first = post(&acme.owner, INVITATIONS, "k", &body).expect(201).await;
    // More often than one address may be mailed in an hour.
    for _ in 0..6 {
        assert_eq!(post(&acme.owner, INVITATIONS, "k", &body).expect(201).await, first);
    }
    let mails = app.mails().await;
    assert_eq!(mails.iter().map(|letter| letter.to.email.as_str()).collect::<Vec<_>>(), ["ann@example.com"]);
    assert_reused(&post(&acme.owner, INVITATIONS, "k", &json!({"email": "bob@example.com"})).send().await);
    let next = post(&acme.owner, INVITATIONS, "other", &body).expect(201).await;
    assert_ne!(next["id"], first["id"]);
    let gone = post(&acme.owner, INVITATIONS, "k", &body).send().await;
    assert_eq!(gone.said(), (404, "not_found".into()), "another one took its place");
    assert_eq!(app.mails().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_hashes_are_kept() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    post(&acme.owner, &page(&acme.owner), "very-secret", &json!({"body": "secret, too"})).expect(201).await;
    let sql = format!(
        r#"SELECT encode(request, 'escape') || encode(body_hash, 'escape') FROM "{}".idempotency_keys"#,
        acme.schema()
    );
    let kept: String = app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0);
    assert!(!kept.contains("secret"), "{kept}");
}

#[test]
fn the_document_says_which_operations_take_a_key() {
    let document: Value = serde_json::from_slice(&tenantry::app::document().to_json().unwrap()).unwrap();
    let mut taking = Vec::new();
    for operation in operations() {
        let found = &document["paths"][&operation.path][operation.method.to_lowercase()];
        let parameters = found["parameters"].as_array().cloned().unwrap_or_default();
        let takes = parameters.iter().any(|it| it["name"] == "Idempotency-Key" && it["in"] == "header");
        assert_eq!(found["responses"].get("422").is_some(), takes, "{operation}");
        if takes {
            taking.push(operation.to_string());
        }
    }
    taking.sort();
    assert_eq!(taking, ["POST /api/invitations/", "POST /api/users/{pk}/comments/"]);
}

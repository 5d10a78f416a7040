//! Comments are written, read, changed and deleted.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry::entity::users::Role;

use super::{acme, comment, comment_count, delete, edit, page, path, person, replies, reply};
use crate::support::{Answer, Person, TestApp, assert_counts};

const NOW: &str = "2026-01-02T03:04:05.678901Z";

#[track_caller]
fn assert_field(answer: &Answer, field: &str, sentence: &str) {
    let expected = json!({
        "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid", "detail": "Invalid input.",
        field: [sentence],
    });
    assert_eq!((answer.status, answer.problem()), (400, expected));
}

fn denied() -> (u16, String) {
    (403, "permission_denied".into())
}

fn not_found() -> (u16, String) {
    (404, "not_found".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_is_shown_as_it_was_written() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    let body = "  <b>Hi</b> & \"bye\"\r\n\t@ann 👩‍💻 \u{301}\n ";
    let written = comment(&bob, &ann, body).expect(201).await;
    assert_eq!(
        written,
        json!({
            "id": written["id"], "author": person(&bob), "user": ann.pk, "parent": null, "body": body,
            "mentions": [{"pk": ann.pk, "username": "ann"}], "reply_count": 0, "created_at": NOW, "edited_at": null,
            "is_deleted": false,
        })
    );
    let order: Vec<_> =
        ["id", "author", "user", "parent", "body", "mentions", "reply_count", "created_at", "edited_at"]
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
    let text = ann.request("GET", &path(&written)).send().await.text;
    let at = |name: &String| text.find(&format!("\"{name}\":")).unwrap();
    assert!(order.is_sorted_by_key(at), "{text}");
    assert_eq!(ann.get(&path(&written)).await, written);

    let answered = reply(&ann, &ann, &written, "Hi").expect(201).await;
    assert_eq!((&answered["parent"], &answered["reply_count"]), (&written["id"], &json!(0)));
    let list = bob.get(&page(&ann)).await;
    assert_eq!(
        (&list["count"], &list["results"][0]["reply_count"]),
        (&json!(1), &json!(1)),
        "top level only"
    );
    let list = bob.get(&replies(&written)).await;
    assert_eq!(list, json!({"count": 1, "next": null, "previous": null, "results": [answered]}));
    assert_eq!(bob.get(&replies(&answered)).await["count"], 0);
    assert_eq!(comment_count(&bob, &ann).await, 2);
    assert_eq!(comment_count(&bob, &bob).await, 0);
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_comment_is_refused() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    for blank in ["", " ", "\n\t\u{3000}"] {
        assert_field(&comment(&ann, &bob, blank).send().await, "body", "This field may not be blank.");
    }
    let too_long = "Ensure this field has no more than 10000 characters.";
    assert_field(&comment(&ann, &bob, &"é".repeat(10_001)).send().await, "body", too_long);
    for body in ["💬".repeat(10_000), "x".into()] {
        assert_eq!(comment(&ann, &bob, &body).expect(201).await["body"], body);
    }
    let post = |body: Value| ann.request("POST", &page(&bob)).json(&body);
    assert_field(&post(json!({})).send().await, "body", "This field is required.");
    assert_field(&post(json!({"body": 1})).send().await, "body", "Not a valid string.");
    assert_field(&post(json!({"body": "x", "parent": 1})).send().await, "parent", "Must be a valid UUID.");
    let top = post(json!({"body": "x", "parent": null})).expect(201).await;
    let answered = reply(&ann, &bob, &top, "y").expect(201).await;
    assert_field(&reply(&ann, &bob, &answered, "z").send().await, "parent", "A reply cannot be replied to.");
    let nothing = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";
    let elsewhere = comment(&ann, &ann, "mine").expect(201).await;
    for id in [nothing, elsewhere["id"].as_str().unwrap()] {
        let sentence = format!("Invalid pk \"{id}\" - object does not exist.");
        assert_field(&post(json!({"body": "x", "parent": id})).send().await, "parent", &sentence);
    }
    delete(&ann, &top).expect(204).await;
    let sentence = "A deleted comment cannot be replied to.";
    assert_field(&reply(&ann, &bob, &top, "late").send().await, "parent", sentence);
    for (method, path) in [
        ("POST", format!("/api/users/{nothing}/comments/")),
        ("GET", format!("/api/users/{nothing}/comments/")),
        ("GET", format!("/api/users/{nothing}/comments/?search=x")),
        ("GET", format!("/api/comments/{nothing}/replies/")),
        ("GET", format!("/api/comments/{nothing}/replies/?search=x")),
        ("GET", format!("/api/comments/{nothing}/")),
        ("DELETE", format!("/api/comments/{nothing}/")),
    ] {
        let request = ann.request(method, &path);
        let request = if method == "POST" { request.json(&json!({"body": "x"})) } else { request };
        assert_eq!(request.send().await.said(), not_found(), "{method} {path}");
    }
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_author_changes_a_comment_and_nobody_else() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    let written = comment(&bob, &ann, "first").expect(201).await;
    app.clock.advance(Duration::from_mins(1));
    let same = edit(&bob, &written, "first").expect(200).await;
    assert_eq!(same, written, "nothing was changed");
    assert_eq!(bob.request("PATCH", &path(&written)).json(&json!({})).expect(200).await, written);
    for user in [&ann, &acme.owner] {
        assert_eq!(edit(user, &written, "forged").send().await.said(), denied());
    }
    assert_field(&edit(&bob, &written, " ").send().await, "body", "This field may not be blank.");
    let answer = edit(&bob, &written, " second ").send().await;
    let mut expected = written.clone();
    expected["body"] = json!(" second ");
    expected["edited_at"] = json!("2026-01-02T03:05:05.678901Z");
    assert_eq!((answer.status, answer.json()), (200, expected.clone()));
    assert_eq!(ann.get(&path(&written)).await, expected);

    let tag = answer.header("etag");
    let stale = bob.request("GET", &path(&written)).send().await.header("etag").to_owned();
    assert_eq!(stale, tag, "what the PATCH answered is what GET answers");
    edit(&bob, &written, "third").header("if-match", tag).expect(200).await;
    let late = edit(&bob, &written, "fourth").header("if-match", tag).send().await;
    assert_eq!(late.said(), (412, "precondition_failed".into()));
    let late = delete(&bob, &written).header("if-match", tag).send().await;
    assert_eq!(late.said(), (412, "precondition_failed".into()));
    let now = bob.request("GET", &path(&written)).send().await;
    assert_eq!(now.json()["body"], "third");
    delete(&bob, &written).header("if-match", now.header("etag")).expect(204).await;
    assert_eq!(bob.request("GET", &path(&written)).send().await.said(), not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn its_author_and_those_who_manage_people_delete_a_comment() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    let admin = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("admin") }).await;
    for (by, status) in [(&ann, 403), (&bob, 204), (&admin, 204), (&acme.owner, 204)] {
        let written = comment(&bob, &ann, "x").expect(201).await;
        assert_eq!(delete(by, &written).send().await.status, status, "{}", by.username);
        let then = if status == 204 { 404 } else { 200 };
        assert_eq!(ann.request("GET", &path(&written)).send().await.status, then, "{}", by.username);
        if status == 204 {
            assert_eq!(delete(by, &written).send().await.said(), not_found(), "twice");
        }
    }
    assert_eq!(comment_count(&ann, &ann).await, 1);
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_of_a_comment_stays_as_long_as_its_replies() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    let top = comment(&bob, &ann, "hello @ann").expect(201).await;
    let first = reply(&ann, &ann, &top, "1").expect(201).await;
    let second = reply(&bob, &ann, &top, "2").expect(201).await;
    app.clock.advance(Duration::from_secs(1));
    edit(&bob, &top, "hello again @ann").expect(200).await;
    delete(&bob, &top).expect(204).await;
    let place = json!({
        "id": top["id"], "author": null, "user": ann.pk, "parent": null, "body": "", "mentions": [], "reply_count": 2,
        "created_at": top["created_at"], "edited_at": null, "is_deleted": true,
    });
    assert_eq!(ann.get(&path(&top)).await, place);
    assert_eq!(ann.get(&page(&ann)).await["results"], json!([place]));
    assert_eq!(comment_count(&ann, &ann).await, 2, "a place is no comment");
    for user in [&bob, &acme.owner] {
        assert_eq!(edit(user, &top, "x").send().await.said(), not_found());
        assert_eq!(delete(user, &top).send().await.said(), not_found());
    }
    delete(&bob, &second).expect(204).await;
    assert_eq!(ann.get(&replies(&top)).await["results"], json!([first]));
    assert_counts(&app, &acme).await;
    delete(&ann, &first).expect(204).await;
    assert_eq!(ann.request("GET", &path(&top)).send().await.said(), not_found());
    assert_eq!(ann.get(&page(&ann)).await["count"], 0);
    assert_eq!(comment_count(&ann, &ann).await, 0);
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_faster_than_anybody_reads() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    for _ in 0..120 {
        comment(&ann, &bob, "again").expect(201).await;
    }
    let refused = comment(&ann, &bob, "again").send().await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "60"), "{refused:?}");
    comment(&bob, &bob, "others may").expect(201).await;
    app.clock.advance(Duration::from_mins(1));
    comment(&ann, &bob, "again").expect(201).await;
    assert_counts(&app, &acme).await;
}

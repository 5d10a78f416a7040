//! The list, and what is done with one notification.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tenantry::{entity::users::Role, notifications::Kind};

use super::{ALL_READ, INBOX, counts, path, results, run, tell, tell_of};
use crate::support::{Person, TestApp};

const NOBODY: &str = "/api/notifications/5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de/";

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_says_who_did_what() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann =
        acme.add_user(&app, Person { first_name: "Ann", last_name: "Lee", ..Person::named("ann") }).await;
    let bob = acme.add_user(&app, Person::named("bob")).await;
    let empty = bob.request("GET", INBOX).send().await;
    assert_eq!(
        empty.text, r#"{"count":0,"unread_count":0,"next":null,"previous":null,"results":[]}"#,
        "members in this order"
    );
    tell(&app, &acme, &ann, &[(&bob, Kind::Mention), (&ann, Kind::Comment), (&bob, Kind::Comment)]).await;
    let page = bob.get(INBOX).await;
    let id = page["results"][0]["id"].clone();
    let now = "2026-01-02T03:04:05.678901Z";
    let mut expected = json!({
        "id": id, "kind": "mention",
        "actor": {"pk": ann.pk, "username": "ann", "first_name": "Ann", "last_name": "Lee"},
        "object": {"type": "user", "id": ann.pk, "display": "ann"},
        "text": "Ann Lee mentioned you in a comment.", "read_at": null, "created_at": now,
    });
    assert_eq!(
        page,
        json!({"count": 1, "unread_count": 1, "next": null, "previous": null, "results": [expected]})
    );
    assert_eq!(ann.get(INBOX).await["count"], 0, "never of one's own doing");
    assert_eq!(bob.get(&path(&expected)).await, expected);

    acme.owner.request("DELETE", &format!("/api/users/{}/", ann.pk)).expect(204).await;
    expected["actor"] = Value::Null;
    expected["object"]["display"] = json!("");
    expected["text"] = json!("Somebody mentioned you in a comment.");
    assert_eq!(bob.get(&path(&expected)).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_told_to_a_person_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let bob = acme.add_user(&app, Person::named("bob")).await;
    let gone = acme.add_user(&app, Person::named("gone")).await;
    acme.change(&app, &gone, "is_active = false").await;
    let event = tell(&app, &acme, &ann, &[(&bob, Kind::Mention), (&gone, Kind::Mention)]).await;
    tell_of(&app, &acme, event, &ann, &[(&bob, Kind::Comment), (&acme.owner, Kind::Reply)]).await.unwrap();
    tell_of(&app, &acme, event, &ann, &[(&bob, Kind::Reply), (&gone, Kind::Reply)]).await.unwrap();
    assert_eq!(counts(&app, &acme, &bob).await, (1, 1));
    assert_eq!(results(&bob, "").await[0]["kind"], "mention");
    assert_eq!(results(&acme.owner, "").await[0]["text"], "ann replied to your comment.");
    acme.change(&app, &gone, "is_active = true").await;
    assert_eq!(counts(&app, &acme, &gone).await, (0, 0), "who may not sign in is not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_read_unread_and_deleted() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let other = acme.add_user(&app, Person { role: Role::Owner, ..Person::named("other") }).await;
    for _ in 0..3 {
        tell(&app, &acme, &acme.owner, &[(&ann, Kind::Comment)]).await;
    }
    let mut one = results(&ann, "").await[1].clone();
    let path = path(&one);
    let change = |body: Value| ann.request("PATCH", &path).json(&body);
    app.clock.advance(Duration::from_secs(5));
    one["read_at"] = json!("2026-01-02T03:04:10.678901Z");
    assert_eq!(change(json!({"read": true})).expect(200).await, one);
    app.clock.advance(Duration::from_secs(5));
    assert_eq!(change(json!({"read": true})).expect(200).await, one, "read since then");
    assert_eq!(change(json!({})).expect(200).await, one);
    assert_eq!(counts(&app, &acme, &ann).await, (3, 2));
    let wrong = change(json!({"read": "yes"})).send().await;
    assert_eq!((wrong.status, &wrong.json()["read"]), (400, &json!(["Must be a valid boolean."])));
    for (query, count) in [("?unread=true", 2), ("?unread=false", 1), ("", 3)] {
        let page = ann.get(&format!("{INBOX}{query}")).await;
        assert_eq!(
            (&page["count"], &page["unread_count"], page["results"].as_array().unwrap().len()),
            (&json!(count), &json!(2), count),
            "{query}"
        );
    }
    assert_eq!(results(&ann, "?unread=false").await, [one.clone()]);
    let nonsense = ann.request("GET", &format!("{INBOX}?unread=maybe")).send().await;
    assert_eq!(nonsense.status, 400, "{}", nonsense.text);

    one["read_at"] = Value::Null;
    let unread = change(json!({"read": false})).send().await;
    assert_eq!((unread.status, unread.json()), (200, one.clone()));
    assert_eq!(counts(&app, &acme, &ann).await, (3, 3));

    let stale = ann.request("DELETE", &path).header("if-match", "\"x\"").send().await;
    assert_eq!(stale.said(), (412, "precondition_failed".into()));
    let stale = change(json!({"read": true})).header("if-match", "\"x\"").send().await;
    assert_eq!(stale.said(), (412, "precondition_failed".into()));
    // Another's is as little there as nobody's.
    let nobody = other.request("GET", NOBODY).send().await.problem();
    for method in ["GET", "PATCH", "DELETE"] {
        let answer = other.request(method, &path).json(&json!({"read": true})).send().await;
        assert_eq!((answer.status, answer.problem()), (404, nobody.clone()), "{method}");
    }
    assert_eq!(ann.get(&path).await, one);
    let deleted = ann.request("DELETE", &path).header("if-match", unread.header("etag")).send().await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(counts(&app, &acme, &ann).await, (2, 2));
    for method in ["GET", "PATCH", "DELETE"] {
        let answer = ann.request(method, &path).json(&json!({"read": true})).send().await;
        assert_eq!((answer.status, answer.problem()), (404, nobody.clone()), "{method}");
    }
    let read = super::path(&results(&ann, "").await[0]);
    ann.request("PATCH", &read).json(&json!({"read": true})).expect(200).await;
    ann.request("DELETE", &read).expect(204).await;
    assert_eq!(counts(&app, &acme, &ann).await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_up_to_a_time_are_read_at_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let mark = async |body: Option<Value>| {
        let request = ann.request("POST", ALL_READ);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        request.expect(200).await
    };
    assert_eq!(mark(None).await, json!({"updated": 0}));
    for _ in 0..5 {
        tell(&app, &acme, &acme.owner, &[(&ann, Kind::Comment)]).await;
    }
    let third = results(&ann, "").await[2].clone();
    ann.request("PATCH", &path(&third)).json(&json!({"read": true})).expect(200).await;
    assert_eq!(mark(Some(json!({"before": "2026-01-02T03:04:05Z"}))).await, json!({"updated": 0}));
    // Up to the fourth, itself too: the others have later times, though all happened at one.
    let fourth = results(&ann, "").await[1].clone();
    assert_eq!(mark(Some(json!({"before": fourth["created_at"]}))).await, json!({"updated": 3}));
    assert_eq!(counts(&app, &acme, &ann).await, (5, 1));
    assert_eq!(results(&ann, "?unread=true").await, [results(&ann, "").await[0].clone()]);
    assert_eq!(ann.get(&path(&third)).await["read_at"], "2026-01-02T03:04:05.678901Z");

    assert_eq!(mark(Some(json!({"before": "2036-01-01T00:00:00+01:00"}))).await, json!({"updated": 1}));
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Comment)]).await;
    assert_eq!(counts(&app, &acme, &ann).await, (6, 1));
    assert_eq!(mark(Some(json!({}))).await, json!({"updated": 1}));
    assert_eq!(mark(None).await, json!({"updated": 0}));
    assert_eq!(counts(&app, &acme, &ann).await, (6, 0));
    let wrong = ann.request("POST", ALL_READ).json(&json!({"before": "yesterday"})).send().await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["before"][0].as_str().unwrap().starts_with("Datetime has wrong format."));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_a_long_inbox_is_found() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = &acme.owner;
    // Three thousand, of which some were deleted, whole blocks are read, and some are read here and there.
    let sql = format!(
        "INSERT INTO notifications (id, user_pk, number, event, kind, object_type, read_at, created_at) \
             SELECT gen_random_uuid(), '{0}', n, gen_random_uuid(), 'comment', 'role', \
                 CASE WHEN n % 7 = 0 OR n BETWEEN 1000 AND 2100 THEN now() END, now() + n * interval '1 us' \
             FROM generate_series(1, 4000) AS n WHERE n % 3 <> 0 AND n NOT BETWEEN 2048 AND 3071; \
         INSERT INTO lists (kind, owner, numbered, removed, numbered_at) \
             SELECT 'inbox', '{0}', 4000, 4000 - count(*), now() FROM notifications; \
         INSERT INTO list_blocks SELECT 'inbox', '{0}', b, count(number), \
                 count(*) FILTER (WHERE number IS NOT NULL AND read_at IS NULL) \
             FROM generate_series(0, 3) AS b LEFT JOIN notifications ON number / 1024 = b GROUP BY b",
        ann.pk
    );
    run(&app, &acme, &sql).await;
    let (count, unread) = counts(&app, &acme, ann).await;
    for (filter, total) in [("", count), ("&unread=true", unread), ("&unread=false", count - unread)] {
        for order in ["-created_at", "created_at"] {
            let mut walked: Vec<Value> = Vec::new();
            let mut next = format!("{INBOX}?page_size=100&ordering={order}{filter}");
            loop {
                let page = ann.get(&next).await;
                assert_eq!((&page["count"], &page["unread_count"]), (&json!(total), &json!(unread)));
                walked.extend(page["results"].as_array().unwrap().iter().cloned());
                let Some(link) = page["next"].as_str() else { break };
                next = link[link.find("/api").unwrap()..].to_owned();
            }
            assert_eq!(walked.len(), usize::try_from(total).unwrap(), "{order}{filter}");
            let time = |row: &Value| row["created_at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
            let times: Vec<_> = walked.iter().map(time).collect();
            let mut sorted = times.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if order == "-created_at" {
                sorted.reverse();
            }
            assert!(times == sorted, "{order}{filter}");
            let fits = |row: &Value| filter.is_empty() || row["read_at"].is_null() == (total == unread);
            assert!(walked.iter().all(fits), "{filter}");
        }
    }
    let last = ann.get(&format!("{INBOX}?page=last")).await;
    assert_eq!(last["next"], Value::Null);
    assert_eq!(ann.request("GET", &format!("{INBOX}?page=1000")).send().await.status, 404);
    assert_eq!(
        ann.request("POST", ALL_READ).expect(200).await,
        json!({"updated": unread}),
        "all of all blocks"
    );
    assert_eq!(counts(&app, &acme, ann).await, (count, 0));
}

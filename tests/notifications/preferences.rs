//! How people want to be told.

use serde_json::{Value, json};
use tenantry::notifications::Kind;

use super::{INBOX, PREFERENCES, counts, number, results, tell};
use crate::support::{Person, TestApp, User};

fn defaults() -> Value {
    let instant = json!({"in_app": "instant", "email": "instant"});
    json!({
        "mention": instant, "reply": instant, "comment": {"in_app": "instant", "email": "daily"},
        "invitation_accepted": instant, "role_changed": instant, "new_device": {"in_app": "instant", "email": "off"},
    })
}

async fn put(user: &User, body: &Value) -> Value {
    user.request("PUT", PREFERENCES).json(body).expect(200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_preferences_are_chosen_at_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let read = ann.request("GET", PREFERENCES).send().await;
    assert_eq!((read.status, read.json()), (200, defaults()));
    let kept = || number(&app, &acme, "SELECT count(*) FROM notification_preferences");

    let mut expected = defaults();
    expected["reply"] = json!({"in_app": "off", "email": "daily"});
    expected["comment"] = json!({"in_app": "instant", "email": "off"});
    let chosen = json!({
        "reply": {"in_app": "off", "email": "daily", "push": "loud"}, "comment": {"email": "off"},
        "mention": {"in_app": "instant", "email": "instant"}, "birthday": 7,
    });
    assert_eq!(put(&ann, &chosen).await, expected);
    assert_eq!(ann.get(PREFERENCES).await, expected);
    assert_eq!(kept().await, 2, "only what differs from the default");
    assert_eq!(acme.owner.get(PREFERENCES).await, defaults());
    let stale = ann.request("PUT", PREFERENCES).header("if-match", read.header("etag")).json(&json!({}));
    assert_eq!(stale.send().await.said(), (412, "precondition_failed".into()));
    assert_eq!(ann.get(PREFERENCES).await, expected);
    assert_eq!(put(&ann, &json!({})).await, defaults());
    assert_eq!((ann.get(PREFERENCES).await, kept().await), (defaults(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_by_kind() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let wrong = json!({
        "mention": {"in_app": "daily", "email": 3}, "reply": "off", "comment": null, "new_device": {"email": "off"},
    });
    let answer = acme.owner.request("PUT", PREFERENCES).json(&wrong).send().await;
    assert_eq!(
        answer.problem(),
        json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
            "detail": "Invalid input.",
            "mention": ["in_app: \"daily\" is not a valid choice.", "email: \"3\" is not a valid choice."],
            "reply": ["Invalid data. Expected a dictionary, but got str."],
            "comment": ["This field may not be null."],
        })
    );
    assert_eq!(acme.owner.get(PREFERENCES).await, defaults());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_off_is_not_shown() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    acme.change(&app, &ann, "email_verified_at = now()").await;
    let off = json!({
        "mention": {"in_app": "off", "email": "off"}, "reply": {"in_app": "off", "email": "daily"},
    });
    put(&ann, &off).await;
    for kind in [Kind::Mention, Kind::Reply, Kind::Comment] {
        tell(&app, &acme, &acme.owner, &[(&ann, kind)]).await;
    }
    assert_eq!(counts(&app, &acme, &ann).await, (1, 1));
    let shown = results(&ann, "").await;
    assert_eq!((shown.len(), &shown[0]["kind"]), (1, &json!("comment")));
    let rows = |kind: &str| format!("SELECT count(*) FROM notifications WHERE kind = '{kind}'");
    assert_eq!(number(&app, &acme, &rows("mention")).await, 0);
    assert_eq!(number(&app, &acme, &rows("reply")).await, 1, "one that waits for its mail only");
    assert_eq!(ann.request("POST", "/api/notifications/mark_all_read/").expect(200).await["updated"], 1);
    let hidden = number(&app, &acme, "SELECT count(*) FROM notifications WHERE read_at IS NULL").await;
    assert_eq!(hidden, 1);
    let sql = "SELECT count(*) FROM notifications WHERE number IS NULL AND kind = 'reply'";
    assert_eq!(number(&app, &acme, sql).await, 1);
    let mut superuser = app.superuser().await;
    let sql = format!(r#"SELECT id::text FROM "{}".notifications WHERE number IS NULL"#, acme.schema());
    let id: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut superuser).await.unwrap();
    for method in ["GET", "DELETE"] {
        assert_eq!(ann.request(method, &format!("{INBOX}{id}/")).send().await.status, 404);
    }
}

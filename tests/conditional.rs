//! Changes that must not overwrite another's: `If-Match`, from the tag of a GET to the lock on a row.

use futures_util::future::join_all;
use serde_json::json;
use tenantry::users;

use crate::support::{Person, TestApp, User};

const PROFILE: &str = "/api/current_user/";

async fn tag_of(user: &User) -> String {
    let answer = user.request("GET", PROFILE).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.header("etag").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_from_the_tag_of_its_last_change() {
    let app = TestApp::start().await;
    let ann = app.sign_up("acme").await.owner;
    let mut tag = tag_of(&ann).await;
    for name in ["Ann", "Anna", "Anna"] {
        let change = json!({"first_name": name});
        let answer = ann.request("PATCH", PROFILE).header("if-match", &tag).json(&change).send().await;
        assert_eq!((answer.status, &answer.json()["first_name"]), (200, &json!(name)));
        answer.header("etag").clone_into(&mut tag);
        assert_eq!(tag_of(&ann).await, tag, "what the PATCH answered is what GET answers");
    }
    let known = ann.request("GET", PROFILE).header("if-none-match", &tag).send().await;
    assert_eq!((known.status, known.text.as_str()), (304, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_another_version_is_refused_and_changes_nothing() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let [old, of_owner] = [tag_of(&ann).await, tag_of(&acme.owner).await];
    ann.request("PATCH", PROFILE).json(&json!({"first_name": "Ann"})).expect(200).await;
    let now = tag_of(&ann).await;
    for (header, value) in [
        ("if-match", old.clone()),
        ("if-match", format!("{old}, \"x\"")),
        ("if-match", format!("W/{now}")),
        ("if-match", of_owner),
        ("if-match", "nonsense".to_owned()),
        ("if-match", String::new()),
        ("if-none-match", now.clone()),
        ("if-none-match", "*".to_owned()),
    ] {
        let change = json!({"first_name": "Lost"});
        let answer = ann.request("PATCH", PROFILE).header(header, &value).json(&change).send().await;
        assert_eq!(
            answer.problem(),
            json!({
                "type": "about:blank", "title": "Precondition Failed", "status": 412,
                "code": "precondition_failed", "detail": "The resource has changed since it was read.",
            }),
            "{header}: {value}"
        );
        assert_eq!(tag_of(&ann).await, now, "{header}: {value}");
    }
    for value in [now.clone(), format!("\"x\", {now}"), "*".to_owned()] {
        let same = json!({"first_name": "Ann"});
        ann.request("PATCH", PROFILE).header("if-match", &value).json(&same).expect(200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_change_one_version_at_once_one_does() {
    const RACERS: usize = 12;
    let app = TestApp::start().await;
    let ann = app.sign_up("acme").await.owner;
    for round in 0..5 {
        let tag = tag_of(&ann).await;
        let race = (0..RACERS).map(|racer| {
            let change = json!({"first_name": format!("{round}-{racer}")});
            let request = ann.request("PATCH", PROFILE).header("if-match", &tag).json(&change);
            // A task each, so that they really run at once.
            tokio::spawn(async move { request.send().await })
        });
        let answers: Vec<_> = join_all(race).await.into_iter().map(Result::unwrap).collect();
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
        assert_eq!((won.len(), lost.len()), (1, RACERS - 1));
        for answer in lost {
            assert_eq!(answer.said(), (412, "precondition_failed".into()));
        }
        assert_eq!(ann.get(PROFILE).await, won[0].json(), "what the one that won has made is what there is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_waits_for_the_one_that_has_the_row() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let tag = tag_of(&acme.owner).await;
    // Two connections: within a transaction, the activity would stay what it was at the first look.
    let [mut other, mut watch] = [app.superuser().await, app.superuser().await];
    let table = format!("{}.users", acme.schema());
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; UPDATE {table} SET first_name = 'First'")))
        .execute(&mut other)
        .await
        .unwrap();
    let change = json!({"last_name": "Second"});
    let request = acme.owner.request("PATCH", PROFILE).header("if-match", &tag).json(&change);
    let waiting = tokio::spawn(async move { request.send().await });
    // It compares what it has read only once nobody else changes it any more.
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE%'";
    while sqlx::query_scalar::<_, i64>(asleep).fetch_one(&mut watch).await.unwrap() == 0 {
        assert!(!waiting.is_finished(), "it did not wait for the row");
    }
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(waiting.await.unwrap().said(), (412, "precondition_failed".into()));
    let account = users::find(&acme.db(&app).await, acme.owner.pk.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((account.first_name.as_str(), account.last_name.as_str()), ("First", ""));
}

//! Where somebody is signed in, and how to end it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Organization, PASSWORD, Person, TestApp, User, assert_not_valid};

const PATH: &str = "/api/sessions/";
const NOBODY: &str = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";

/// The ids of the sessions a user sees, as they come.
async fn ids(user: &User, query: &str) -> Vec<String> {
    let page = user.get(&format!("{PATH}{query}")).await;
    let results = page["results"].as_array().unwrap();
    results.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

/// The id of the session a user sees as his present one.
async fn current(user: &User) -> String {
    let page = user.get(PATH).await;
    let mut current = page["results"].as_array().unwrap().iter().filter(|session| session["current"] == true);
    let id = current.next().unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(current.next(), None, "{page}");
    id
}

async fn end(user: &User, id: &str) -> (u16, Value) {
    let answer = user.request("DELETE", &format!("{PATH}{id}/")).send().await;
    let body = if answer.text.is_empty() { Value::Null } else { answer.problem() };
    (answer.status, body)
}

async fn log_in_with(app: &TestApp, organization: &Organization, user_agent: &str) -> User {
    let body = json!({"username": organization.owner.username, "password": PASSWORD});
    let request = app.request("POST", "/api/login/").host(&organization.host(app)).json(&body);
    organization.owner.with(&request.header("user-agent", user_agent).expect(200).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_his_own_sessions_the_newest_first() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    acme.add_user(&app, Person::named("ann")).await;
    app.clock.advance(Duration::from_mins(1));
    let phone = log_in_with(&app, &acme, &format!("Phone/1.0 {}", "x".repeat(300))).await;
    app.clock.advance(Duration::from_mins(1));
    let refresh = acme.owner.refresh().header("user-agent", "Browser/2.0");
    let browser = acme.owner.with(&refresh.expect(200).await);

    let page = browser.get(PATH).await;
    let [one, other] = [&page["results"][0], &page["results"][1]];
    let cut = format!("Phone/1.0 {}", "x".repeat(190));
    assert_eq!(
        page,
        json!({"count": 2, "next": null, "previous": null, "results": [
            {
                "id": one["id"], "created_at": "2026-01-02T03:05:05.678901Z",
                "last_used_at": "2026-01-02T03:05:05.678901Z", "ip": "127.0.0.1", "user_agent": cut, "current": false,
            },
            {
                "id": other["id"], "created_at": "2026-01-02T03:04:05.678901Z",
                "last_used_at": "2026-01-02T03:06:05.678901Z", "ip": "127.0.0.1", "user_agent": "Browser/2.0",
                "current": true,
            },
        ]})
    );
    assert_eq!(current(&phone).await, one["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_come_page_by_page_in_either_order() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let mut made = vec![current(&acme.owner).await];
    for _ in 0..4 {
        made.push(current(&acme.sign_in(&app).await).await);
    }
    // Made at one moment, so that their ids decide.
    assert_eq!(ids(&acme.owner, "?ordering=created_at").await, made);
    let mut walked = Vec::new();
    for page in ["1", "2", "last"] {
        walked.extend(ids(&acme.owner, &format!("?page_size=2&page={page}")).await);
    }
    made.reverse();
    assert_eq!(walked, made);
    let beyond = acme.owner.request("GET", "/api/sessions/?page=2").send().await;
    assert_eq!(beyond.said(), (404, "not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_ends_any_of_his_own_sessions_for_every_process() {
    let app = TestApp::start().await;
    let other_process = app.beside().await;
    let acme = app.sign_up("acme").await;
    let (here, there) = (acme.sign_in(&app).await, acme.sign_in(&app).await);
    let id = current(&there).await;
    assert_eq!(there.at(&other_process).me().await.status, 200);

    assert_eq!(end(&here, &id).await, (204, Value::Null));
    assert_not_valid(&there.me().await, "its session was ended");
    assert_not_valid(&there.at(&other_process).me().await, "its session was ended at another process");
    assert_not_valid(&there.refresh().send().await, "its session was ended");
    assert!(!ids(&here, "").await.contains(&id));
    assert_eq!(end(&here, &id).await.0, 404, "ended already");

    let id = current(&here).await;
    assert_eq!(end(&here.at(&other_process), &id).await, (204, Value::Null));
    assert_not_valid(&here.me().await, "it has ended itself");
    assert_eq!(acme.owner.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_somebody_else_is_a_session_of_nobody() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let (of_ann, of_beta) = (current(&ann).await, current(&beta.owner).await);
    let nothing = end(&acme.owner, NOBODY).await;
    assert_eq!((nothing.0, &nothing.1["code"]), (404, &json!("not_found")));
    for id in [of_ann.as_str(), &of_beta, &ann.pk, "none"] {
        assert_eq!(end(&acme.owner, id).await, nothing, "{id}");
    }
    assert_eq!((ann.me().await.status, beta.owner.me().await.status), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_by_itself_is_not_there_any_more() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let old = current(&acme.owner).await;
    app.clock.advance(Duration::from_hours(30 * 24));
    let owner = acme.sign_in(&app).await;
    assert_eq!(ids(&owner, "").await, [current(&owner).await]);
    assert_eq!(end(&owner, &old).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_keeps_the_hundred_sessions_that_were_used_last() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let outdated = acme.sign_in(&app).await;
    app.clock.advance(Duration::from_hours(29 * 24));
    let oldest = acme.owner.with(&acme.owner.refresh().expect(200).await);
    let ann = ann.with(&ann.refresh().expect(200).await);
    app.clock.advance(Duration::from_hours(2 * 24));
    let second = acme.sign_in(&app).await;
    app.clock.advance(Duration::from_secs(1));
    // The oldest was made first and is used now: what counts is the use.
    let oldest = oldest.with(&oldest.refresh().expect(200).await);
    for _ in 0..98 {
        acme.sign_in(&app).await;
    }
    let sessions = async || -> i64 {
        let sql = format!(r#"SELECT count(*) FROM "{}".sessions"#, acme.schema());
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut app.superuser().await).await.unwrap()
    };
    assert_eq!(sessions().await, 102, "a hundred that last, one that has ended, and Ann's");

    let newest = acme.log_in(&app).await;
    assert_eq!(sessions().await, 101, "the one that had ended is gone, and one for one that came");
    assert_not_valid(&outdated.me().await, "ended by itself");
    assert_not_valid(&second.me().await, "not used for the longest time");
    for stays in [&oldest, &newest, &ann] {
        let stays = stays.with(&stays.refresh().expect(200).await);
        assert_eq!(stays.me().await.status, 200);
    }
}

//! An organization is closed by its owner, and restored by an operator.

use futures_util::future::join;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::entity::users::Role;

use crate::support::{Answer, Organization, PASSWORD, Person, TestApp, User};

const PATH: &str = "/api/tenant/";

async fn close(by: &User, password: &str) -> Answer {
    by.request("DELETE", PATH).json(&json!({"password": password})).send().await
}

/// What the catalog says: the status, and whether the time of the closing is known.
async fn status(app: &TestApp, organization: &Organization) -> (String, Option<String>) {
    let sql =
        format!("SELECT status, closed_at::text FROM tenantry.tenants WHERE id = '{}'", organization.id);
    let row = app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_organization_is_found_nowhere_and_can_be_restored() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    assert_eq!(ann.at(&other).me().await.status, 200);

    let answer = close(&acme.owner, PASSWORD).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    for app in [&app, &other] {
        for user in [&acme.owner, &ann] {
            assert_eq!(user.at(app).me().await.said(), (404, "tenant_not_found".into()));
        }
        let by_token = app.request("GET", "/api/current_user/").bearer(&ann.token).send().await;
        assert_eq!(by_token.said(), (404, "tenant_not_found".into()));
    }
    let (state, closed_at) = status(&app, &acme).await;
    assert_eq!(state, "deleting");
    assert!(closed_at.unwrap().starts_with("2026-01-02 03:04:05.678901"));
    // Nobody else gets its name, and its mails wait.
    let check = app.request("GET", "/api/sign_up/tenant/check/?slug=acme").expect(200).await;
    assert_eq!(check["available"], false);
    assert_eq!(app.mails().await, []);

    app.app.tenancy.restore(&"acme".parse().unwrap()).await.unwrap();
    assert_eq!(status(&app, &acme).await, ("active".into(), None));
    assert_eq!(ann.me().await.status, 200, "sessions go on");
    assert_eq!(app.mails().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_owner_who_knows_his_password_closes() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let admin = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("admin") }).await;
    assert_eq!(close(&admin, PASSWORD).await.said(), (403, "permission_denied".into()));
    let nobody = app.request("DELETE", PATH).host(&acme.host(&app)).json(&json!({"password": PASSWORD}));
    assert_eq!(nobody.send().await.said(), (401, "not_authenticated".into()));
    let wrong = close(&acme.owner, "correct horse").await;
    assert_eq!((wrong.status, &wrong.problem()["password"]), (400, &json!(["Invalid password."])));
    let missing = acme.owner.request("DELETE", PATH).send().await;
    assert_eq!((missing.status, &missing.problem()["password"]), (400, &json!(["This field is required."])));
    let tag = acme.owner.request("GET", PATH).send().await.header("etag").to_owned();
    acme.owner.request("PATCH", PATH).json(&json!({"name": "Acme & Sons"})).expect(200).await;
    let stale =
        acme.owner.request("DELETE", PATH).header("if-match", &tag).json(&json!({"password": PASSWORD}));
    assert_eq!(stale.send().await.said(), (412, "precondition_failed".into()));
    assert_eq!(status(&app, &acme).await, ("active".into(), None));
    assert_eq!(acme.owner.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_owners_who_close_at_once_one_does() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = app.sign_up("acme").await;
    let second =
        acme.add_user(&app, Person { role: Role::Owner, ..Person::named("second") }).await.at(&other);
    let (one, two) = join(close(&acme.owner, PASSWORD), close(&second, PASSWORD)).await;
    let (won, lost) = if one.status == 204 { (one, two) } else { (two, one) };
    assert_eq!((won.status, lost.said()), (204, (404, "tenant_not_found".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_closed_is_not_restored() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let slug = "acme".parse().unwrap();
    app.app.tenancy.set_suspended(&slug, true).await.unwrap();
    let error = app.app.tenancy.restore(&slug).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no tenant `acme`");
    assert_eq!(status(&app, &acme).await, ("suspended".into(), None));
    app.app.tenancy.set_suspended(&slug, false).await.unwrap();
    assert_eq!(close(&acme.owner, PASSWORD).await.status, 204);
    // Who is gone is neither suspended nor resumed by the way.
    for suspended in [true, false] {
        assert!(app.app.tenancy.set_suspended(&slug, suspended).await.is_err());
    }
    assert!(app.app.tenancy.restore(&"nobody".parse().unwrap()).await.is_err());
}

//! Who may change and remove whom, and that there is always an owner.

use futures_util::future::join;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::entity::users::Role;

use crate::support::{Answer, Organization, PASSWORD, Person, TestApp, User, assert_not_valid, token_to};

fn path(user: &User) -> String {
    format!("/api/users/{}/", user.pk)
}

async fn patch(by: &User, user: &User, body: &Value) -> Answer {
    by.request("PATCH", &path(user)).json(body).send().await
}

async fn remove(by: &User, user: &User) -> Answer {
    by.request("DELETE", &path(user)).send().await
}

async fn add(app: &TestApp, organization: &Organization, username: &str, role: Role) -> User {
    organization.add_user(app, Person { role, ..Person::named(username) }).await
}

#[track_caller]
fn assert_last_owner(answer: &Answer, what: &str) {
    let expected = json!({
        "type": "about:blank", "title": "Conflict", "status": 409, "code": "last_owner",
        "detail": "An organization needs an owner: make somebody else one first.",
    });
    assert_eq!((answer.status, answer.problem()), (409, expected), "{what}");
}

#[track_caller]
fn assert_denied(answer: &Answer, what: &str) {
    assert_eq!(answer.said(), (403, "permission_denied".into()), "{what}: {}", answer.text);
}

async fn number(app: &TestApp, sql: String) -> i64 {
    app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0)
}

/// How many owners who may sign in there are.
async fn owners(app: &TestApp, organization: &Organization) -> i64 {
    let schema = organization.schema();
    number(app, format!(r#"SELECT count(*) FROM "{schema}".users WHERE role = 'owner' AND is_active"#)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_given_and_counts_from_the_next_request_on() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = app.sign_up("acme").await;
    let ann = add(&app, &acme, "ann", Role::Member).await;
    let mut expected = acme.owner.get(&path(&ann)).await;
    for role in ["admin", "owner", "member"] {
        let answer = patch(&acme.owner, &ann, &json!({"role": role})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        expected["role"] = json!(role);
        assert_eq!(answer.json(), expected);
        assert_eq!(acme.owner.get(&path(&ann)).await, expected);
        let list = ann.at(&other).request("GET", "/api/invitations/").send().await;
        assert_eq!(list.status, if role == "member" { 403 } else { 200 }, "{role}");
    }
    assert_eq!(patch(&acme.owner, &ann, &json!({})).await.json(), expected);
    assert_eq!(patch(&acme.owner, &ann, &json!({"username": "x", "email": "x"})).await.json(), expected);
    let wrong = patch(&acme.owner, &ann, &json!({"role": "king", "is_active": "no"})).await.problem();
    assert_eq!(
        (&wrong["role"], &wrong["is_active"]),
        (&json!(["\"king\" is not a valid choice."]), &json!(["Must be a valid boolean."]))
    );
    let nobody = acme.owner.request("PATCH", "/api/users/5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de/");
    assert_eq!(nobody.json(&json!({})).send().await.said(), (404, "not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_manage_everybody_but_owners() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let second = add(&app, &acme, "second", Role::Owner).await;
    let admin = add(&app, &acme, "admin", Role::Admin).await;
    let other = add(&app, &acme, "other", Role::Admin).await;
    let ann = add(&app, &acme, "ann", Role::Member).await;

    for body in [json!({"role": "owner"}), json!({"role": "owner", "is_active": true})] {
        assert_denied(&patch(&admin, &ann, &body).await, "no owner is made");
        assert_denied(&patch(&admin, &admin, &body).await, "not of himself either");
    }
    for body in [json!({"role": "member"}), json!({"is_active": false}), json!({"role": "owner"}), json!({})]
    {
        assert_denied(&patch(&admin, &second, &body).await, "no owner is changed");
    }
    assert_denied(&remove(&admin, &second).await, "no owner is removed");
    for user in [&ann, &admin, &second] {
        assert_denied(&patch(&ann, user, &json!({"role": "member"})).await, "a member changes nobody");
        assert_denied(&remove(&ann, user).await, "a member removes nobody");
    }
    assert_eq!(owners(&app, &acme).await, 2);

    assert_eq!(patch(&admin, &ann, &json!({"role": "admin"})).await.status, 200);
    assert_eq!(patch(&admin, &ann, &json!({"role": "member", "is_active": false})).await.status, 200);
    assert_eq!(remove(&admin, &other).await.status, 204);
    assert_eq!(patch(&admin, &admin, &json!({"role": "member"})).await.json()["role"], "member");
    assert_denied(&patch(&admin, &ann, &json!({"is_active": true})).await, "not an admin any more");
    assert_eq!(remove(&acme.owner, &second).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owner_stays() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let owner = &acme.owner;
    add(&app, &acme, "admin", Role::Admin).await;
    // Who may not sign in owns nothing.
    let gone = add(&app, &acme, "gone", Role::Owner).await;
    assert_eq!(patch(owner, &gone, &json!({"is_active": false})).await.status, 200);
    for body in
        [json!({"role": "admin"}), json!({"is_active": false}), json!({"role": "member", "is_active": false})]
    {
        assert_last_owner(&patch(owner, owner, &body).await, &body.to_string());
    }
    assert_last_owner(&remove(owner, owner).await, "removal");
    assert_eq!(patch(owner, owner, &json!({"role": "owner", "is_active": true})).await.status, 200);
    // One who owns nothing may go.
    assert_eq!(patch(owner, &gone, &json!({"role": "member"})).await.status, 200);

    let second = add(&app, &acme, "second", Role::Owner).await;
    assert_eq!(patch(owner, owner, &json!({"role": "admin"})).await.status, 200);
    assert_last_owner(&remove(&second, &second).await, "the second is the last now");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_who_demote_each_other_at_once_leave_one() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = app.sign_up("acme").await;
    let changes = [json!({"role": "admin"}), json!({"is_active": false}), Value::Null];
    for round in 0..12 {
        let [one, two] = [format!("one-{round}"), format!("two-{round}")];
        let (one, two) =
            (add(&app, &acme, &one, Role::Owner).await, add(&app, &acme, &two, Role::Owner).await);
        acme.change(&app, &acme.owner, "role = 'member'").await;
        let body = &changes[round % 3];
        let act = async |by: &User, user: &User| {
            if body.is_null() { remove(by, user).await } else { patch(by, user, body).await }
        };
        let there = two.at(&other);
        let (first, second) = join(act(&one, &two), act(&there, &one)).await;
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        // The second is no owner any more when it is his turn, or not even a user.
        let refused = if round % 3 == 0 { 403 } else { 401 };
        assert_eq!(statuses, [if round % 3 == 2 { 204 } else { 200 }, refused], "{first:?} {second:?}");
        assert_eq!(owners(&app, &acme).await, 1);
        acme.change(&app, &acme.owner, "role = 'owner'").await;
        for user in [&one, &two] {
            remove(&acme.owner, user).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_who_step_down_at_once_leave_one() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = app.sign_up("acme").await;
    for round in 0..6 {
        let second = add(&app, &acme, &format!("second-{round}"), Role::Owner).await;
        let body = json!({"role": "admin"});
        let there = second.at(&other);
        let (first, last) = join(patch(&acme.owner, &acme.owner, &body), patch(&there, &there, &body)).await;
        let (won, lost) = if first.status == 200 { (first, last) } else { (last, first) };
        assert_eq!(won.status, 200, "{}", won.text);
        assert_last_owner(&lost, "the second");
        assert_eq!(owners(&app, &acme).await, 1);
        acme.change(&app, &acme.owner, "role = 'owner'").await;
        remove(&acme.owner, &second).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_sign_in_is_signed_out_for_good() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = app.sign_up("acme").await;
    app.mails().await;
    let ann = acme.add_user(&app, Person { email: "ann@example.com", ..Person::named("ann") }).await;
    let host = acme.host(&app);
    let resend = app.request("POST", "/api/sign_up/resend_email/").host(&host);
    resend.json(&json!({"email": "ann@example.com"})).expect(200).await;
    let token = token_to(&app.mails().await, "ann@example.com");

    let answer = patch(&acme.owner, &ann, &json!({"is_active": false})).await;
    assert_eq!((answer.status, &answer.json()["is_active"]), (200, &json!(false)));
    for ann in [&ann, &ann.at(&other)] {
        assert_not_valid(&ann.me().await, "deactivated");
        assert_eq!(ann.refresh().send().await.status, 401);
    }
    let login = json!({"username": "ann", "password": PASSWORD});
    let log_in = || app.request("POST", "/api/login/").host(&host).json(&login).send();
    assert_eq!(log_in().await.status, 400);
    assert_eq!(patch(&acme.owner, &ann, &json!({"is_active": true})).await.status, 200);
    // Let in again, but by password.
    assert_not_valid(&ann.me().await, "a session that ended");
    let proof = json!({"token": token, "password": PASSWORD});
    let verify = app.request("POST", "/api/sign_up/verify_email/").host(&host).json(&proof);
    assert_eq!(verify.send().await.status, 400, "a link that ended");
    assert_eq!(log_in().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_is_gone_with_all_that_was_his() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    app.mails().await;
    let body = json!({"email": "Ann@example.com", "role": "member"});
    acme.owner.request("POST", "/api/invitations/").json(&body).expect(201).await;
    let token = token_to(&app.mails().await, "Ann@example.com");
    let body = json!({"token": token, "username": "ann", "password": PASSWORD});
    let joined = app.request("POST", "/api/invitations/accept/").host(&acme.host(&app)).json(&body);
    let joined = joined.expect(201).await;
    let pk = joined["user"]["pk"].as_str().unwrap();
    let schema = acme.schema();
    let indexed = || number(&app, "SELECT count(*) FROM tenantry.email_index".into());
    let left = || number(&app, format!(r#"SELECT count(*) FROM "{schema}".sessions WHERE user_pk = '{pk}'"#));
    assert_eq!((indexed().await, left().await), (2, 1));

    let path = format!("/api/users/{pk}/");
    let answer = acme.owner.request("DELETE", &path).send().await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!((indexed().await, left().await), (1, 0));
    let me = app.request("GET", "/api/current_user/").bearer(joined["token"].as_str().unwrap());
    assert_not_valid(&me.send().await, "removed");
    for method in ["GET", "DELETE"] {
        assert_eq!(acme.owner.request(method, &path).send().await.said(), (404, "not_found".into()));
    }
    // The name and the address are free again.
    acme.add_account(&app, Person { email: "ann@example.com", ..Person::named("ann") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_can_name_the_version_it_is_made_of() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = add(&app, &acme, "ann", Role::Member).await;
    let read = acme.owner.request("GET", &path(&ann)).send().await;
    let tag = read.header("etag");
    let change = |role: &str| {
        acme.owner.request("PATCH", &path(&ann)).header("if-match", tag).json(&json!({"role": role})).send()
    };
    let changed = change("admin").await;
    assert_eq!(changed.status, 200);
    assert_eq!(change("member").await.said(), (412, "precondition_failed".into()));
    let remove = |tag: &str| acme.owner.request("DELETE", &path(&ann)).header("if-match", tag).send();
    assert_eq!(remove(tag).await.said(), (412, "precondition_failed".into()));
    assert_eq!(acme.owner.get(&path(&ann)).await["role"], "admin");
    // What may not be done at all is told first.
    let step_down = acme.owner.request("PATCH", &path(&acme.owner)).header("if-match", tag);
    assert_last_owner(&step_down.json(&json!({"role": "member"})).send().await, "a stale tag");
    assert_eq!(remove(changed.header("etag")).await.status, 204);
}

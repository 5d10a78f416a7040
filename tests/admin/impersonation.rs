//! Operators who work in a user's name.

use serde_json::{Value, json};
use tenantry::{app, http::Routes, impersonation::allows};

use super::support::Operator;
use crate::support::{Organization, PASSWORD, Person, TestApp, User, assert_not_valid};

/// A session in a user's name.
struct Acting {
    user: User,
    session: String,
}

impl Acting {
    async fn begin(
        app: &TestApp,
        ops: &Operator,
        organization: &Organization,
        user: &User,
        write: bool,
    ) -> Self {
        let body = json!({"user": user.pk, "reason": "ticket 7", "write": write});
        let begun = ops.request(app, "POST", &path(organization, "impersonate/")).json(&body).send().await;
        assert_eq!((begun.status, begun.header("cache-control")), (200, "no-store"), "{}", begun.text);
        let session = begun.json()["session"].as_str().unwrap().to_owned();
        let tokens = json!({"token": begun.json()["token"], "refresh": ""});
        Self { user: user.with(&tokens), session }
    }
}

fn path(organization: &Organization, rest: &str) -> String {
    format!("/api/admin/tenants/{}/{rest}", organization.id)
}

fn details<'a>(log: &'a [Value], action: &str) -> Vec<&'a Value> {
    log.iter().filter(|entry| entry["action"] == action).map(|entry| &entry["detail"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_the_user_sees_and_everybody_sees_that() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let acting = Acting::begin(&app, &ops, &acme, &ann, false).await;
    assert_eq!(acting.user.get("/api/current_user/").await, ann.get("/api/current_user/").await);
    let comments = format!("/api/users/{}/comments/", ann.pk);
    let refused = acting.user.request("POST", &comments).json(&json!({"body": "hello"})).send().await;
    assert_eq!(refused.said(), (403, "permission_denied".into()));
    assert_eq!(ann.get(&comments).await["count"], 0);

    // The token says who acts, and for how long.
    let payload = acting.user.token.split('.').nth(1).unwrap();
    let claims: Value =
        serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap();
    assert_eq!((&claims["act"], &claims["sub"]), (&json!({"sub": ops.id}), &json!(ann.pk)));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 15 * 60);

    let sessions = ann.get("/api/sessions/").await;
    let of_operator =
        sessions["results"].as_array().unwrap().iter().find(|it| it["id"] == acting.session.as_str());
    let of_operator = of_operator.unwrap();
    assert_eq!(of_operator["user_agent"], "Operator of localhost: ticket 7");
    let listed = ops.get(&app, &path(&acme, "impersonations/")).await;
    assert_eq!(
        listed["results"],
        json!([{
            "id": acting.session, "operator": "ops@example.com", "user": {"pk": ann.pk, "username": "ann"},
            "reason": "ticket 7", "write": false, "created_at": "2026-01-02T03:04:05.678901Z",
            "expires_at": "2026-01-02T03:19:05Z",
        }])
    );

    // Both logs have every call, the refused one too; the organization's says that it was an operator, not which one.
    let (user, session) = (json!({"pk": ann.pk, "username": "ann"}), &acting.session);
    let called = |method: &str, path: &str, refused: bool| {
        json!({
            "session": session, "user": user, "method": method, "path": path, "refused": refused,
        })
    };
    let expected = [called("POST", &comments, true), called("GET", "/api/current_user/", false)];
    let own = acme.owner.get("/api/tenant/audit/").await;
    let own = own["results"].as_array().unwrap();
    for log in [own, &ops.log(&app).await] {
        assert_eq!(details(log, "impersonation.called"), expected.iter().collect::<Vec<_>>());
        let begun = json!({"session": session, "user": user, "reason": "ticket 7", "write": false});
        assert_eq!(details(log, "impersonation.begun"), [&begun]);
    }
    assert!(
        own.iter().filter(|it| it["action"] == "impersonation.called").all(|it| it["by_operator"] == true)
    );
    assert!(!Value::from(own.clone()).to_string().contains("ops@example.com"));

    // The user ends it.
    ann.request("DELETE", &format!("/api/sessions/{session}/")).send().await;
    assert_not_valid(&acting.user.me().await, "a session that its user has ended");
    assert_eq!(ops.get(&app, &path(&acme, "impersonations/")).await["count"], 0);
    let again = ops.request(&app, "DELETE", &path(&acme, &format!("impersonations/{session}/"))).send().await;
    assert_eq!(again.said(), (404, "not_found".into()));
    assert_eq!(ann.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_leave_to_write_some_things_are_never_open() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let writes = Acting::begin(&app, &ops, &acme, &acme.owner, true).await;
    let comments = format!("/api/users/{}/comments/", acme.owner.pk);
    let made = writes.user.request("POST", &comments).json(&json!({"body": "hello"})).expect(201).await;
    assert_eq!(made["author"]["pk"], acme.owner.pk.as_str());
    let reads = Acting::begin(&app, &ops, &acme, &acme.owner, false).await;
    let routes = Routes::of(&app::document()).unwrap();
    let mut closed = 0;
    for route in routes.all() {
        for (method, access) in route.operations() {
            if !access.tenant || !access.credentials {
                continue;
            }
            let path = route.template().replace("{pk}", &acme.owner.pk).replace("{id}", &acting_id());
            for (acting, read_only) in [(&writes, false), (&reads, true)] {
                if allows(method, route.template(), read_only) {
                    continue;
                }
                closed += 1;
                let request = acting.user.request(method.as_str(), &path).json(&json!({"body": "x"}));
                let answer = request.send().await;
                assert_eq!(
                    answer.said(),
                    (403, "permission_denied".into()),
                    "{method} {path}: {}",
                    answer.text
                );
            }
        }
    }
    assert!(closed > 30, "{closed}");
    assert_eq!(writes.user.me().await.status, 200, "it has ended itself");
    // There is nothing to draw another token with.
    let refresh = app.request("POST", "/api/token/refresh/").host(&acme.host(&app));
    assert_not_valid(
        &refresh.json(&json!({"refresh": writes.user.token})).send().await,
        "as a refresh token",
    );
}

fn acting_id() -> String {
    uuid::Uuid::from_u128(7).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_its_time_its_operator_its_key_and_the_organizations_leave() {
    let app = TestApp::start().await;
    let [ops, leaver] =
        [Operator::create(&app, "ops@example.com").await, Operator::create(&app, "leaver@example.com").await];
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let begin = async |by: &Operator| Acting::begin(&app, by, &acme, &ann, false).await;

    let of_leaver = begin(&leaver).await;
    assert_eq!(of_leaver.user.me().await.status, 200);
    ops.request(&app, "DELETE", &format!("/api/admin/operators/{}/", leaver.id)).send().await;
    assert_not_valid(&of_leaver.user.me().await, "of an operator who is gone");

    let key = ops.key_with(&app, &["provision", "read"]).await;
    let with_key = begin(&Operator { key: key.clone(), ..ops.clone() }).await;
    assert_eq!(with_key.user.me().await.status, 200);
    let keys = ops.get(&app, "/api/admin/api_keys/").await;
    let id =
        keys["results"].as_array().unwrap().iter().find(|it| it["name"] == "a key").unwrap()["id"].clone();
    ops.request(&app, "DELETE", &format!("/api/admin/api_keys/{}/", id.as_str().unwrap())).send().await;
    assert_not_valid(&with_key.user.me().await, "by a key that is gone");

    let ended = begin(&ops).await;
    let end = path(&acme, &format!("impersonations/{}/", ended.session));
    let beta = app.sign_up("beta").await;
    let elsewhere = path(&beta, &format!("impersonations/{}/", ended.session));
    assert_eq!(ops.request(&app, "DELETE", &elsewhere).send().await.said(), (404, "not_found".into()));
    assert_eq!(ended.user.me().await.status, 200);
    assert_eq!(ops.request(&app, "DELETE", &end).send().await.status, 204);
    assert_not_valid(&ended.user.me().await, "that its operator has ended");

    let open = begin(&ops).await;
    acme.owner
        .request("PATCH", "/api/tenant/")
        .json(&json!({"allow_impersonation": false}))
        .expect(200)
        .await;
    assert_eq!(open.user.me().await.said(), (403, "permission_denied".into()));
    let body = json!({"user": "ann", "reason": "ticket 7"});
    let refused = ops.request(&app, "POST", &path(&acme, "impersonate/")).json(&body).send().await;
    assert_eq!(refused.said(), (403, "permission_denied".into()));
    acme.owner.request("PATCH", "/api/tenant/").json(&json!({"allow_impersonation": true})).expect(200).await;

    let last = begin(&ops).await;
    app.clock.advance(std::time::Duration::from_secs(15 * 60 - 1));
    assert_eq!(last.user.me().await.status, 200);
    app.clock.advance(std::time::Duration::from_secs(1));
    assert_not_valid(&last.user.me().await, "a quarter of an hour later");
    assert_eq!(ops.get(&app, &path(&acme, "impersonations/")).await["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_sign_in_is_nobody_to_act_for() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let ask =
        async |body: Value| ops.request(&app, "POST", &path(&acme, "impersonate/")).json(&body).send().await;
    let me = ann.get("/api/current_user/").await;
    for named in [&ann.pk, "ann", "ANN", me["email"].as_str().unwrap()] {
        assert_eq!(ask(json!({"user": named, "reason": "why"})).await.status, 200, "{named}");
    }
    acme.change(&app, &ann, "is_active = false").await;
    let nobody = json!(["There is no such user who may sign in."]);
    for named in [&ann.pk, "ann", "nobody", "a b", "", &acme.id] {
        let answer = ask(json!({"user": named, "reason": "why"})).await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{named}: {}", answer.text);
        if !named.is_empty() {
            assert_eq!(answer.json()["user"], nobody, "{named}");
        }
    }
    for reason in [json!(""), json!("x".repeat(151)), Value::Null] {
        let answer = ask(json!({"user": acme.owner.pk, "reason": reason})).await;
        assert_eq!((answer.status, answer.json()["reason"].is_array()), (400, true), "{}", answer.text);
    }
    let reader = ops.key_with(&app, &["read", "destroy"]).await;
    let body = json!({"user": acme.owner.pk, "reason": "why"});
    let answer = app.request("POST", &path(&acme, "impersonate/")).bearer(&reader).json(&body).send().await;
    assert_eq!(answer.said(), (403, "permission_denied".into()));

    ops.request(&app, "POST", &path(&acme, "suspend/")).expect(200).await;
    assert_eq!(ask(body).await.said(), (409, "tenant_not_active".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_with_a_token_ends_with_the_password_it_was_made_for() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let token = ops.sign_in(&app).await;
    let body = json!({"user": ann.pk, "reason": "ticket 7"});
    let begun =
        app.request("POST", &path(&acme, "impersonate/")).bearer(&token).json(&body).expect(200).await;
    let by_token = ann.with(&json!({"token": begun["token"], "refresh": ""}));
    let by_key = Acting::begin(&app, &ops, &acme, &ann, false).await;
    by_token.get("/api/current_user/").await;

    let body = json!({"old_password": PASSWORD, "new_password": "another horse battery"});
    app.request("POST", "/api/admin/operators/password/").bearer(&token).json(&body).expect(200).await;
    assert_not_valid(&by_token.request("GET", "/api/current_user/").send().await, "the password is another");
    by_key.user.get("/api/current_user/").await;
}

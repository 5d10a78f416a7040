//! People are asked to join, and join.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{entity::users::Role, mail::Mail};

use crate::support::{
    Answer, Organization, PASSWORD, Person, Request, TestApp, User, link, mail_to, token_to,
};

const PATH: &str = "/api/invitations/";
const ACCEPT: &str = "/api/invitations/accept/";

async fn invite(user: &User, body: &Value) -> Answer {
    user.request("POST", PATH).json(body).send().await
}

/// Invites somebody, and takes the token from the mail.
async fn invited(app: &TestApp, by: &User, email: &str, role: &str) -> String {
    let answer = invite(by, &json!({"email": email, "role": role})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    token_to(&app.mails().await, email)
}

fn accept(app: &TestApp, organization: &Organization, token: &str, username: &str) -> Request {
    let body = json!({"token": token, "username": username, "password": PASSWORD});
    app.request("POST", ACCEPT).host(&organization.host(app)).json(&body)
}

#[track_caller]
fn assert_refused(answer: &Answer, what: &str) {
    let expected = json!({
        "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid", "detail": "Invalid input.",
        "token": ["Invalid value."],
    });
    assert_eq!((answer.status, answer.problem()), (400, expected), "{what}");
}

/// An organization whose owner's mail has gone out.
async fn acme(app: &TestApp) -> Organization {
    let acme = app.sign_up("acme").await;
    app.mails().await;
    acme
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_invited_joins_with_what_he_was_invited_as() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    let answer = invite(&acme.owner, &json!({"email": "Ann@Example.com", "role": "admin"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let invitation = answer.json();
    assert_eq!(
        invitation,
        json!({
            "id": invitation["id"], "email": "Ann@Example.com", "role": "admin", "invited_by": acme.owner.pk,
            "created_at": "2026-01-02T03:04:05.678901Z", "expires_at": "2026-01-09T03:04:05.678901Z",
        })
    );
    let list = acme.owner.get(PATH).await;
    assert_eq!(list, json!({"count": 1, "next": null, "previous": null, "results": [invitation]}));

    let mails = app.mails().await;
    let letter = mail_to(&mails, "Ann@Example.com");
    let expected = Mail::Invitation {
        organization: "ACME".into(),
        inviter: "acme-owner".into(),
        role: Role::Admin,
        link: link(letter).into(),
    };
    assert_eq!(
        (&letter.mail, letter.expires_at),
        (&expected, Some("2026-01-09T03:04:05.678901Z".parse().unwrap()))
    );
    let site = format!("http://acme.localhost:{}/account/accept?token=", app.address.port());
    assert!(link(letter).starts_with(&site), "{}", link(letter));

    let token = token_to(&mails, "Ann@Example.com");
    let body = json!({
        "token": token, "username": "ann", "password": PASSWORD, "first_name": "Ann", "last_name": "Lee",
    });
    let answer = app.request("POST", ACCEPT).host(&acme.host(&app)).json(&body).send().await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, "no-store"), "{}", answer.text);
    let answer = answer.json();
    assert_eq!(
        answer["user"],
        json!({
            "pk": answer["user"]["pk"], "username": "ann", "email": "Ann@Example.com", "first_name": "Ann",
            "last_name": "Lee",
        })
    );
    let me = app.request("GET", "/api/current_user/").bearer(answer["token"].as_str().unwrap());
    let me = me.expect(200).await;
    assert_eq!((&me["role"], &me["email_verified"]), (&json!("admin"), &json!(true)));
    assert_eq!(acme.owner.get(PATH).await["count"], 0);
    let addresses =
        app.superuser().await.fetch_one("SELECT count(*) FROM tenantry.email_index").await.unwrap();
    assert_eq!(addresses.get::<i64, _>(0), 2);
    assert_refused(&accept(&app, &acme, &token, "other").send().await, "used");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_invites_whom_his_role_allows() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    let admin = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("admin") }).await;
    let member = acme.add_user(&app, Person::named("member")).await;
    let mut sent = 0;
    for (user, role, status) in [
        (&acme.owner, "owner", 201),
        (&acme.owner, "admin", 201),
        (&admin, "owner", 403),
        (&admin, "admin", 201),
        (&admin, "member", 201),
        (&member, "member", 403),
    ] {
        let answer = invite(user, &json!({"email": format!("{sent}@example.com"), "role": role})).await;
        assert_eq!(answer.status, status, "{role}: {}", answer.text);
        if status == 403 {
            assert_eq!(answer.said().1, "permission_denied");
        } else {
            assert_eq!(answer.json()["role"], role);
            sent += 1;
        }
    }
    assert_eq!(invite(&admin, &json!({"email": "z@example.com"})).await.json()["role"], "member");
    for path in [PATH, "/api/invitations/5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de/"] {
        let method = if path == PATH { "GET" } else { "DELETE" };
        assert_eq!(member.request(method, path).send().await.said(), (403, "permission_denied".into()));
    }
    let wrong = invite(&admin, &json!({"email": "x", "role": "king"})).await.problem();
    assert_eq!(
        (&wrong["email"], &wrong["role"]),
        (&json!(["Enter a valid email address."]), &json!(["\"king\" is not a valid choice."]))
    );
    assert_eq!(app.mails().await.len(), sent + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mailbox_is_filled_by_many_organizations() {
    let app = TestApp::start().await;
    let mut organizations = Vec::new();
    for n in 0..4 {
        organizations.push(app.sign_up(&format!("org-{n}")).await);
    }
    app.mails().await;
    let mut number = 0;
    for organization in &organizations {
        for _ in 0..3 {
            let email =
                if number % 2 == 0 { format!("Ann+{number}@Example.com") } else { "ann@example.com".into() };
            assert_eq!(
                invite(&organization.owner, &json!({"email": email})).await.status,
                201,
                "nobody is told"
            );
            number += 1;
        }
    }
    // Nor is who signs organizations up with somebody else's address.
    let body = json!({
        "organization": "More", "username": "ann", "email": "ann+more@example.com", "password": PASSWORD,
    });
    app.request("POST", "/api/sign_up/tenant/").json(&body).expect(201).await;
    invite(&organizations[0].owner, &json!({"email": "bob@example.com"})).await;
    let mails = app.mails().await;
    assert_eq!(mails.iter().filter(|letter| letter.to.email == "bob@example.com").count(), 1);
    assert_eq!(mails.len(), 11);
    app.clock.advance(Duration::from_hours(1) - Duration::from_secs(1));
    assert_eq!(app.mails().await, []);
    // None is lost.
    app.clock.advance(Duration::from_secs(1));
    let late = app.mails().await;
    assert_eq!(late.len(), 3, "{late:#?}");
    assert!(late.iter().any(|letter| letter.to.email == "ann+more@example.com"));
    // No address stands in the catalog for it.
    let sql = "SELECT count(*), bool_or(encode(key, 'escape') LIKE '%ann%') FROM tenantry.throttles";
    let row = app.superuser().await.fetch_one(sql).await.unwrap();
    assert!(row.get::<i64, _>(0) > 0 && !row.get::<bool, _>(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_alone_could_give_an_owner_alone_takes_away() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    let admin = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("admin") }).await;
    let token = invited(&app, &acme.owner, "ann@example.com", "owner").await;
    let list = acme.owner.get(PATH).await;
    let id = list["results"][0]["id"].as_str().unwrap().to_owned();
    let denied = (403, "permission_denied".to_owned());
    let withdraw = |by: &User, id: &str| by.request("DELETE", &format!("{PATH}{id}/")).send();
    assert_eq!(withdraw(&admin, &id).await.said(), denied);
    // More often than mails may go out: what is refused is none.
    for role in ["member", "admin", "member", "admin", "member", "admin"] {
        let answer = invite(&admin, &json!({"email": "ANN@example.com", "role": role})).await;
        assert_eq!(answer.said(), denied, "{role}");
    }
    assert_eq!(acme.owner.get(PATH).await, list);
    assert_eq!(app.mails().await, []);
    let second = invited(&app, &acme.owner, "bob@example.com", "owner").await;
    let bobs = acme.owner.get(PATH).await["results"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(withdraw(&acme.owner, &bobs).await.status, 204);
    assert_refused(&accept(&app, &acme, &second, "bob").send().await, "withdrawn");
    let answer = accept(&app, &acme, &token, "ann").expect(201).await;
    let me = app.request("GET", "/api/current_user/").bearer(answer["token"].as_str().unwrap());
    assert_eq!(me.expect(200).await["role"], "owner");
    // Of others, admins go on doing both.
    invited(&app, &acme.owner, "eve@example.com", "admin").await;
    invited(&app, &admin, "eve@example.com", "member").await;
    let eves = acme.owner.get(PATH).await["results"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(withdraw(&admin, &eves).await.status, 204);
    assert_eq!(withdraw(&admin, &eves).await.said(), (404, "not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_one_invitation_and_its_link_is_the_latest() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    let first = invited(&app, &acme.owner, "ann@example.com", "owner").await;
    app.clock.advance(Duration::from_hours(24 * 6));
    let owner = acme.sign_in(&app).await;
    let second = invited(&app, &owner, "ANN@example.com", "member").await;
    let list = owner.get(PATH).await;
    assert_eq!((&list["count"], &list["results"][0]["role"]), (&json!(1), &json!("member")));
    assert_eq!(list["results"][0]["expires_at"], "2026-01-15T03:04:05.678901Z");
    assert_refused(&accept(&app, &acme, &first, "ann").send().await, "the one before");
    app.clock.advance(Duration::from_hours(24 * 6));
    accept(&app, &acme, &second, "ann").expect(201).await;

    let bodies: Vec<_> = (0..5).map(|_| json!({"email": "bob@example.com"})).collect();
    let owner = acme.sign_in(&app).await;
    let answers = join_all(bodies.iter().map(|body| invite(&owner, body))).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(owner.get(PATH).await["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_cannot_be_invited_and_need_not_join() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    let token = invited(&app, &acme.owner, "ann@example.com", "member").await;
    acme.add_account(&app, Person { email: "Ann@EXAMPLE.com", ..Person::named("ann") }).await;
    let expected = json!({
        "type": "about:blank", "title": "Conflict", "status": 409, "code": "already_member",
        "detail": "Somebody with this e-mail address is a member already.",
    });
    assert_eq!(accept(&app, &acme, &token, "ann").send().await.problem(), expected);
    assert_eq!(accept(&app, &acme, &token, "other").send().await.problem(), expected);
    assert_eq!(invite(&acme.owner, &json!({"email": "ANN@example.com"})).await.problem(), expected);
    assert_eq!(app.mails().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_as_good_as_who_gave_it() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    let giver = acme.add_user(&app, Person { role: Role::Owner, ..Person::named("giver") }).await;
    let owners = invited(&app, &giver, "owner@example.com", "owner").await;
    let admins = invited(&app, &giver, "admin@example.com", "admin").await;
    let refused = async |token: &str, what: &str| {
        assert_refused(&accept(&app, &acme, token, "new").send().await, what);
    };
    acme.change(&app, &giver, "role = 'admin'").await;
    refused(&owners, "an admin makes no owner").await;
    acme.change(&app, &giver, "role = 'member'").await;
    refused(&admins, "a member makes no admin").await;
    acme.change(&app, &giver, "role = 'owner', is_active = false").await;
    refused(&owners, "deactivated").await;
    // All of this was not his fault.
    acme.change(&app, &giver, "is_active = true").await;
    accept(&app, &acme, &owners, "first").expect(201).await;
    let path = format!("/api/users/{}/", giver.pk);
    acme.owner.request("DELETE", &path).expect(204).await;
    refused(&admins, "removed").await;
    assert_eq!(acme.owner.get(PATH).await["results"][0]["invited_by"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_are_invited_before_an_owner_has_proven_his_address() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let other = app.beside().await;
    let owners = token_to(&app.mails().await, "owner@acme.example");
    // One address over and over counts like many.
    for n in 0..17 {
        let answer = invite(&acme.owner, &json!({"email": format!("{}@example.com", n % 9)})).await;
        assert_eq!(answer.status, 201, "{n}: {}", answer.text);
    }
    let bodies: Vec<_> = (0..10).map(|n| json!({"email": format!("new-{n}@example.com")})).collect();
    let here = [acme.owner.clone(), acme.owner.at(&other)];
    let answers = join_all(bodies.iter().enumerate().map(|(n, body)| invite(&here[n % 2], body))).await;
    let sent = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(sent, 3, "{answers:?}");
    let expected = json!({
        "type": "about:blank", "title": "Forbidden", "status": 403, "code": "email_not_verified",
        "detail": "Verify an owner's e-mail address to send more than 20 invitations.",
    });
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(refused.problem(), expected);
    }
    assert_eq!(app.mails().await.len(), 20);

    // A withdrawn one was sent all the same.
    let id = acme.owner.get(PATH).await["results"][0]["id"].as_str().unwrap().to_owned();
    acme.owner.request("DELETE", &format!("{PATH}{id}/")).expect(204).await;
    assert_eq!(invite(&acme.owner, &json!({"email": "x@example.com"})).await.problem(), expected);

    let proof = json!({"token": owners, "password": PASSWORD});
    app.request("POST", "/api/sign_up/verify_email/").host(&acme.host(&app)).json(&proof).expect(200).await;
    assert_eq!(invite(&acme.owner, &json!({"email": "x@example.com"})).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_is_wrong_does_not_use_the_link_up() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    let token = invited(&app, &acme.owner, "ann@example.com", "member").await;
    let send = |body: Value| app.request("POST", ACCEPT).host(&acme.host(&app)).json(&body).send();
    let weak = send(json!({"token": token, "username": "ann", "password": "short"})).await;
    assert_eq!((weak.status, weak.problem()["password"].is_array()), (400, true));
    let known = accept(&app, &acme, &token, "ACME-owner").send().await;
    assert_eq!(known.problem()["username"], json!(["A user with that username already exists."]));
    let missing = send(json!({"token": token})).await.problem();
    assert_eq!(
        (&missing["username"], &missing["password"]),
        (&json!(["This field is required."]), &json!(["This field is required."]))
    );
    for bad in ["x", &"A".repeat(token.len()), &format!("{token}A")] {
        assert_refused(&accept(&app, &acme, bad, "ann").send().await, bad);
    }
    let beta = app.sign_up("beta").await;
    assert_refused(&accept(&app, &beta, &token, "ann").send().await, "another organization's");
    accept(&app, &acme, &token, "ann").expect(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_accept_one_invitation_one_joins() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = acme(&app).await;
    for n in 0..5 {
        let token = invited(&app, &acme.owner, &format!("{n}@example.com"), "member").await;
        let (one, two) = join(
            accept(&app, &acme, &token, &format!("one-{n}")).send(),
            accept(&other, &acme, &token, &format!("two-{n}")).send(),
        )
        .await;
        let (won, lost) = if one.status == 201 { (one, two) } else { (two, one) };
        assert_eq!(won.status, 201, "{}", won.text);
        assert_refused(&lost, "the second");
    }
    assert_eq!(acme.owner.get("/api/users/").await["count"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_ends_when_it_is_withdrawn_and_after_a_week() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    let withdrawn = invited(&app, &acme.owner, "ann@example.com", "member").await;
    let id = acme.owner.get(PATH).await["results"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("{PATH}{id}/");
    acme.owner.request("DELETE", &path).expect(204).await;
    assert_eq!(acme.owner.request("DELETE", &path).send().await.said(), (404, "not_found".into()));
    assert_refused(&accept(&app, &acme, &withdrawn, "ann").send().await, "withdrawn");

    let token = invited(&app, &acme.owner, "ann@example.com", "member").await;
    app.clock.advance(Duration::from_hours(24 * 7));
    assert_refused(&accept(&app, &acme, &token, "ann").send().await, "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_by_invitation_has_no_sign_up_waiting() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    acme.owner.request("PATCH", "/api/tenant/").json(&json!({"sign_up_policy": "open"})).expect(200).await;
    let eve = json!({"username": "eve", "email": "ANN@example.com", "password": "what the stranger chose"});
    app.request("POST", "/api/sign_up/").host(&acme.host(&app)).json(&eve).expect(201).await;
    let eves = token_to(&app.mails().await, "ANN@example.com");
    let token = invited(&app, &acme.owner, "ann@example.com", "member").await;
    accept(&app, &acme, &token, "ann").expect(201).await;
    let proof = json!({"token": eves, "password": "what the stranger chose"});
    let verify = app.request("POST", "/api/sign_up/verify_email/").host(&acme.host(&app)).json(&proof);
    assert_refused(&verify.send().await, "void");
    let sql = format!(r#"SELECT count(*) FROM "{}".sign_ups"#, acme.schema());
    assert_eq!(app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap().get::<i64, _>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_are_listed_page_by_page() {
    let app = TestApp::start().await;
    let acme = acme(&app).await;
    for n in 0..5 {
        invited(&app, &acme.owner, &format!("{n}@example.com"), "member").await;
        app.clock.advance(Duration::from_secs(1));
    }
    let emails = async |query: &str| {
        let page = acme.owner.get(&format!("{PATH}?{query}")).await;
        let emails = page["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["email"].as_str().unwrap()[..1].to_owned());
        (emails.collect::<String>(), page["next"].is_string())
    };
    assert_eq!(emails("page_size=2").await, ("43".into(), true));
    assert_eq!(emails("page_size=2&page=3").await, ("0".into(), false));
    assert_eq!(emails("ordering=created_at").await, ("01234".into(), false));
    assert_eq!(acme.owner.request("GET", "/api/invitations/?page=2").send().await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_not_filled_with_invitations() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let invite = async || {
        // An hour later the first token has ended.
        let owner = acme.sign_in(&app).await;
        owner.request("POST", "/api/invitations/").json(&json!({"email": "bo@people.example"})).send().await
    };
    for _ in 0..5 {
        assert_eq!(invite().await.status, 201);
    }
    assert_eq!(invite().await.said(), (429, "throttled".into()));
    assert_eq!(app.mails().await.len(), 5);
    app.clock.advance(std::time::Duration::from_hours(1));
    assert_eq!(invite().await.status, 201);
}

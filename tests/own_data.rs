//! What people do with their own accounts: another address, a copy of their data, an end.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{
    entity::users::Role,
    mail::{Letter, Mail},
};

use crate::support::{Answer, Organization, PASSWORD, Person, TestApp, User};

const EMAIL: &str = "/api/current_user/email/";
const ME: &str = "/api/current_user/";

/// An organization whose first mail, to its owner, has gone out.
async fn sign_up(app: &TestApp, slug: &str) -> Organization {
    let organization = app.sign_up(slug).await;
    app.mails().await;
    organization
}

async fn ask(user: &User, email: &str) -> Answer {
    user.request("POST", EMAIL).json(&json!({"email": email, "password": PASSWORD})).send().await
}

async fn prove(app: &TestApp, organization: &Organization, token: &str) -> Answer {
    let request = app.request("POST", "/api/current_user/email/verify/").host(&organization.host(app));
    request.json(&json!({"token": token})).send().await
}

/// The token in the only mail that went out, to this address.
async fn token_for(app: &TestApp, organization: &Organization, email: &str) -> String {
    let [letter] = <[Letter; 1]>::try_from(app.mails().await).unwrap();
    assert_eq!(letter.to.email, email);
    let expires_at = app.clock.now() + chrono::TimeDelta::hours(24);
    assert_eq!(letter.expires_at, Some(expires_at));
    let Mail::ConfirmEmail { organization: name, link } = letter.mail else { panic!("{letter:?}") };
    assert_eq!(name, organization.slug.to_uppercase());
    let start = format!("http://{}/account/email?token=", organization.host(app));
    link.strip_prefix(&start).unwrap_or_else(|| panic!("{link}")).to_owned()
}

fn said(detail: &str) -> Value {
    json!({"detail": detail})
}

fn assert_invalid(answer: &Answer, field: &str, sentence: &str) {
    assert_eq!(
        answer.problem(),
        json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
            "detail": "Invalid input.", field: [sentence],
        })
    );
}

async fn email_of(user: &User) -> (Value, Value) {
    let me = user.get(ME).await;
    (me["email"].clone(), me["email_verified"].clone())
}

async fn indexed(app: &TestApp) -> i64 {
    let mut superuser = app.superuser().await;
    superuser.fetch_one("SELECT count(*) FROM tenantry.email_index").await.unwrap().get(0)
}

async fn is_found(app: &TestApp, email: &str) -> bool {
    let answer = app.request("POST", "/api/tenants/find/").json(&json!({"email": email})).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    !app.mails().await.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_counts_once_it_is_proven() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let ann = acme.add_user(&app, Person { email: "ann@old.example", ..Person::named("ann") }).await;
    let asked = ask(&ann, "Ann@New.example").await;
    assert_eq!((asked.status, asked.json()), (200, said("Verification e-mail sent.")));
    assert_eq!(email_of(&ann).await, (json!("ann@old.example"), json!(false)));
    let token = token_for(&app, &acme, "Ann@New.example").await;

    let proven = prove(&app, &acme, &token).await;
    assert_eq!((proven.status, proven.json()), (200, said("E-mail address verified.")));
    assert_eq!(email_of(&ann).await, (json!("Ann@New.example"), json!(true)), "and the session goes on");
    let [told] = <[Letter; 1]>::try_from(app.mails().await).unwrap();
    assert_eq!(told.to.email, "ann@old.example");
    let (organization, email) = ("ACME".to_owned(), "Ann@New.example".to_owned());
    assert_eq!(told.mail, Mail::EmailChanged { organization, email, at: app.clock.now() });

    // By which address somebody is let in, and found.
    let log_in = async |email: &str| {
        let body = json!({"email": email, "password": PASSWORD});
        app.request("POST", "/api/login/").host(&acme.host(&app)).json(&body).send().await.status
    };
    assert_eq!((log_in("ann@new.example").await, log_in("ann@old.example").await), (200, 400));
    app.mails().await;
    assert!(is_found(&app, "ann@new.example").await);
    assert!(!is_found(&app, "ann@old.example").await);

    assert_invalid(&prove(&app, &acme, &token).await, "token", "Invalid value.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_works_once_for_a_day_and_only_the_newest() {
    let app = TestApp::start().await;
    let (acme, other) = (sign_up(&app, "acme").await, sign_up(&app, "other").await);
    let ann = acme.owner.clone();
    ask(&ann, "first@new.example").await;
    let first = token_for(&app, &acme, "first@new.example").await;
    ask(&ann, "second@new.example").await;
    let second = token_for(&app, &acme, "second@new.example").await;
    for wrong in [first.as_str(), "x", "", &second[1..], &format!("{second}A"), &"A".repeat(43)] {
        let sentence = if wrong.is_empty() { "This field may not be blank." } else { "Invalid value." };
        assert_invalid(&prove(&app, &acme, wrong).await, "token", sentence);
    }
    assert_invalid(&prove(&app, &other, &second).await, "token", "Invalid value.");
    app.clock.advance(Duration::from_hours(24));
    assert_invalid(&prove(&app, &acme, &second).await, "token", "Invalid value.");
    let ann = acme.sign_in(&app).await;
    assert_eq!(email_of(&ann).await.0, "owner@acme.example");

    ask(&ann, "third@new.example").await;
    let third = token_for(&app, &acme, "third@new.example").await;
    app.clock.advance(Duration::from_secs(24 * 60 * 60 - 1));
    let answers = join_all((0..4).map(|_| prove(&app, &acme, &third))).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400, 400]);
    assert_eq!(app.mails().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_changed_by_whoever_has_the_password_only() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let body = json!({"email": "a@new.example", "password": "not it at all"});
    let wrong = acme.owner.request("POST", EMAIL).json(&body).send().await;
    assert_invalid(&wrong, "password", "Invalid password.");
    let wrong = acme.owner.request("POST", EMAIL).json(&json!({"email": "nonsense"})).send().await;
    assert_eq!(
        [&wrong.json()["email"], &wrong.json()["password"]],
        [&json!(["Enter a valid email address."]), &json!(["This field is required."])]
    );
    assert_eq!(app.mails().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_one_user_whoever_proves_it_first() {
    const TAKEN: &str = "A user is already registered with this e-mail address.";
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let bob = acme.add_user(&app, Person { email: "bob@acme.example", ..Person::named("bob") }).await;
    assert_invalid(&ask(&ann, "BOB@acme.example").await, "email", TAKEN);
    assert_eq!(app.mails().await, []);
    // One's own in other capitals is nobody else's.
    assert_eq!(ask(&bob, "Bob@acme.example").await.status, 200);
    app.mails().await;

    ask(&ann, "both@acme.example").await;
    let of_ann = token_for(&app, &acme, "both@acme.example").await;
    ask(&bob, "both@acme.example").await;
    let of_bob = token_for(&app, &acme, "both@acme.example").await;
    assert_eq!(prove(&app, &acme, &of_bob).await.status, 200);
    assert_invalid(&prove(&app, &acme, &of_ann).await, "email", TAKEN);
    assert_eq!(email_of(&bob).await.0, "both@acme.example");
    assert_ne!(email_of(&ann).await.0, "both@acme.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_to_the_old_address_works_no_more() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let ann = &acme.owner;
    let insert = format!(
        r#"INSERT INTO "{}".tokens (hash, user_pk, purpose, created_at, expires_at)
           SELECT sha256(purpose::bytea), '{}', purpose, '2026-01-02Z', '2026-02-02Z'
           FROM unnest(ARRAY['reset_password', 'verify_email']) AS purpose"#,
        acme.schema(),
        ann.pk
    );
    app.superuser().await.execute(AssertSqlSafe(insert)).await.unwrap();
    ask(ann, "ann@new.example").await;
    let token = token_for(&app, &acme, "ann@new.example").await;
    acme.change(&app, ann, "is_active = false").await;
    assert_invalid(&prove(&app, &acme, &token).await, "token", "Invalid value.");
    acme.change(&app, ann, "is_active = true").await;
    assert_eq!(prove(&app, &acme, &token).await.status, 200);
    let left = format!(r#"SELECT count(*) FROM "{}".tokens"#, acme.schema());
    let left: i64 = app.superuser().await.fetch_one(AssertSqlSafe(left)).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_all_that_is_one_s_own_without_secrets() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let ann = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("ann") }).await;
    for (user, mark) in [(&ann, "mine"), (&acme.owner, "others")] {
        let schema = acme.schema();
        let sql = format!(
            r#"INSERT INTO "{schema}".devices VALUES ('{pk}', '192.0.2.1', '{mark}', '2026-01-01Z', '2026-01-02Z');
               INSERT INTO "{schema}".invitations VALUES (gen_random_uuid(), '{mark}@i.example', '{mark}@i.example',
                   'member', '{pk}', sha256('{mark}'), '2026-01-01Z', '2026-02-01Z')"#,
            pk = user.pk
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
    }
    ask(&ann, "ann@new.example").await;
    let change = acme.owner.request("PATCH", &format!("/api/users/{}/", ann.pk));
    change.json(&json!({"role": "member"})).expect(200).await;
    assert_eq!(ann.get("/api/notifications/").await["count"], 1);
    let answer = ann.request("GET", "/api/current_user/export/").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("etag"), "");
    let name = format!("attachment; filename=\"acme-{}.json\"", ann.pk);
    assert_eq!(answer.header("content-disposition"), name);
    let mut export = answer.json();
    let sessions = ann.get("/api/sessions/").await["results"].clone();
    let invitation = export["invitations"][0].as_object_mut().unwrap().remove("id");
    assert!(invitation.is_some());
    assert_eq!(
        export,
        json!({
            "exported_at": "2026-01-02T03:04:05.678901Z",
            "organization": {"id": acme.id, "slug": "acme", "name": "ACME"},
            "profile": ann.get(ME).await,
            "sessions": sessions,
            "devices": [{"network": "127.0.0.1", "user_agent": "", "first_used_at": "2026-01-02T03:04:05.678901Z",
                "last_used_at": "2026-01-02T03:04:05.678901Z"}, {"network": "192.0.2.1", "user_agent": "mine", "first_used_at": "2026-01-01T00:00:00Z",
                "last_used_at": "2026-01-02T00:00:00Z"}],
            "invitations": [{"email": "mine@i.example", "role": "member", "created_at": "2026-01-01T00:00:00Z",
                "expires_at": "2026-02-01T00:00:00Z"}],
            "links": [{"purpose": "change_email", "email": "ann@new.example",
                "created_at": "2026-01-02T03:04:05.678901Z", "expires_at": "2026-01-03T03:04:05.678901Z"}],
            "comments": [],
            "notifications": ann.get("/api/notifications/").await["results"],
            "notification_preferences": ann.get("/api/notifications/preferences/").await,
        })
    );
    for secret in ["hash", "argon2", "others", "owner@acme.example", ann.token.as_str()] {
        assert!(!answer.text.contains(secret), "{secret}");
    }
}

async fn leave(user: &User, password: &str) -> Answer {
    user.request("DELETE", ME).json(&json!({"password": password})).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_user_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let (before, found) = (rows(&app, &acme).await, indexed(&app).await);
    let person = Person { email: "ann@acme.example", ..Person::named("ann") };
    let ann = acme.add_user(&app, person).await;
    ask(&ann, "ann@new.example").await;
    prove(&app, &acme, &token_for(&app, &acme, "ann@new.example").await).await;
    ask(&ann, "ann@newer.example").await;
    app.mails().await;
    assert_eq!(indexed(&app).await, found + 1);
    assert_invalid(&leave(&ann, "not it at all").await, "password", "Invalid password.");
    let stale = ann.request("DELETE", ME).header("if-match", "\"x\"").json(&json!({"password": PASSWORD}));
    assert_eq!(stale.send().await.said(), (412, "precondition_failed".into()));
    assert_eq!(ann.me().await.status, 200);

    let left = leave(&ann, PASSWORD).await;
    assert_eq!((left.status, left.text.as_str()), (204, ""));
    assert_eq!(ann.me().await.said(), (401, "token_not_valid".into()));
    assert_eq!((rows(&app, &acme).await, indexed(&app).await), (before, found));
    assert!(!is_found(&app, "ann@new.example").await);
    acme.add_account(&app, Person { email: "ann@new.example", ..person }).await;
}

/// How many rows there are in the organization's tables.
async fn rows(app: &TestApp, organization: &Organization) -> Vec<i64> {
    let mut counts = Vec::new();
    let mut superuser = app.superuser().await;
    for table in ["users", "sessions", "tokens", "devices", "invitations", "sign_ups"] {
        let sql = format!(r#"SELECT count(*) FROM "{}".{table}"#, organization.schema());
        counts.push(superuser.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0));
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_owners_who_leave_at_once_one_stays() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let second = acme.add_user(&app, Person { role: Role::Owner, ..Person::named("second") }).await;
    let passive = acme.add_user(&app, Person { role: Role::Owner, ..Person::named("passive") }).await;
    acme.change(&app, &passive, "is_active = false").await;
    let answers = join_all([leave(&acme.owner, PASSWORD), leave(&second, PASSWORD)]).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409], "{answers:?}");
    let refused = answers.iter().find(|answer| answer.status == 409).unwrap();
    assert_eq!(refused.said(), (409, "last_owner".into()));
    let stays = if answers[0].status == 409 { &acme.owner } else { &second };
    assert_eq!(stays.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_have_to_show_and_usernames_to_be_of_one_script() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let body = json!({"username": "аcme-owner", "first_name": "Ann\u{202e}", "last_name": "\u{200b}"});
    let answer = acme.owner.request("PATCH", ME).json(&body).send().await;
    assert_eq!(
        answer.problem(),
        json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
            "detail": "Invalid input.",
            "username": ["Enter a valid username. This value may not mix letters of different scripts."],
            "first_name": ["Characters that change the direction of text are not allowed."],
            "last_name": ["This field may not consist of invisible characters."],
        })
    );
    let answer = acme.owner.request("PATCH", "/api/tenant/").json(&json!({"name": "Acme\nLtd"})).send().await;
    assert_invalid(&answer, "name", "Control characters are not allowed.");
    acme.owner.request("PATCH", ME).json(&json!({"username": "анна", "first_name": ""})).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_not_tried_out_nor_strangers_mailed_without_end() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    for n in 0..5 {
        assert_eq!(ask(&acme.owner, &format!("{n}@stranger.example")).await.status, 200);
    }
    let sixth = ask(&acme.owner, "6@stranger.example").await;
    assert_eq!(sixth.said(), (429, "throttled".into()));
    assert_eq!(app.mails().await.len(), 5);
    for _ in 0..5 {
        assert_eq!(leave(&acme.owner, "not it at all").await.status, 400);
    }
    let right = leave(&acme.owner, PASSWORD).await;
    assert_eq!(right.said(), (429, "throttled".into()));
    assert!(right.header("retry-after").parse::<u32>().is_ok());
}

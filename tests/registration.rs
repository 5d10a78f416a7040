//! People sign up by themselves, and prove that an address is theirs.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::mail::Mail;

use crate::support::{Answer, Organization, PASSWORD, Person, Request, TestApp, link, mail_to, token_to};

const PATH: &str = "/api/sign_up/";
const VERIFY: &str = "/api/sign_up/verify_email/";
const RESEND: &str = "/api/sign_up/resend_email/";

fn post(app: &TestApp, organization: &Organization, path: &str, body: &Value) -> Request {
    app.request("POST", path).host(&organization.host(app)).json(body)
}

fn ann(email: &str) -> Value {
    json!({"username": "ann", "email": email, "password": PASSWORD, "first_name": "Ann"})
}

fn proof(token: &str) -> Value {
    json!({"token": token, "password": PASSWORD})
}

/// An organization that anybody may join, whose owner's mail has gone out.
async fn open(app: &TestApp, slug: &str) -> Organization {
    let organization = app.sign_up(slug).await;
    organization
        .owner
        .request("PATCH", "/api/tenant/")
        .json(&json!({"sign_up_policy": "open"}))
        .expect(200)
        .await;
    app.mails().await;
    organization
}

async fn sign_up(app: &TestApp, organization: &Organization, body: &Value) {
    let answer = post(app, organization, PATH, body).send().await;
    assert_eq!((answer.status, answer.json()), (201, json!({"detail": "Verification e-mail sent."})));
}

#[track_caller]
fn assert_refused(answer: &Answer, what: &str) {
    let expected = json!({
        "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid", "detail": "Invalid input.",
        "token": ["Invalid value."],
    });
    assert_eq!((answer.status, answer.problem()), (400, expected), "{what}");
}

async fn count(app: &TestApp, sql: &str) -> i64 {
    app.superuser().await.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap().get(0)
}

async fn waiting(app: &TestApp, organization: &Organization) -> i64 {
    count(app, &format!(r#"SELECT count(*) FROM "{}".sign_ups"#, organization.schema())).await
}

async fn indexed(app: &TestApp) -> i64 {
    count(app, "SELECT count(*) FROM tenantry.email_index").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_up_is_a_user_once_he_has_proven_his_address() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    let before = indexed(&app).await;
    sign_up(&app, &acme, &ann("Ann@Example.com")).await;
    let login = json!({"username": "ann", "password": PASSWORD});
    assert_eq!(post(&app, &acme, "/api/login/", &login).send().await.status, 400);
    assert_eq!(acme.owner.get("/api/users/").await["count"], 1);

    let mails = app.mails().await;
    let letter = mail_to(&mails, "Ann@Example.com");
    assert_eq!(letter.to.name, "Ann");
    assert_eq!(letter.expires_at, Some(app.clock.now() + chrono::TimeDelta::hours(24)));
    let site = format!("http://acme.localhost:{}/account/verify?token=", app.address.port());
    assert!(link(letter).starts_with(&site), "{}", link(letter));
    assert!(matches!(&letter.mail, Mail::VerifyEmail { organization, .. } if organization == "ACME"));

    let token = token_to(&mails, "Ann@Example.com");
    let answer = post(&app, &acme, VERIFY, &proof(&token)).send().await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{}", answer.text);
    let answer = answer.json();
    let user = json!({
        "pk": answer["user"]["pk"], "username": "ann", "email": "Ann@Example.com", "first_name": "Ann",
        "last_name": "",
    });
    assert_eq!(answer["user"], user);
    let me = app.request("GET", "/api/current_user/").bearer(answer["token"].as_str().unwrap());
    let me = me.expect(200).await;
    assert_eq!((&me["role"], &me["email_verified"]), (&json!("member"), &json!(true)));
    post(&app, &acme, "/api/login/", &login).expect(200).await;
    assert_eq!((indexed(&app).await, waiting(&app, &acme).await), (before + 1, 0));
    assert_refused(&post(&app, &acme, VERIFY, &proof(&token)).send().await, "used");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_organization_decides_who_may_sign_up() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    app.mails().await;
    let set = async |body: Value| acme.owner.request("PATCH", "/api/tenant/").json(&body).expect(200).await;
    let ask = async |email: &str| post(&app, &acme, PATH, &ann(email)).send().await;

    let closed = ask("ann@example.com").await;
    let expected = json!({
        "type": "about:blank", "title": "Forbidden", "status": 403, "code": "sign_up_closed",
        "detail": "You need an invitation to join this organization.",
    });
    assert_eq!(closed.problem(), expected);
    // Before anything is said about the body.
    for body in ["", "{", "{}", "[1]"] {
        let answer = app.request("POST", PATH).host(&acme.host(&app)).body("text/plain", body).send().await;
        assert_eq!(answer.problem(), expected, "{body}");
    }

    set(json!({"allowed_email_domains": ["example.com", "bücher.example"]})).await;
    assert_eq!(ask("ann@other.example").await.problem(), expected);
    assert_eq!(ask("ann@sub.example.com").await.problem(), expected);
    assert_eq!(ask("ann@").await.said(), (400, "invalid".into()));
    for email in ["ann@EXAMPLE.com", "ann@Bücher.example", "ann@xn--bcher-kva.example"] {
        assert_eq!(ask(email).await.status, 201, "{email}");
    }
    set(json!({"allowed_email_domains": [], "sign_up_policy": "open"})).await;
    assert_eq!(ask("ann@other.example").await.status, 201);
    // The two spellings of one address are one.
    assert_eq!(app.mails().await.len(), 3);
    assert_eq!(ask("bob@other.example").await.status, 201);
    set(json!({"sign_up_policy": "invite_only"})).await;
    assert_eq!(ask("ann@other.example").await.problem(), expected);
    assert_eq!(app.mails().await, [], "what it leads to was closed before it went out");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_has_an_account_is_answered_like_any_other() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    let free = post(&app, &acme, PATH, &ann("free@example.com")).send().await;
    // The same is done as well: a row and a task.
    assert_eq!(waiting(&app, &acme).await, 1);
    let jobs = "SELECT count(*) FROM tenantry.jobs WHERE status = 'queued'";
    assert_eq!(count(&app, jobs).await, 1);
    let taken = post(&app, &acme, PATH, &ann("OWNER@acme.example")).send().await;
    assert_eq!((taken.status, &taken.text), (free.status, &free.text));
    let names = |answer: &Answer| answer.headers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&taken), names(&free));
    assert_eq!((waiting(&app, &acme).await, count(&app, jobs).await), (2, 2));

    let mails = app.mails().await;
    assert_eq!(mails.len(), 2);
    let expected = Mail::AccountExists {
        organization: "ACME".into(),
        url: format!("http://acme.localhost:{}", app.address.port()),
    };
    // To the address as it is stored.
    assert_eq!(mail_to(&mails, "owner@acme.example").mail, expected);
    assert_eq!(waiting(&app, &acme).await, 1, "what has an account waits for nothing");
    assert_eq!(acme.owner.get("/api/users/").await["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_username_that_is_taken_is_told_before_and_after() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    sign_up(&app, &acme, &ann("ann@example.com")).await;
    let token = token_to(&app.mails().await, "ann@example.com");
    acme.add_account(&app, Person::named("Ann")).await;

    let expected = json!(["A user with that username already exists."]);
    let answer = post(&app, &acme, PATH, &ann("other@example.com")).send().await;
    assert_eq!((answer.status, &answer.problem()["username"]), (400, &expected));
    let answer = post(&app, &acme, VERIFY, &proof(&token)).send().await;
    assert_eq!((answer.status, &answer.problem()["username"]), (400, &expected));
    // The link works as before, under another name.
    let body = json!({"token": token, "password": PASSWORD, "username": "annie"});
    let answer = post(&app, &acme, VERIFY, &body).expect(200).await;
    assert_eq!(answer["user"]["username"], "annie");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_have_his_password_confirmed() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    let stranger =
        json!({"username": "eve", "email": "ann@example.com", "password": "what the stranger chose"});
    sign_up(&app, &acme, &stranger).await;
    let first = token_to(&app.mails().await, "ann@example.com");
    // Who reads the mail does not know the password, and who knows that does not read the mail.
    assert_refused(&post(&app, &acme, VERIFY, &proof(&first)).send().await, "not his password");
    sign_up(&app, &acme, &ann("ANN@example.com")).await;
    let second = token_to(&app.mails().await, "ANN@example.com");
    let stranger = json!({"token": first, "password": "what the stranger chose"});
    assert_refused(&post(&app, &acme, VERIFY, &stranger).send().await, "replaced");
    let stranger = json!({"token": second, "password": "what the stranger chose"});
    assert_refused(&post(&app, &acme, VERIFY, &stranger).send().await, "replaced password");
    let answer = post(&app, &acme, VERIFY, &proof(&second)).expect(200).await;
    assert_eq!(answer["user"]["username"], "ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_does_not_work_says_no_more_than_that() {
    let app = TestApp::start().await;
    let (acme, beta) = (open(&app, "acme").await, open(&app, "beta").await);
    sign_up(&app, &acme, &ann("ann@example.com")).await;
    let token = token_to(&app.mails().await, "ann@example.com");
    let unknown = "A".repeat(token.len());
    for bad in ["x", &unknown, &format!("{token}A"), &"é".repeat(40), &token.to_uppercase()] {
        assert_refused(&post(&app, &acme, VERIFY, &proof(bad)).send().await, bad);
    }
    assert_refused(&post(&app, &beta, VERIFY, &proof(&token)).send().await, "another organization's");
    let wrong = json!({"token": token, "password": "correct horse"});
    assert_refused(&post(&app, &acme, VERIFY, &wrong).send().await, "wrong password");
    app.clock.advance(Duration::from_hours(24));
    assert_refused(&post(&app, &acme, VERIFY, &proof(&token)).send().await, "expired");
    // Neither the expired one nor its address is worth another mail.
    post(&app, &acme, RESEND, &json!({"email": "ann@example.com"})).expect(200).await;
    assert_eq!(app.mails().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_follow_a_link_at_once_one_is_let_in() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = open(&app, "acme").await;
    sign_up(&app, &acme, &ann("ann@example.com")).await;
    let token = token_to(&app.mails().await, "ann@example.com");
    let owners = proof_of_owner(&app).await;
    for token in [token, owners] {
        let body = proof(&token);
        let [one, two] = [&app, &other].map(|app| post(app, &acme, VERIFY, &body).send());
        let (one, two) = join(one, two).await;
        let (won, lost) = if one.status == 200 { (one, two) } else { (two, one) };
        assert_eq!(won.status, 200, "{}", won.text);
        assert_refused(&lost, "the second");
    }
}

/// Another link for the owner of acme.
async fn proof_of_owner(app: &TestApp) -> String {
    let body = json!({"email": "owner@acme.example"});
    app.request("POST", RESEND).header("x-tenant", "acme").json(&body).expect(200).await;
    token_to(&app.mails().await, "owner@acme.example")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_link_can_be_asked_for_whoever_one_is() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let owners = token_to(&app.mails().await, "owner@acme.example");
    acme.owner.request("PATCH", "/api/tenant/").json(&json!({"sign_up_policy": "open"})).expect(200).await;
    sign_up(&app, &acme, &ann("Ann@example.com")).await;
    let anns = token_to(&app.mails().await, "Ann@example.com");
    let bob = acme.add_user(&app, Person { email: "bob@example.com", ..Person::named("bob") }).await;
    acme.change(&app, &bob, "email_verified_at = now()").await;
    let eve = acme.add_user(&app, Person { email: "eve@example.com", ..Person::named("eve") }).await;
    acme.change(&app, &eve, "is_active = false").await;

    let mut answers = Vec::new();
    for email in
        ["OWNER@acme.example", "ann@example.com", "bob@example.com", "eve@example.com", "no@example.com"]
    {
        answers.push(post(&app, &acme, RESEND, &json!({"email": email})).send().await);
    }
    for answer in &answers {
        assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"detail":"ok"}"#));
    }
    let mails = app.mails().await;
    assert_eq!(mails.len(), 2, "{mails:#?}");
    for (email, old) in [("owner@acme.example", owners), ("Ann@example.com", anns)] {
        assert_refused(&post(&app, &acme, VERIFY, &proof(&old)).send().await, email);
        let new = token_to(&mails, email);
        post(&app, &acme, VERIFY, &proof(&new)).expect(200).await;
    }
    // Both are proven now.
    for email in ["owner@acme.example", "ann@example.com"] {
        post(&app, &acme, RESEND, &json!({"email": email})).expect(200).await;
    }
    assert_eq!(app.mails().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_new_organization_is_asked_to_prove_his_address() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    // It is not there if the organization is not.
    let body = json!({
        "organization": "Acme", "slug": "acme", "username": "ada", "email": "ada@acme.example", "password": PASSWORD,
    });
    app.request("POST", "/api/sign_up/tenant/").json(&body).expect(409).await;
    let mails = app.mails().await;
    assert_eq!(mails.len(), 1);
    let letter = mail_to(&mails, "owner@acme.example");
    assert!(matches!(&letter.mail, Mail::VerifyEmail { organization, .. } if organization == "ACME"));
    let token = token_to(&mails, "owner@acme.example");
    assert_eq!(acme.owner.me().await.json()["email_verified"], false);
    let wrong = json!({"token": token, "password": "correct horse"});
    assert_refused(&post(&app, &acme, VERIFY, &wrong).send().await, "wrong password");
    let answer = post(&app, &acme, VERIFY, &proof(&token)).expect(200).await;
    assert_eq!(answer["user"]["pk"], acme.owner.pk.as_str());
    assert_eq!(acme.owner.me().await.json()["email_verified"], true);
    assert_refused(&post(&app, &acme, VERIFY, &proof(&token)).send().await, "used");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_sign_in_is_not_signed_in_by_a_link() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let token = token_to(&app.mails().await, "owner@acme.example");
    acme.change(&app, &acme.owner, "is_active = false").await;
    assert_refused(&post(&app, &acme, VERIFY, &proof(&token)).send().await, "deactivated");
    acme.change(&app, &acme.owner, "is_active = true").await;
    post(&app, &acme, VERIFY, &proof(&token)).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_of_several_sign_ups_is_mailed_and_only_once() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    sign_up(&app, &acme, &json!({"username": "eve", "email": "ann@example.com", "password": PASSWORD})).await;
    sign_up(&app, &acme, &ann("ann@example.com")).await;
    let mails = app.mails().await;
    assert_eq!(mails.len(), 1, "{mails:#?}");
    // A worker that died after its commit leaves a job that is done again.
    let again = "UPDATE tenantry.jobs SET status = 'queued', finished_at = NULL WHERE kind = 'address'";
    let mut superuser = app.superuser().await;
    superuser.execute("ALTER TABLE tenantry.jobs ADD COLUMN kept jsonb").await.unwrap();
    sign_up(&app, &acme, &json!({"username": "bob", "email": "bob@example.com", "password": PASSWORD})).await;
    superuser.execute("UPDATE tenantry.jobs SET kept = payload WHERE status = 'queued'").await.unwrap();
    let first = token_to(&app.mails().await, "bob@example.com");
    superuser.execute("UPDATE tenantry.jobs SET payload = kept WHERE kept IS NOT NULL").await.unwrap();
    superuser.execute(AssertSqlSafe(format!("{again} AND kept IS NOT NULL"))).await.unwrap();
    assert_eq!(app.mails().await, []);
    post(&app, &acme, VERIFY, &proof(&first)).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_no_way_to_guess_a_password() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let token = token_to(&app.mails().await, "owner@acme.example");
    let verify = |token: &str, password: &str| {
        let body = json!({"token": token, "password": password});
        app.request("POST", "/api/sign_up/verify_email/").host(&acme.host(&app)).json(&body).send()
    };
    let runs = app.app.hasher.runs();
    for _ in 0..5 {
        assert_eq!(verify(&token, "not the password").await.said(), (400, "invalid".into()));
    }
    assert_eq!(verify(&token, PASSWORD).await.said(), (429, "throttled".into()));
    assert_eq!(app.app.hasher.runs() - runs, 5);
    for _ in 0..5 {
        assert_eq!(verify(&"A".repeat(43), PASSWORD).await.said(), (400, "invalid".into()));
    }
    assert_eq!(verify(&"A".repeat(43), PASSWORD).await.said(), (429, "throttled".into()));
    assert_eq!(app.app.hasher.runs() - runs, 5, "who has no link is not worth the work");
    app.clock.advance(Duration::from_mins(2));
    assert_eq!(verify(&token, PASSWORD).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_another_from_signing_up() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    let body = |username: &str, password: &str| json!({"username": username, "email": "ann@people.example", "password": password});
    for _ in 0..4 {
        sign_up(&app, &acme, &body("eve", "seven quiet lighthouses")).await;
        assert_eq!(app.mails().await.len(), 1);
    }
    sign_up(&app, &acme, &body("eve", "seven quiet lighthouses")).await;
    let fifth = token_to(&app.mails().await, "ann@people.example");
    // Beyond five within an hour none goes out, and the link of the fifth goes on working until another one does.
    for n in 0..3 {
        sign_up(&app, &acme, &body("eve", &format!("{n} seven quiet lighthouses"))).await;
        app.clock.advance(Duration::from_mins(10));
        assert_eq!(app.mails().await, []);
    }
    sign_up(&app, &acme, &body("ann", PASSWORD)).await;
    assert_eq!(app.mails().await, []);
    let wrong = json!({"token": fifth, "password": "not the password"});
    assert_refused(&post(&app, &acme, VERIFY, &wrong).send().await, "the password of nobody");
    assert_eq!(waiting(&app, &acme).await, 2);

    app.clock.advance(Duration::from_mins(30) - Duration::from_secs(1));
    assert_eq!(app.mails().await, []);
    app.clock.advance(Duration::from_secs(1));
    let mails = app.mails().await;
    let token = token_to(&mails, "ann@people.example");
    assert_eq!(mail_to(&mails, "ann@people.example").to.name, "ann");
    let day = chrono::TimeDelta::hours(24);
    assert_eq!(mails[0].expires_at, Some(app.clock.now() + day), "from when it is mailed");
    let body = json!({"token": fifth, "password": "seven quiet lighthouses"});
    assert_refused(&post(&app, &acme, VERIFY, &body).send().await, "replaced by now");
    let answer = post(&app, &acme, VERIFY, &proof(&token)).expect(200).await;
    assert_eq!(answer["user"]["username"], "ann");
    assert_eq!(waiting(&app, &acme).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_mail_is_put_off_the_link_before_it_works() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    for _ in 0..5 {
        sign_up(&app, &acme, &ann("ann@example.com")).await;
        assert_eq!(app.mails().await.len(), 1);
    }
    post(&app, &acme, RESEND, &json!({"email": "ann@example.com"})).expect(200).await;
    assert_eq!(app.mails().await, []);
    app.clock.advance(Duration::from_hours(1));
    assert_eq!(app.mails().await.len(), 1);
    let mut links = Vec::new();
    for _ in 0..4 {
        post(&app, &acme, RESEND, &json!({"email": "ann@example.com"})).expect(200).await;
        links.push(token_to(&app.mails().await, "ann@example.com"));
    }
    let stranger = json!({"username": "eve", "email": "ann@example.com", "password": PASSWORD});
    sign_up(&app, &acme, &stranger).await;
    assert_eq!(app.mails().await, []);
    assert_refused(&post(&app, &acme, VERIFY, &proof(&links[2])).send().await, "a newer link was mailed");
    let answer = post(&app, &acme, VERIFY, &proof(&links[3])).expect(200).await;
    assert_eq!(answer["user"]["username"], "ann");
    // What was put off has nothing to wait for any more.
    assert_eq!(waiting(&app, &acme).await, 0);
    app.clock.advance(Duration::from_hours(1));
    assert_eq!(app.mails().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_where_nobody_waits_uses_nothing_up() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    for _ in 0..6 {
        post(&app, &acme, RESEND, &json!({"email": "ann@example.com"})).expect(200).await;
    }
    assert_eq!(app.mails().await, []);
    sign_up(&app, &acme, &ann("ann@example.com")).await;
    let first = token_to(&app.mails().await, "ann@example.com");
    // Four more go out; a hundred more that were asked for are one, an hour later.
    for _ in 0..13 {
        post(&app, &acme, RESEND, &json!({"email": "ann@example.com"})).expect(200).await;
    }
    assert_eq!(app.mails().await.len(), 4);
    assert_refused(&post(&app, &acme, VERIFY, &proof(&first)).send().await, "an older link");
    app.clock.advance(Duration::from_hours(1));
    let token = token_to(&app.mails().await, "ann@example.com");
    app.clock.advance(Duration::from_hours(1));
    assert_eq!(app.mails().await, []);
    post(&app, &acme, VERIFY, &proof(&token)).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_when_sign_up_is_closed_waits_in_vain() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    let body = json!({"username": "ann", "email": "ann@people.example", "password": PASSWORD});
    sign_up(&app, &acme, &body).await;
    let proof = json!({"token": token_to(&app.mails().await, "ann@people.example"), "password": PASSWORD});
    let policy = |policy: &str| {
        acme.owner.request("PATCH", "/api/tenant/").json(&json!({"sign_up_policy": policy})).expect(200)
    };
    policy("invite_only").await;
    let row =
        format!(r#"SELECT extract(epoch FROM max(expires_at))::bigint FROM "{}".sign_ups"#, acme.schema());
    let until = count(&app, &row).await;
    app.clock.advance(Duration::from_mins(5));
    post(&app, &acme, RESEND, &json!({"email": "ann@people.example"})).expect(200).await;
    assert_eq!((app.mails().await, count(&app, &row).await), (vec![], until));
    let verify =
        || app.request("POST", "/api/sign_up/verify_email/").host(&acme.host(&app)).json(&proof).send();
    assert_eq!(verify().await.said(), (403, "sign_up_closed".into()));
    assert_eq!(acme.owner.get("/api/users/").await["count"], 1);
    policy("open").await;
    assert_eq!(verify().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_are_right_at_once_are_not_taken_for_guessers() {
    let app = TestApp::start().await;
    let acme = open(&app, "acme").await;
    for n in 0..15 {
        let (username, email) = (format!("ann{n}"), format!("ann{n}@example.com"));
        sign_up(&app, &acme, &json!({"username": username, "email": email, "password": PASSWORD})).await;
    }
    let tokens: Vec<String> = app
        .mails()
        .await
        .iter()
        .map(|letter| link(letter).split_once("?token=").unwrap().1.to_owned())
        .collect();
    assert_eq!(tokens.len(), 15);
    for answer in join_all(tokens.iter().map(|token| post(&app, &acme, VERIFY, &proof(token)).send())).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

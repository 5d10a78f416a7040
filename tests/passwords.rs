//! Passwords that are chosen, changed, forgotten and reset.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::mail::{Letter, Mail};

use crate::support::{Answer, Options, Organization, PASSWORD, Person, Request, TestApp, User};

const ANOTHER: &str = "purple elephants dance";
const COMMON: &str = "This password is too common.";
const SIMILAR: &str = "The password is too similar to your name, your address or your organization.";

fn post(app: &TestApp, organization: &Organization, path: &str, body: &Value) -> Request {
    app.request("POST", path).host(&organization.host(app)).json(body)
}

async fn can_log_in(app: &TestApp, organization: &Organization, username: &str, password: &str) -> bool {
    let body = json!({"username": username, "password": password});
    post(app, organization, "/api/login/", &body).send().await.status == 200
}

fn change(user: &User, old: &str, new: &str) -> Request {
    let body = json!({"old_password": old, "new_password": new});
    user.request("POST", "/api/password/change/").json(&body)
}

fn forget(app: &TestApp, organization: &Organization, email: &str) -> Request {
    post(app, organization, "/api/password/forget/", &json!({"email": email}))
}

fn reset(app: &TestApp, organization: &Organization, token: &str, password: &str) -> Request {
    let body = json!({"token": token, "new_password": password});
    post(app, organization, "/api/password/reset/", &body)
}

/// The token of the link in a mail.
fn token_in(letter: &Letter) -> String {
    let Mail::ResetPassword { link, .. } = &letter.mail else { panic!("{letter:?}") };
    link.rsplit_once("?token=").unwrap().1.to_owned()
}

async fn link_for(app: &TestApp, organization: &Organization, email: &str) -> String {
    forget(app, organization, email).expect(200).await;
    token_in(app.mails().await.last().unwrap())
}

fn invalid_token(answer: &Answer) {
    assert_eq!(answer.said(), (400, "invalid".into()));
    assert_eq!(answer.problem()["token"], json!(["Invalid value."]));
}

fn is_told(app: &TestApp, letters: &[Letter], email: &str) {
    let [letter] = letters else { panic!("{letters:?}") };
    assert_eq!(letter.to.email, email);
    assert_eq!(
        letter.mail,
        Mail::PasswordChanged {
            organization: "ACME".into(),
            at: app.clock.now(),
            ip: "127.0.0.1".into(),
            url: format!("http://acme.localhost:{}", app.address.port()),
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_refuses_what_is_guessed_first() {
    let app = TestApp::start().await;
    for (password, sentence) in [
        ("password", COMMON),
        ("Welcome1!", COMMON),
        ("11111111", COMMON),
        ("ada-lovelace-1815", SIMILAR),
        ("Analytical Engines 1!", SIMILAR),
        ("engines.example", SIMILAR),
    ] {
        let body = json!({
            "organization": "Analytical Engines", "username": "ada", "email": "countess@engines.example",
            "password": password, "first_name": "Ada", "last_name": "Lovelace",
        });
        let answer = app.request("POST", "/api/sign_up/tenant/").json(&body).expect(400).await;
        assert_eq!(answer["password"], json!([sentence]), "{password}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_every_other_session() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let (here, there) = (acme.sign_in(&app).await, acme.sign_in(&app).await);
    let answer = change(&here, PASSWORD, ANOTHER).expect(200).await;
    assert_eq!(answer, json!({"detail": "New password has been saved."}));
    assert_eq!(here.me().await.status, 200);
    assert_eq!((there.me().await.status, acme.owner.me().await.status), (401, 401));
    there.refresh().expect(401).await;
    is_told(&app, &app.mails().await, "owner@acme.example");
    assert!(!can_log_in(&app, &acme, "acme-owner", PASSWORD).await);
    assert!(can_log_in(&app, &acme, "acme-owner", ANOTHER).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_asks_for_the_present_password_and_a_good_new_one() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let wrong = change(&acme.owner, "not the password", ANOTHER).expect(400).await;
    assert_eq!(
        wrong["old_password"],
        json!(["Your old password was entered incorrectly. Please enter it again."])
    );
    for (new, sentence) in [
        ("short", "This password is too short. It must contain at least 8 characters."),
        ("sunshine1", COMMON),
        ("acme-owner-acme", SIMILAR),
    ] {
        let refused = change(&acme.owner, PASSWORD, new).expect(400).await;
        assert_eq!(refused["new_password"], json!([sentence]), "{new}");
    }
    change(&acme.owner, PASSWORD, "   blanks count   ").expect(200).await;
    assert!(!can_log_in(&app, &acme, "acme-owner", "blanks count").await);
    assert!(can_log_in(&app, &acme, "acme-owner", "   blanks count   ").await);
    app.request("POST", "/api/password/change/").host(&acme.host(&app)).json(&json!({})).expect(401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_finds_a_session_open_does_not_find_out_the_password() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    for _ in 0..5 {
        change(&acme.owner, "not the password", ANOTHER).expect(400).await;
    }
    let refused = change(&acme.owner, PASSWORD, ANOTHER).send().await;
    assert_eq!((refused.said(), refused.header("retry-after")), ((429, "throttled".into()), "15"));
    let nothing = acme.owner.request("POST", "/api/password/change/").json(&json!({}));
    assert_eq!(nothing.send().await.said(), (429, "throttled".into()), "told before the body is looked at");
    app.clock.advance(Duration::from_secs(15));
    change(&acme.owner, PASSWORD, ANOTHER).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_at_once_end_with_one_of_the_two() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let other = acme.sign_in(&app).await;
    let (a, b) = tokio::join!(
        change(&acme.owner, PASSWORD, ANOTHER).send(),
        change(&other, PASSWORD, "green giraffes gallop").send()
    );
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    // The second finds another password, or its session ended.
    assert!(statuses == [200, 400] || statuses == [200, 401], "{statuses:?}");
    assert_eq!(app.mails().await.len(), 1);
    assert_eq!(can_log_in(&app, &acme, "acme-owner", ANOTHER).await, a.status == 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_a_password_that_is_being_changed_leaves_no_session() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let body = json!({"username": "acme-owner", "password": PASSWORD});
    let logins = join_all((0..4).map(|_| post(&app, &acme, "/api/login/", &body).send()));
    let (changed, logins) = tokio::join!(change(&acme.owner, PASSWORD, ANOTHER).send(), logins);
    assert_eq!(changed.status, 200, "{}", changed.text);
    for login in logins.iter().filter(|login| login.status == 200) {
        let token = login.json()["token"].as_str().unwrap().to_owned();
        let me = app.request("GET", "/api/current_user/").bearer(&token).send().await;
        assert_eq!(me.status, 401, "{}", me.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_reset_by_the_link_in_a_mail() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let answer = forget(&app, &acme, " OWNER@Acme.example ").expect(200).await;
    assert_eq!(answer, json!({"detail": "Password reset e-mail has been sent."}));
    let mails = app.mails().await;
    let [letter] = mails.as_slice() else { panic!("{mails:?}") };
    assert_eq!(letter.to.email, "owner@acme.example");
    assert_eq!(letter.expires_at, Some(app.clock.now() + chrono::TimeDelta::hours(1)));
    let token = token_in(letter);
    assert_eq!(
        letter.mail,
        Mail::ResetPassword {
            organization: "ACME".into(),
            link: format!("http://acme.localhost:{}/account/reset?token={token}", app.address.port()),
        }
    );

    let answer = reset(&app, &acme, &token, ANOTHER).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json(), json!({"detail": "Password has been reset with the new password."}));
    assert_eq!(acme.owner.me().await.status, 401);
    is_told(&app, &app.mails().await, "owner@acme.example");
    assert!(!can_log_in(&app, &acme, "acme-owner", PASSWORD).await);
    let me = json!({"username": "acme-owner", "password": ANOTHER});
    let login = post(&app, &acme, "/api/login/", &me).expect(200).await;
    let me = app.request("GET", "/api/current_user/").bearer(login["token"].as_str().unwrap());
    assert_eq!(me.expect(200).await["email_verified"], json!(true), "who read the mail has the address");

    invalid_token(&reset(&app, &acme, &token, "green giraffes gallop").send().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_from_it_who_has_an_account() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let gone = Person { email: "gone@acme.example", ..Person::named("gone") };
    let gone = acme.add_user(&app, gone).await;
    acme.change(&app, &gone, "is_active = false").await;
    let mut answers = Vec::new();
    for email in ["owner@acme.example", "gone@acme.example", "nobody@acme.example"] {
        let answer = forget(&app, &acme, email).send().await;
        answers.push((answer.status, answer.text));
    }
    assert_eq!(answers[0].0, 200);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // All that was done is the same: one job, as long as the address makes it.
    let sql =
        "SELECT count(*), count(DISTINCT kind) FROM tenantry.jobs WHERE status = 'queued' AND attempts = 0";
    let row = app.superuser().await.fetch_one(sql).await.unwrap();
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (3, 1));
    let mails = app.mails().await;
    assert_eq!(mails.iter().map(|mail| mail.to.email.as_str()).collect::<Vec<_>>(), ["owner@acme.example"]);
    let nonsense = forget(&app, &acme, "nonsense").expect(400).await;
    assert_eq!(nonsense["email"], json!(["Enter a valid email address."]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_refused_leaves_the_link_as_it_was() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let token = link_for(&app, &acme, "owner@acme.example").await;
    for (password, sentence) in [
        ("short", "This password is too short. It must contain at least 8 characters."),
        ("qwertyuiop", COMMON),
        ("acme-owner-1", SIMILAR),
    ] {
        let refused = reset(&app, &acme, &token, password).expect(400).await;
        assert_eq!(refused["new_password"], json!([sentence]), "{password}");
    }
    assert_eq!(acme.owner.me().await.status, 200);
    reset(&app, &acme, &token, ANOTHER).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_works_for_an_hour_until_a_newer_one_and_for_its_user_only() {
    let app = TestApp::start().await;
    let (acme, globex) = (app.sign_up_quietly("acme").await, app.sign_up_quietly("globex").await);
    let first = link_for(&app, &acme, "owner@acme.example").await;
    let second = link_for(&app, &acme, "owner@acme.example").await;
    invalid_token(&reset(&app, &acme, &first, ANOTHER).send().await);
    invalid_token(&reset(&app, &globex, &second, ANOTHER).send().await);
    for nonsense in ["x", "not a token", &"A".repeat(43), &"x".repeat(4096)] {
        invalid_token(&reset(&app, &acme, nonsense, ANOTHER).send().await);
    }
    app.clock.advance(Duration::from_hours(1));
    invalid_token(&reset(&app, &acme, &second, ANOTHER).send().await);
    let third = link_for(&app, &acme, "owner@acme.example").await;
    app.clock.advance(Duration::from_secs(3599));
    reset(&app, &acme, &third, ANOTHER).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_with_a_change_of_the_password_and_with_the_account() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let token = link_for(&app, &acme, "owner@acme.example").await;
    change(&acme.owner, PASSWORD, ANOTHER).expect(200).await;
    invalid_token(&reset(&app, &acme, &token, "green giraffes gallop").send().await);

    let ann = Person { email: "ann@acme.example", ..Person::named("ann") };
    let ann = acme.add_user(&app, ann).await;
    let token = link_for(&app, &acme, "ann@acme.example").await;
    acme.change(&app, &ann, "is_active = false").await;
    invalid_token(&reset(&app, &acme, &token, ANOTHER).send().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_uses_of_a_link_at_once_one_wins() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let other = app.beside().await;
    let token = link_for(&app, &acme, "owner@acme.example").await;
    let (a, b) = tokio::join!(
        reset(&app, &acme, &token, ANOTHER).send(),
        reset(&other, &acme, &token, "green giraffes gallop").send()
    );
    let (won, lost) = if a.status == 200 { (&a, &b) } else { (&b, &a) };
    assert_eq!(won.status, 200, "{}", won.text);
    invalid_token(lost);
    assert_eq!(app.mails().await.len(), 1);
    assert_eq!(can_log_in(&app, &acme, "acme-owner", ANOTHER).await, a.status == 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_proves_the_address_it_was_mailed_to_and_no_other() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let token = link_for(&app, &acme, "owner@acme.example").await;
    acme.change(&app, &acme.owner, "email = 'new@acme.example', email_key = 'new@acme.example'").await;
    reset(&app, &acme, &token, ANOTHER).expect(200).await;
    let body = json!({"username": "acme-owner", "password": ANOTHER});
    let login = post(&app, &acme, "/api/login/", &body).expect(200).await;
    let me = app.request("GET", "/api/current_user/").bearer(login["token"].as_str().unwrap());
    assert_eq!(me.expect(200).await["email_verified"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_mailed_twice_over_is_the_first_one() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    forget(&app, &acme, "owner@acme.example").expect(200).await;
    let mut database = app.superuser().await;
    database.execute("CREATE TABLE kept AS SELECT id, payload FROM tenantry.jobs").await.unwrap();
    let token = token_in(&app.mails().await[0]);
    // The worker died after its work and before it could say so: another one does it again.
    let again = "UPDATE tenantry.jobs j SET status = 'queued', payload = k.payload, finished_at = NULL \
                 FROM kept k WHERE k.id = j.id";
    assert_eq!(database.execute(AssertSqlSafe(again)).await.unwrap().rows_affected(), 1);
    assert_eq!(app.mails().await, []);
    reset(&app, &acme, &token, ANOTHER).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_of_other_days_is_made_anew_at_the_next_login() {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};

    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let params = Params::new(8 * 1024, 1, 1, None).unwrap();
    let old = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let old = old.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
    acme.change(&app, &acme.owner, &format!("password_hash = '{old}'")).await;
    let hash = async || {
        let sql = format!(r#"SELECT password_hash FROM "{}".users"#, acme.schema());
        app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap().get::<String, _>(0)
    };
    assert!(!can_log_in(&app, &acme, "acme-owner", "not the password").await);
    assert_eq!(hash().await, old);
    assert!(can_log_in(&app, &acme, "acme-owner", PASSWORD).await);
    let new = hash().await;
    assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
    assert!(can_log_in(&app, &acme, "acme-owner", PASSWORD).await);
    assert_eq!(hash().await, new, "today's is left as it is");
    assert_eq!(acme.owner.me().await.status, 200, "nobody is signed out by it");
}

/// Counted, because time is no measure on a machine that does other things too.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_fails_costs_the_same_whatever_is_wrong() {
    let app = TestApp::with(Options { rate_limits: true, ..Options::default() }).await;
    let acme = app.sign_up_quietly("acme").await;
    let gone = acme.add_user(&app, Person::named("gone")).await;
    acme.change(&app, &gone, "is_active = false").await;
    let checkouts = || -> u64 {
        let figures = app.app.tenancy.lane_figures();
        figures.iter().map(|lane| lane.bound + lane.rebound + lane.reused).sum()
    };
    let mut costs = Vec::new();
    for body in [
        json!({"username": "acme-owner", "password": "not the password"}),
        json!({"username": "nobody", "password": "not the password"}),
        json!({"username": "gone", "password": PASSWORD}),
        json!({"email": "owner@acme.example", "password": "not the password"}),
        json!({"email": "nobody@acme.example", "password": "not the password"}),
    ] {
        let before = (app.app.hasher.runs(), checkouts());
        post(&app, &acme, "/api/login/", &body).expect(400).await;
        costs.push((app.app.hasher.runs() - before.0, checkouts() - before.1));
    }
    // One hash; and two statements, each with a connection of its own: the attempt, and the user.
    assert_eq!(costs, [(1, 2); 5]);
}

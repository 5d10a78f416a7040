//! What is refused because it happened too often.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::support::{Answer, Options, Organization, PASSWORD, Person, Request, TestApp};

/// A service that believes what this machine says about who calls.
async fn behind_a_proxy() -> TestApp {
    TestApp::with(proxied()).await
}

fn proxied() -> Options {
    Options { proxies: &["127.0.0.0/8"], ..Options::default() }
}

fn login(app: &TestApp, organization: &Organization, from: &str, body: &Value) -> Request {
    let host = organization.host(app);
    app.request("POST", "/api/login/").host(&host).header("x-forwarded-for", from).json(body)
}

fn wrong(username: &str) -> Value {
    json!({"username": username, "password": "not the password"})
}

fn right(username: &str) -> Value {
    json!({"username": username, "password": PASSWORD})
}

/// Refused, and how many seconds it says to wait.
fn throttled(answer: &Answer) -> u64 {
    let seconds: u64 = answer.header("retry-after").parse().unwrap_or_else(|_| panic!("{answer:?}"));
    let unit = if seconds == 1 { "second" } else { "seconds" };
    assert!(seconds >= 1);
    assert_eq!(
        answer.problem(),
        json!({
            "type": "about:blank", "title": "Too Many Requests", "status": 429, "code": "throttled",
            "detail": format!("Request was throttled. Expected available in {seconds} {unit}."),
        })
    );
    seconds
}

fn failed(answer: &Answer) {
    assert_eq!(answer.said(), (400, "invalid".into()));
    assert_eq!(answer.problem()["non_field_errors"], json!(["Unable to log in with provided credentials."]));
}

/// How many attempts are on record in this tenant.
async fn recorded(app: &TestApp, organization: &Organization) -> i64 {
    let sql = format!(
        r#"SELECT coalesce(sum(cardinality(hits)), 0)::bigint FROM "{}".throttles"#,
        organization.schema()
    );
    app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_fails_ten_times_a_minute() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    for number in 0..10 {
        app.clock.advance(Duration::from_secs(1));
        failed(&login(&app, &acme, "198.51.100.7", &wrong(&format!("nobody{number}"))).send().await);
    }
    let refused = login(&app, &acme, "198.51.100.7", &right("acme-owner")).send().await;
    assert_eq!(throttled(&refused), 51);
    // What says itself where it comes from, in front of the proxy's word, stays where it is.
    let forged = login(&app, &acme, "203.0.113.9, 198.51.100.7", &right("acme-owner")).send().await;
    assert_eq!(throttled(&forged), 51);
    login(&app, &acme, "198.51.100.8", &right("acme-owner")).expect(200).await;
    app.clock.advance(Duration::from_secs(51));
    login(&app, &acme, "198.51.100.7", &right("acme-owner")).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_of_version_6_is_one_address() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    for number in 0..10 {
        let from = format!("2001:db8:1:2::{number:x}");
        failed(&login(&app, &acme, &from, &wrong(&format!("nobody{number}"))).send().await);
    }
    assert_eq!(throttled(&login(&app, &acme, "2001:db8:1:2:ffff::1", &right("acme-owner")).send().await), 60);
    login(&app, &acme, "2001:db8:1:3::1", &right("acme-owner")).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_failures_at_once_at_two_processes_exactly_ten_are_let_through() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    let other = app.beside_with(proxied()).await;
    let attempts = (0..20).map(|number| {
        let process = if number % 2 == 0 { &app } else { &other };
        login(process, &acme, "198.51.100.7", &wrong(&format!("nobody{number}"))).send()
    });
    let answers = join_all(attempts).await;
    let (refused, let_through): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 429);
    assert_eq!((let_through.len(), refused.len()), (10, 10));
    let_through.into_iter().for_each(failed);
    for answer in refused {
        assert_eq!(throttled(answer), 60);
    }
    // Ten, each counted for the address, the account there, and the account anywhere. What was refused left nothing.
    assert_eq!(recorded(&app, &acme).await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_knows_what_happened_before() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    for number in 0..10 {
        failed(&login(&app, &acme, "198.51.100.7", &wrong(&format!("nobody{number}"))).send().await);
    }
    let restarted = app.beside_with(proxied()).await;
    assert_eq!(throttled(&login(&restarted, &acme, "198.51.100.7", &wrong("nobody")).send().await), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_fails_ten_times_at_all_tenants_of_a_process_together() {
    let app = behind_a_proxy().await;
    let (acme, globex) = (app.sign_up_quietly("acme").await, app.sign_up_quietly("globex").await);
    for number in 0..10 {
        let tenant = if number % 2 == 0 { &acme } else { &globex };
        failed(&login(&app, tenant, "198.51.100.7", &wrong(&format!("nobody{number}"))).send().await);
    }
    let before = recorded(&app, &acme).await;
    assert_eq!(throttled(&login(&app, &acme, "198.51.100.7", &right("acme-owner")).send().await), 60);
    assert_eq!(recorded(&app, &acme).await, before);
    login(&app, &globex, "198.51.100.8", &right("globex-owner")).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_succeed_do_not_count() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    for _ in 0..12 {
        login(&app, &acme, "198.51.100.7", &right("acme-owner")).expect(200).await;
    }
    // At the same instant by the tests' clock: each takes back one, and only one.
    let at_once = (0..5).map(|_| login(&app, &acme, "198.51.100.7", &right("acme-owner")).expect(200));
    join_all(at_once).await;
    assert_eq!(recorded(&app, &acme).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_success_forgives_no_failure() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    acme.add_account(&app, Person::named("mallory")).await;
    for _ in 0..2 {
        for _ in 0..2 {
            failed(&login(&app, &acme, "198.51.100.7", &wrong("acme-owner")).send().await);
        }
        login(&app, &acme, "198.51.100.7", &right("mallory")).expect(200).await;
    }
    failed(&login(&app, &acme, "198.51.100.7", &wrong("acme-owner")).send().await);
    // All of it in one instant of the tests' clock: of what is alike, a success took back its own attempt only.
    assert_eq!(recorded(&app, &acme).await, 25);
    assert_eq!(throttled(&login(&app, &acme, "198.51.100.7", &wrong("acme-owner")).send().await), 15);
    login(&app, &acme, "198.51.100.7", &right("mallory")).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_failures_at_an_account_slow_down_the_next_from_there() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    // Whether there is such an account makes no difference.
    for (name, from) in [("acme-owner", "198.51.100.7"), ("nobody", "198.51.100.8")] {
        for _ in 0..5 {
            app.clock.advance(Duration::from_secs(20));
            failed(&login(&app, &acme, from, &wrong(name)).send().await);
        }
        for delay in [15, 30, 60, 120, 240, 480, 900, 900] {
            let body = if name == "nobody" { wrong(name) } else { right(name) };
            assert_eq!(throttled(&login(&app, &acme, from, &body).send().await), delay, "{name}");
            app.clock.advance(Duration::from_secs(delay - 1));
            assert_eq!(throttled(&login(&app, &acme, from, &body).send().await), 1, "{name}");
            app.clock.advance(Duration::from_secs(1));
            failed(&login(&app, &acme, from, &wrong(name)).send().await);
        }
        // By another address, the account goes on as before.
        let answer = login(&app, &acme, "198.51.100.9", &right("acme-owner")).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    app.clock.advance(Duration::from_mins(15));
    login(&app, &acme, "198.51.100.7", &right("acme-owner")).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_failures_from_anywhere_close_an_account_to_all_but_its_own_networks() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    login(&app, &acme, "203.0.113.5", &right("acme-owner")).expect(200).await;
    app.clock.advance(Duration::from_hours(29 * 24));
    login(&app, &acme, "203.0.113.6", &right("acme-owner")).expect(200).await;
    app.clock.advance(Duration::from_hours(2 * 24));
    for name in ["acme-owner", "nobody"] {
        for batch in 0..10 {
            let attempts = (0..10)
                .map(|number| login(&app, &acme, &format!("198.51.{batch}.{number}"), &wrong(name)).send());
            // The addresses are others for the other name, too.
            join_all(attempts).await.iter().for_each(failed);
        }
        app.clock.advance(Duration::from_mins(1));
        assert_eq!(throttled(&login(&app, &acme, "192.0.2.1", &right(name)).send().await), 3540, "{name}");
    }
    // 31 days are too long ago.
    let answer = login(&app, &acme, "203.0.113.5", &right("acme-owner")).send().await;
    assert_eq!(throttled(&answer), 3480);
    login(&app, &acme, "203.0.113.6", &right("acme-owner")).expect(200).await;
    app.clock.advance(Duration::from_mins(58));
    login(&app, &acme, "192.0.2.1", &right("acme-owner")).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_off() {
    let app = TestApp::with(Options { rate_limits: false, ..Options::default() }).await;
    let acme = app.sign_up_quietly("acme").await;
    let host = acme.host(&app);
    for _ in 0..12 {
        failed(&app.request("POST", "/api/login/").host(&host).json(&wrong("acme-owner")).send().await);
    }
    let forget = || app.request("POST", "/api/password/forget/").host(&host);
    for _ in 0..21 {
        forget().json(&json!({"email": "nobody@acme.example"})).expect(200).await;
    }
    assert_eq!(recorded(&app, &acme).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_signs_twenty_organizations_up_an_hour() {
    let app = behind_a_proxy().await;
    let sign_up = |number: usize, password: &str, from: &str| {
        let body = json!({
            "organization": format!("Org {number}"), "username": "ada", "email": "ada@example.com",
            "password": password,
        });
        app.request("POST", "/api/sign_up/tenant/").header("x-forwarded-for", from).json(&body)
    };
    for number in 0..20 {
        if number % 5 == 0 {
            // Nothing was signed up, so it does not count.
            let refused = sign_up(number, "password1", "198.51.100.7").expect(400).await;
            assert_eq!(refused["password"], json!(["This password is too common."]));
        }
        sign_up(number, PASSWORD, "198.51.100.7").expect(201).await;
    }
    assert_eq!(throttled(&sign_up(20, PASSWORD, "198.51.100.7").send().await), 3600);
    // Told before the body is looked at.
    let nothing = app.request("POST", "/api/sign_up/tenant/").header("x-forwarded-for", "198.51.100.7");
    throttled(&nothing.json(&json!({})).send().await);
    sign_up(21, PASSWORD, "198.51.100.8").expect(201).await;
    app.clock.advance(Duration::from_hours(1));
    sign_up(22, PASSWORD, "198.51.100.7").expect(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_asks_for_twenty_links_an_hour_and_an_account_gets_five() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    let forget = |from: &str, email: &str| {
        let request = app.request("POST", "/api/password/forget/").host(&acme.host(&app));
        request.header("x-forwarded-for", from).json(&json!({"email": email}))
    };
    for _ in 0..20 {
        forget("198.51.100.7", "owner@acme.example").expect(200).await;
    }
    assert_eq!(throttled(&forget("198.51.100.7", "owner@acme.example").send().await), 3600);
    assert_eq!(throttled(&forget("198.51.100.7", "nonsense").send().await), 3600);
    assert_eq!(app.mails().await.len(), 5);
    forget("198.51.100.8", "owner@acme.example").expect(200).await;
    assert_eq!(app.mails().await.len(), 0);
    // All that was asked for beyond five is one mail, as soon as there may be another.
    app.clock.advance(Duration::from_hours(1));
    assert_eq!(app.mails().await.len(), 1);
    forget("198.51.100.7", "owner@acme.example").expect(200).await;
    assert_eq!(app.mails().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_record_tells_nobody_whose_it_is_and_can_be_forgotten() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    failed(&login(&app, &acme, "198.51.100.7", &wrong("acme-owner")).send().await);
    let db = acme.db(&app).await;
    let now = app.clock.now();
    assert_eq!(tenants::forget_attempts(&db, now, 10).await.unwrap(), 0);
    assert_eq!(tenants::forget_attempts(&db, now + chrono::TimeDelta::seconds(1), 2).await.unwrap(), 2);
    assert_eq!(tenants::forget_attempts(&db, now + chrono::TimeDelta::seconds(1), 10).await.unwrap(), 3);
    assert_eq!(recorded(&app, &acme).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_are_right_are_let_in_however_many_come_at_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = acme.add_account(&app, Person::named("ann")).await;
    let users = ["acme-owner", ann.username.as_str()];
    let logins = (0..24).map(|n| login(&app, &acme, "192.0.2.1", &right(users[n % 2])).send());
    for answer in join_all(logins).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(recorded(&app, &acme).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_are_right_are_taken_however_many_are_asked_for_at_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let change = || {
        let body = json!({"old_password": PASSWORD, "new_password": "password1"});
        acme.owner.request("POST", "/api/password/change/").json(&body).send()
    };
    for answer in join_all((0..12).map(|_| change())).await {
        // The old one was right, the new one is not.
        assert_eq!(
            (answer.status, &answer.problem()["new_password"][0]),
            (400, &json!("This password is too common."))
        );
    }
    assert_eq!(recorded(&app, &acme).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_no_more_guesses_for_having_two_names() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    let by_email = |from: &str, password: &str| {
        let body = json!({"email": "owner@acme.example", "password": password});
        login(&app, &acme, from, &body)
    };
    // Of two pairs of names, one belongs to an account and one to nobody; neither answer tells which.
    for (name, email, from) in
        [("acme-owner", "owner@acme.example", "198.51.100.7"), ("nobody", "no@acme.example", "198.51.100.8")]
    {
        for _ in 0..5 {
            app.clock.advance(Duration::from_secs(20));
            failed(&login(&app, &acme, from, &wrong(name)).send().await);
        }
        let body = json!({"email": email, "password": "not the password"});
        for _ in 0..4 {
            failed(&login(&app, &acme, from, &body).send().await);
        }
        let right = json!({"email": email, "password": PASSWORD});
        failed(&login(&app, &acme, from, &right).send().await);
        assert_eq!(throttled(&login(&app, &acme, from, &right).send().await), 15);
        assert_eq!(throttled(&login(&app, &acme, from, &wrong(name)).send().await), 15);
    }
    // From elsewhere it is open, and here again after a while: what was refused meanwhile has not made that longer.
    by_email("198.51.100.9", PASSWORD).expect(200).await;
    app.clock.advance(Duration::from_secs(15));
    by_email("198.51.100.7", PASSWORD).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_by_both_names_close_an_account_together() {
    let app = behind_a_proxy().await;
    let acme = app.sign_up_quietly("acme").await;
    login(&app, &acme, "203.0.113.5", &right("acme-owner")).expect(200).await;
    let by_email = |password: &str| json!({"email": "owner@acme.example", "password": password});
    for batch in 0..10 {
        let attempts = (0..10).map(|number| {
            let body = if number % 2 == 0 { wrong("acme-owner") } else { by_email("not the password") };
            login(&app, &acme, &format!("198.51.{batch}.{number}"), &body).send()
        });
        join_all(attempts).await.iter().for_each(failed);
    }
    failed(&login(&app, &acme, "192.0.2.1", &right("acme-owner")).send().await);
    failed(&login(&app, &acme, "192.0.2.2", &by_email(PASSWORD)).send().await);
    login(&app, &acme, "203.0.113.5", &by_email(PASSWORD)).expect(200).await;
    app.clock.advance(Duration::from_hours(1));
    login(&app, &acme, "192.0.2.1", &right("acme-owner")).expect(200).await;
}

//! From where and with what people sign in, and who is told.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tenantry::mail::Mail;

use crate::support::{Options, Organization, PASSWORD, Person, Request, TestApp};

fn login(app: &TestApp, organization: &Organization, username: &str, user_agent: &str) -> Request {
    let body = json!({"username": username, "password": PASSWORD});
    let request = app.request("POST", "/api/login/").host(&organization.host(app)).json(&body);
    request.header("user-agent", user_agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_never_seen_is_told_of_once() {
    let app = TestApp::with(Options { proxies: &["127.0.0.0/8"], ..Options::default() }).await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = acme.add_account(&app, Person { email: "ann@acme.example", ..Person::named("ann") }).await;
    login(&app, &acme, "ann", "Laptop").expect(200).await;
    assert_eq!(app.mails().await, [], "the first sign-in is no news");
    login(&app, &acme, "ann", "Laptop").expect(200).await;
    assert_eq!(app.mails().await, []);

    app.clock.advance(Duration::from_mins(1));
    login(&app, &acme, "ann", "Phone").header("x-forwarded-for", "198.51.100.7").expect(200).await;
    let mails = app.mails().await;
    let [letter] = mails.as_slice() else { panic!("{mails:?}") };
    assert_eq!((letter.to.email.as_str(), letter.to.name.as_str()), ("ann@acme.example", "ann"));
    assert_eq!(
        letter.mail,
        Mail::NewDevice {
            organization: "ACME".into(),
            at: app.clock.now(),
            ip: "198.51.100.7".into(),
            user_agent: "Phone".into(),
            url: format!("http://acme.localhost:{}", app.address.port()),
        }
    );

    // Known by now, at this place and all near it.
    let from = async |user_agent: &str, place: &str| {
        login(&app, &acme, "ann", user_agent).header("x-forwarded-for", place).expect(200).await;
    };
    from("Phone", "198.51.100.7").await;
    from("Phone", "198.51.7.100").await;
    from("Laptop", "198.51.7.101").await;
    assert_eq!(app.mails().await, []);
    // Far from wherever it was seen, it may be somebody else who calls himself so.
    for (place, told) in [("203.0.113.9", 1), ("203.0.200.9", 0), ("2001:db8::1", 1), ("2001:db8:9::1", 0)] {
        from("Phone", place).await;
        assert_eq!(app.mails().await.len(), told, "{place}");
    }
    from("Laptop", "203.0.113.9").await;
    assert_eq!(app.mails().await, []);
    assert_eq!(ann.email, "ann@acme.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_of_the_sign_up_is_known() {
    let app = TestApp::start().await;
    let body = json!({
        "organization": "Acme", "slug": "acme", "username": "ada", "email": "ada@acme.example", "password": PASSWORD,
    });
    app.request("POST", "/api/sign_up/tenant/").header("user-agent", "Laptop").json(&body).expect(201).await;
    let login = |user_agent: &str| {
        let body = json!({"email": "ada@acme.example", "password": PASSWORD});
        let request = app.request("POST", "/api/login/").header("x-tenant", "acme").json(&body);
        request.header("user-agent", user_agent).expect(200)
    };
    assert_eq!(app.mails().await.len(), 1, "the one of the sign-up");
    login("Laptop").await;
    assert_eq!(app.mails().await, []);
    login("Phone").await;
    assert_eq!(app.mails().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sign_ins_at_once_with_a_new_client_one_is_told_of() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let other = app.beside().await;
    acme.add_account(&app, Person::named("ann")).await;
    login(&app, &acme, "ann", "Laptop").expect(200).await;
    let at_once = (0..4)
        .map(|number| login(if number % 2 == 0 { &app } else { &other }, &acme, "ann", "Phone").expect(200));
    join_all(at_once).await;
    assert_eq!(app.mails().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_is_no_device() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    acme.add_account(&app, Person::named("ann")).await;
    login(&app, &acme, "ann", "Laptop").expect(200).await;
    let body = json!({"username": "ann", "password": "not the password"});
    let failing = app.request("POST", "/api/login/").host(&acme.host(&app)).json(&body);
    failing.header("user-agent", "Phone").expect(400).await;
    assert_eq!(app.mails().await, []);
    login(&app, &acme, "ann", "Phone").expect(200).await;
    assert_eq!(app.mails().await.len(), 1);
}

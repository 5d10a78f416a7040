//! The pages as people use them, from the mail to the end.

use serde_json::{Value, json};
use tenantry::mail::Mail;

use super::browser::Chromium;
use crate::support::{Organization, PASSWORD, TestApp};

/// An organization whose first mail, to its owner, has gone out.
async fn sign_up(app: &TestApp, slug: &str) -> Organization {
    let organization = app.sign_up(slug).await;
    app.mails().await;
    organization
}

/// The link in the only mail that went out.
async fn link(app: &TestApp) -> String {
    let letters = app.mails().await;
    let links: Vec<&String> = letters
        .iter()
        .filter_map(|letter| match &letter.mail {
            Mail::VerifyEmail { link, .. }
            | Mail::Invitation { link, .. }
            | Mail::ConfirmEmail { link, .. }
            | Mail::ResetPassword { link, .. } => Some(link),
            _ => None,
        })
        .collect();
    assert_eq!(links.len(), 1, "{letters:?}");
    links[0].clone()
}

async fn logs_in(app: &TestApp, organization: &Organization, username: &str) -> Value {
    let body = json!({"username": username, "password": PASSWORD});
    app.request("POST", "/api/login/").host(&organization.host(app)).json(&body).expect(200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_confirmed_by_a_click_and_not_by_opening_the_link() {
    let Some(chromium) = Chromium::start().await else { return };
    let app = TestApp::start().await;
    let ann = sign_up(&app, "acme").await.owner;
    let body = json!({"email": "ann@new.example", "password": PASSWORD});
    ann.request("POST", "/api/current_user/email/").json(&body).expect(200).await;
    let link = link(&app).await;
    let tab = chromium.open(&link).await;
    tab.looks_right().await;
    // The token survives a reload, out of sight.
    tab.reload().await;
    tab.looks_right().await;
    assert_eq!(ann.get("/api/current_user/").await["email"], "owner@acme.example");
    assert_eq!(tab.done().await, "Your address is confirmed");
    assert_eq!(ann.get("/api/current_user/").await["email"], "ann@new.example");

    let again = chromium.open(&link).await;
    let told = again.refused().await;
    assert!(told.starts_with("This link does not work any more: it was used already"), "{told}");
    assert!(told.ends_with("Ask for another one where you change your address."), "{told}");
    let bare = chromium.open(link.split('?').next().unwrap()).await;
    bare.until("!document.getElementById('problem').hidden").await;
    assert!(bare.text("document.body.innerText").await.contains("There is no token in this link"));
    assert!(bare.is("document.getElementById('form').hidden").await);
    chromium.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_accepted_and_what_is_wrong_stands_beside_its_field() {
    let Some(chromium) = Chromium::start().await else { return };
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let body = json!({"email": "bob@acme.example"});
    acme.owner.request("POST", "/api/invitations/").json(&body).expect(201).await;
    let tab = chromium.open(&link(&app).await).await;
    tab.looks_right().await;
    tab.fill("username", "bob the builder").await;
    // The key that sends a form sends this one.
    tab.press("username", "Enter").await;
    tab.until(
        "!document.getElementById('username-wrong').hidden && !document.querySelector('button').disabled",
    )
    .await;
    let wrong = |id: &str| format!("document.getElementById('{id}-wrong').innerText");
    assert!(tab.text(&wrong("username")).await.starts_with("Enter a valid username."));
    assert_eq!(tab.text(&wrong("password")).await, "This field may not be blank.");
    assert_eq!(tab.text(&wrong("first_name")).await, "");
    assert!(tab.is("document.getElementById('username').getAttribute('aria-invalid') === 'true'").await);
    assert!(tab.is("!document.getElementById('first_name').hasAttribute('aria-invalid')").await);
    assert!(tab.is("document.activeElement.id === 'username'").await, "the first that is wrong");

    tab.fill("username", "bob").await;
    tab.fill("password", PASSWORD).await;
    tab.click("input[data-shows=password]").await;
    assert_eq!(tab.text("document.getElementById('password').type").await, "text");
    tab.fill("first_name", "Bob").await;
    assert_eq!(tab.done().await, "Welcome");
    let bob = logs_in(&app, &acme, "bob").await;
    assert_eq!(
        (&bob["user"]["first_name"], &bob["user"]["email"]),
        (&json!("Bob"), &json!("bob@acme.example"))
    );
    only_session(&app, &acme, &bob).await;
    chromium.close().await;
}

/// The session that a page got and nobody uses ends.
async fn only_session(app: &TestApp, organization: &Organization, login: &Value) {
    let sessions = async || {
        let request = app.request("GET", "/api/sessions/").host(&organization.host(app));
        request.bearer(login["token"].as_str().unwrap()).expect(200).await["count"].clone()
    };
    crate::support::eventually("one session", async || sessions().await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_is_verified_by_the_password_it_was_made_with() {
    let Some(chromium) = Chromium::start().await else { return };
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let open = json!({"sign_up_policy": "open"});
    acme.owner.request("PATCH", "/api/tenant/").json(&open).expect(200).await;
    let body = json!({"username": "cleo", "email": "cleo@new.example", "password": PASSWORD});
    app.request("POST", "/api/sign_up/").host(&acme.host(&app)).json(&body).expect(201).await;
    let tab = chromium.open(&link(&app).await).await;
    tab.looks_right().await;
    assert!(tab.is("document.getElementById('username').closest('.field').hidden").await);
    tab.fill("password", "not it at all").await;
    let told = tab.refused().await;
    assert!(told.starts_with("The password is not the one of your sign-up"), "{told}");
    tab.fill("password", PASSWORD).await;
    assert_eq!(tab.done().await, "Your address is confirmed");
    only_session(&app, &acme, &logs_in(&app, &acme, "cleo").await).await;
    chromium.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_replaced() {
    const ANOTHER: &str = "quite another battery";
    let Some(chromium) = Chromium::start().await else { return };
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let body = json!({"email": "owner@acme.example"});
    app.request("POST", "/api/password/forget/").host(&acme.host(&app)).json(&body).expect(200).await;
    let link = link(&app).await;
    let tab = chromium.open(&link).await;
    tab.looks_right().await;
    tab.fill("new_password", "short").await;
    tab.click("button").await;
    tab.until(
        "!document.getElementById('new_password-wrong').hidden && !document.querySelector('button').disabled",
    )
    .await;
    let told = tab.text("document.getElementById('new_password-wrong').innerText").await;
    assert_eq!(told, "This password is too short. It must contain at least 8 characters.");
    assert!(tab.is("document.activeElement.id === 'new_password'").await);
    tab.fill("new_password", ANOTHER).await;
    assert_eq!(tab.done().await, "Your password is saved");
    let body = json!({"username": acme.owner.username, "password": ANOTHER});
    app.request("POST", "/api/login/").host(&acme.host(&app)).json(&body).expect(200).await;

    let again = chromium.open(&link).await;
    again.fill("new_password", ANOTHER).await;
    assert!(again.refused().await.ends_with("Ask for another one where you sign in."));
    chromium.close().await;
}

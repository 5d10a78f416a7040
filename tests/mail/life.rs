//! The life of a person in an organization, with real mails over SMTP.

use serde_json::{Value, json};

use super::support::{app_with, run_due};
use crate::support::{Answer, Organization, Request, SmtpServer, TestApp};

const BO: &str = "bo@people.example";
const NEW_ADDRESS: &str = "bo.berg@people.example";
const FIRST: &str = "seven quiet lighthouses";
const SECOND: &str = "forty tin accordions";

/// Somebody with a browser, a mailbox and no session yet.
struct Person<'a> {
    app: &'a TestApp,
    acme: &'a Organization,
    server: &'a SmtpServer,
}

impl Person<'_> {
    fn request(&self, method: &str, path: &str) -> Request {
        self.app.request(method, path).host(&self.acme.host(self.app))
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path).json(body).send().await
    }

    async fn with(&self, token: &str, method: &str, path: &str) -> Answer {
        self.request(method, path).bearer(token).send().await
    }

    async fn post_with(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.request("POST", path).bearer(token).json(body).send().await
    }

    async fn log_in(&self, email: &str, password: &str, client: &str) -> Answer {
        let body = json!({"email": email, "password": password});
        self.request("POST", "/api/login/").header("user-agent", client).json(&body).send().await
    }

    /// The subjects of the mails that came to an address since the last look, and the last one's text.
    async fn mails(&self, to: &str, seen: &mut usize) -> (Vec<String>, String) {
        while run_due(self.app).await > 0 {}
        let received = self.server.received();
        let mails: Vec<_> = received.iter().filter(|mail| mail.to == to).collect();
        let new = &mails[*seen..];
        *seen = mails.len();
        let subjects = new.iter().map(|mail| mail.message().subject().unwrap().to_owned()).collect();
        let text = new.last().map(|mail| mail.message().body_text(0).unwrap().into_owned());
        (subjects, text.unwrap_or_default())
    }
}

/// The token in the link to this page.
fn token_in(text: &str, acme: &Organization, page: &str) -> String {
    let at = format!("http://{}.localhost:", acme.slug);
    let link = text.split_whitespace().find(|word| word.starts_with(&at)).expect(text);
    let (path, token) = link.split_once("?token=").expect(link);
    assert!(path.ends_with(&format!("/account/{page}")), "{link}");
    token.to_owned()
}

fn text(answer: &Answer, member: &str) -> String {
    answer.json()[member].as_str().unwrap_or_else(|| panic!("{member} in {}", answer.text)).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_joins_works_forgets_moves_and_leaves() {
    let server = SmtpServer::start().await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    let bo = Person { app: &app, acme: &acme, server: &server };
    let (mut seen, mut seen_there) = (0, 0);

    // Invited, and joins.
    acme.owner.request("POST", "/api/invitations/").json(&json!({"email": BO})).expect(201).await;
    let (subjects, mail) = bo.mails(BO, &mut seen).await;
    assert_eq!(subjects, ["acme-owner invites you to ACME"]);
    let token = token_in(&mail, &acme, "accept");
    let body = json!({"token": token, "username": "bo", "password": FIRST, "first_name": "Bo"});
    let joined =
        bo.request("POST", "/api/invitations/accept/").header("user-agent", "Desk").json(&body).send().await;
    assert_eq!(joined.status, 201, "{}", joined.text);
    let me = bo.with(&text(&joined, "token"), "GET", "/api/current_user/").await.json();
    assert_eq!(
        (&me["username"], &me["role"], &me["email_verified"]),
        (&json!("bo"), &json!("member"), &json!(true))
    );

    // Signs in on two devices, of which the second is new, and ends one of the sessions.
    let desk = text(&bo.log_in(BO, FIRST, "Desk").await, "token");
    let phone = text(&bo.log_in(BO, FIRST, "Phone").await, "token");
    let (subjects, mail) = bo.mails(BO, &mut seen).await;
    assert_eq!(subjects, ["New sign-in to ACME"]);
    assert!(mail.contains("Phone") && mail.contains("127.0.0.1"), "{mail}");
    let sessions = bo.with(&desk, "GET", "/api/sessions/").await.json();
    assert_eq!(sessions["count"], 3);
    let of_phone =
        sessions["results"].as_array().unwrap().iter().find(|it| it["user_agent"] == "Phone").unwrap();
    let path = format!("/api/sessions/{}/", of_phone["id"].as_str().unwrap());
    assert_eq!(bo.with(&desk, "DELETE", &path).await.status, 204);
    assert_eq!(bo.with(&phone, "GET", "/api/current_user/").await.said(), (401, "token_not_valid".into()));
    assert_eq!(bo.with(&desk, "GET", "/api/current_user/").await.status, 200);

    // Forgets the password, and chooses another one: every session ends.
    assert_eq!(bo.post("/api/password/forget/", &json!({"email": BO.to_uppercase()})).await.status, 200);
    let (subjects, mail) = bo.mails(BO, &mut seen).await;
    assert_eq!(subjects, ["Choose a new password for ACME"]);
    let token = token_in(&mail, &acme, "reset");
    let reset = bo.post("/api/password/reset/", &json!({"token": token, "new_password": SECOND})).await;
    assert_eq!(reset.json(), json!({"detail": "Password has been reset with the new password."}));
    assert_eq!(bo.with(&desk, "GET", "/api/current_user/").await.said(), (401, "token_not_valid".into()));
    let again = bo.post("/api/password/reset/", &json!({"token": token, "new_password": FIRST})).await;
    assert_eq!((again.status, &again.json()["token"]), (400, &json!(["Invalid value."])));
    assert_eq!(bo.mails(BO, &mut seen).await.0, ["Your password for ACME was changed"]);
    assert_eq!(bo.log_in(BO, FIRST, "Desk").await.status, 400);
    let desk = text(&bo.log_in(BO, SECOND, "Desk").await, "token");

    // Moves to another address.
    let body = json!({"email": NEW_ADDRESS, "password": SECOND});
    assert_eq!(bo.post_with(&desk, "/api/current_user/email/", &body).await.status, 200);
    let (subjects, mail) = bo.mails(NEW_ADDRESS, &mut seen_there).await;
    assert_eq!(subjects, ["Confirm your new e-mail address for ACME"]);
    let body = json!({"token": token_in(&mail, &acme, "email")});
    let moved = bo.post("/api/current_user/email/verify/", &body).await;
    assert_eq!(moved.json(), json!({"detail": "E-mail address verified."}));
    let (subjects, mail) = bo.mails(BO, &mut seen).await;
    assert_eq!(subjects, ["Your e-mail address for ACME was changed"]);
    assert!(mail.contains("people") && !mail.contains("token="), "{mail}");
    assert_eq!(bo.log_in(BO, SECOND, "Desk").await.status, 400);
    assert_eq!(bo.log_in(NEW_ADDRESS, SECOND, "Desk").await.status, 200);

    // Takes everything along, and leaves.
    let export = bo.with(&desk, "GET", "/api/current_user/export/").await;
    assert_eq!((export.status, export.header("cache-control")), (200, "no-store"));
    assert!(export.text.contains(NEW_ADDRESS) && !export.text.contains("$argon2"), "{}", export.text);
    let leave = |password: &str| {
        let body = json!({"password": password});
        bo.request("DELETE", "/api/current_user/").bearer(&desk).json(&body).send()
    };
    assert_eq!(leave(FIRST).await.status, 400);
    assert_eq!(leave(SECOND).await.status, 204);
    assert_eq!(bo.with(&desk, "GET", "/api/current_user/").await.said(), (401, "token_not_valid".into()));
    assert_eq!(acme.owner.get("/api/users/").await["count"], 1);
    acme.owner.request("POST", "/api/invitations/").json(&json!({"email": NEW_ADDRESS})).expect(201).await;
}

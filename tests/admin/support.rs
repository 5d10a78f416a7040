//! Operators as clients.

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenantry::{
    audit::Actor,
    operators::{self, NewOperator},
    users::identity::{Email, Password},
};

use crate::support::{PASSWORD, Request, TestApp};

/// Somebody who runs the installation.
#[derive(Clone)]
pub(super) struct Operator {
    pub(super) id: String,
    pub(super) email: String,
    /// A key that may do everything.
    pub(super) key: String,
}

impl Operator {
    /// A new one, made from the command line.
    pub(super) async fn create(app: &TestApp, email: &str) -> Self {
        let new = NewOperator {
            email: Email::parse(email).unwrap(),
            password: Password::parse(PASSWORD.to_owned()).unwrap(),
        };
        let by = Actor::command_line();
        let (operator, key) = operators::create_operator_with_key(&app.app, new, &by).await.unwrap();
        let key = key.key.expose_secret().to_owned();
        Self { id: operator.id.to_string(), email: operator.email, key }
    }

    /// A request with the key, to the service itself.
    pub(super) fn request(&self, app: &TestApp, method: &str, path: &str) -> Request {
        app.request(method, path).bearer(&self.key)
    }

    pub(super) async fn get(&self, app: &TestApp, path: &str) -> Value {
        self.request(app, "GET", path).expect(200).await
    }

    /// A token, by password.
    pub(super) async fn sign_in(&self, app: &TestApp) -> String {
        let answer = sign_in(app, &self.email, PASSWORD).expect(200).await;
        answer["token"].as_str().unwrap().to_owned()
    }

    /// Another key, with these scopes.
    pub(super) async fn key_with(&self, app: &TestApp, scopes: &[&str]) -> String {
        let body = json!({"name": "a key", "scopes": scopes});
        let made = self.request(app, "POST", "/api/admin/api_keys/").json(&body).expect(201).await;
        made["key"].as_str().unwrap().to_owned()
    }

    /// What the installation's log says was done, the newest first.
    pub(super) async fn log(&self, app: &TestApp) -> Vec<Value> {
        let page = self.get(app, "/api/admin/audit/?page_size=100").await;
        page["results"].as_array().unwrap().clone()
    }
}

pub(super) fn sign_in(app: &TestApp, email: &str, password: &str) -> Request {
    app.request("POST", "/api/admin/login/").json(&json!({"email": email, "password": password}))
}

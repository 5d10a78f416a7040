//! What is asked, and how to tell the right answer.

use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Failure,
    client::{Client, Request},
    seed::{PASSWORD, Target},
};

/// An endpoint under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Case {
    /// The signed-in user.
    CurrentUser,
    /// The first 50 users.
    UsersPage,
    /// Another user.
    UserDetail,
    /// Signing in by password.
    Login,
}

impl Case {
    pub(crate) const ALL: [Self; 4] = [Self::CurrentUser, Self::UsersPage, Self::UserDetail, Self::Login];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CurrentUser => "current_user",
            Self::UsersPage => "users_page",
            Self::UserDetail => "user_detail",
            Self::Login => "login",
        }
    }

    /// Whether it costs what hashing costs.
    pub(crate) fn hashes(self) -> bool {
        self == Self::Login
    }

    /// The request for each of these tenants. What marks an answer is in no other tenant's.
    pub(crate) fn requests(self, targets: &[Target]) -> Arc<[Request]> {
        targets.iter().map(|target| self.request(target)).collect()
    }

    fn request(self, target: &Target) -> Request {
        let Target { host, owner, colleague, username, token, .. } = target;
        match self {
            Self::CurrentUser => {
                Request::new("GET", host, "/api/current_user/", 200, &owner.to_string()).bearer(token)
            }
            Self::UsersPage => {
                let path = "/api/users/?page_size=50";
                Request::new("GET", host, path, 200, &format!("@{}.example\"", target.slug)).bearer(token)
            }
            Self::UserDetail => {
                let path = format!("/api/users/{colleague}/");
                Request::new("GET", host, &path, 200, &format!("@{}.example\"", target.slug)).bearer(token)
            }
            Self::Login => {
                let body = json!({"username": username, "password": PASSWORD});
                Request::new("POST", host, "/api/login/", 200, &colleague.to_string()).json(&body)
            }
        }
    }

    /// Looks at one answer as a whole, before and after the load: a mark does not tell that the rest is there.
    pub(crate) async fn verify(self, client: &mut Client, target: &Target) -> Result<(), Failure> {
        let answer: Value = serde_json::from_slice(client.send(&self.request(target)).await?)?;
        let is = |pointer: &str, value: &str| answer.pointer(pointer).and_then(Value::as_str) == Some(value);
        let (owner, colleague) = (target.owner.to_string(), target.colleague.to_string());
        let right = match self {
            Self::CurrentUser => is("/pk", &owner) && is("/username", "user0"),
            Self::UsersPage => {
                let users = answer["results"].as_array().map_or(&[][..], Vec::as_slice);
                let domain = format!("@{}.example", target.slug);
                let of_tenant =
                    |user: &Value| user["email"].as_str().is_some_and(|email| email.ends_with(&domain));
                users.len() == 50 && users.iter().all(of_tenant) && answer["count"] == target.users
            }
            Self::UserDetail => is("/pk", &colleague),
            Self::Login => is("/user/pk", &colleague) && answer["token"].is_string(),
        };
        if right { Ok(()) } else { Err(format!("{} has a wrong answer: {answer}", self.name()).into()) }
    }
}

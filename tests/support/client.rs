//! Users as clients.

use std::net::SocketAddr;

use reqwest::{
    Client, Method,
    header::{AUTHORIZATION, HOST, HeaderMap, HeaderName},
};
use serde_json::{Value, json};

use super::{PASSWORD, TestApp};

/// A request in the making.
#[must_use]
pub(crate) struct Request {
    builder: reqwest::RequestBuilder,
}

impl Request {
    /// To the service at this address. `path` begins with a slash.
    pub(crate) fn new(client: &Client, address: SocketAddr, method: &str, path: &str) -> Self {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let builder = client.request(method, format!("http://{address}{path}"));
        Self { builder: builder.header(HOST, format!("localhost:{}", address.port())) }
    }

    /// To another host than `localhost`; the tenant's, say.
    pub(crate) fn host(self, host: &str) -> Self {
        // `header` would add a second one.
        let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        Self { builder: self.builder.headers(headers) }
    }

    /// With another header.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self { builder: self.builder.header(name.parse::<HeaderName>().unwrap(), value) }
    }

    /// With a token.
    pub(crate) fn bearer(self, token: &str) -> Self {
        Self { builder: self.builder.header(AUTHORIZATION, format!("Bearer {token}")) }
    }

    /// With a body.
    pub(crate) fn json(self, body: &Value) -> Self {
        Self { builder: self.builder.json(body) }
    }

    /// With a body of any kind.
    pub(crate) fn body(self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Self { builder: self.builder.header("content-type", content_type).body(body) }
    }

    /// Sends it.
    pub(crate) async fn send(self) -> Answer {
        let response = self.builder.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    /// Sends it and expects this status; returns the body.
    pub(crate) async fn expect(self, status: u16) -> Value {
        let answer = self.send().await;
        assert_eq!(answer.status, status, "{}", answer.text);
        answer.json()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) text: String,
}

impl Answer {
    /// The body, which has to be JSON; null where there is none.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        if self.text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body without what differs from answer to answer.
    #[must_use]
    pub(crate) fn problem(&self) -> Value {
        let mut problem = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        problem.as_object_mut().unwrap().remove("request_id");
        problem
    }

    /// A header; empty where it is missing.
    #[must_use]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An organization and its owner.
pub(crate) struct Organization {
    /// Its id.
    pub(crate) id: String,
    /// Its slug.
    pub(crate) slug: String,
    /// Its owner, signed in.
    pub(crate) owner: User,
}

impl Organization {
    pub(super) async fn sign_up(app: &TestApp, slug: &str) -> Self {
        let username = format!("{slug}-owner");
        let body = json!({
            "organization": slug.to_uppercase(), "slug": slug, "username": username,
            "email": format!("owner@{slug}.example"), "password": PASSWORD,
        });
        let answer = app.request("POST", "/api/sign_up/tenant/").json(&body).expect(201).await;
        Self { id: text(&answer["tenant"]["id"]), slug: slug.to_owned(), owner: User::of(app, slug, &answer) }
    }

    /// The host of this organization.
    pub(crate) fn host(&self, app: &TestApp) -> String {
        format!("{}.localhost:{}", self.slug, app.address.port())
    }

    /// Another session of the owner.
    pub(crate) async fn log_in(&self, app: &TestApp) -> User {
        let body = json!({"username": self.owner.username, "password": PASSWORD});
        let answer = app.request("POST", "/api/login/").host(&self.host(app)).json(&body).expect(200).await;
        User::of(app, &self.slug, &answer)
    }
}

/// Somebody who is signed in.
#[derive(Clone)]
pub(crate) struct User {
    /// The user's id.
    pub(crate) pk: String,
    /// The username.
    pub(crate) username: String,
    /// The access token.
    pub(crate) token: String,
    host: String,
    client: Client,
    address: SocketAddr,
}

impl User {
    fn of(app: &TestApp, slug: &str, login: &Value) -> Self {
        Self {
            pk: text(&login["user"]["pk"]),
            username: text(&login["user"]["username"]),
            token: text(&login["token"]),
            host: format!("{slug}.localhost:{}", app.address.port()),
            client: app.client.clone(),
            address: app.address,
        }
    }

    /// A request by this user, to the host of his organization.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(&self.client, self.address, method, path).host(&self.host).bearer(&self.token)
    }

    /// What a GET answers, which has to be 200.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request("GET", path).expect(200).await
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

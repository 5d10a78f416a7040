//! Users as clients.

use std::{net::SocketAddr, time::Duration};

use poem::FromRequest as _;
use reqwest::{
    Client, Method,
    header::{AUTHORIZATION, HOST, HeaderMap, HeaderName},
};
use serde_json::{Value, json};

use sqlx::{AssertSqlSafe, Executor as _};
use tenantry::{
    auth::{self, Device},
    entity::users::Role,
    users::{
        self, Account, Login, NewUser,
        identity::{Email, Username},
    },
};
use tenants::{SchemaName, TenantDb, TenantName};
use uuid::Uuid;

use super::{EventStream, PASSWORD, TestApp};

/// A client that leaves no connection idle for so long that the server closes it just when it is used again: a request that
/// is lost so is not sent once more, because nobody knows what became of it.
pub(crate) fn http_client() -> Client {
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none());
    builder.pool_idle_timeout(Duration::from_secs(5)).build().unwrap()
}

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
        let text = if EventStream::is_one(&response) {
            EventStream::of(response).first_moment().await
        } else {
            response.text().await.unwrap()
        };
        Answer { status, headers, text }
    }

    /// Sends it, and takes the answer as it comes.
    pub(crate) async fn open(self) -> EventStream {
        let response = self.builder.send().await.unwrap();
        assert!(EventStream::is_one(&response), "{}", response.text().await.unwrap());
        EventStream::of(response)
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

    /// The status and the code of a problem.
    #[must_use]
    pub(crate) fn said(&self) -> (u16, String) {
        (self.status, text(&self.problem()["code"]))
    }

    /// A header; empty where it is missing.
    #[must_use]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The one answer to a token with whatever wrong with it.
pub(crate) fn assert_not_valid(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 401, "{what}: {}", answer.text);
    assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}");
    assert_eq!(
        answer.problem(),
        json!({
            "type": "about:blank", "title": "Unauthorized", "status": 401, "code": "token_not_valid",
            "detail": "Given token not valid for any token type",
        }),
        "{what}"
    );
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
        Self::sign_up_with(app, &body).await
    }

    /// Signs one up with exactly this body.
    pub(crate) async fn sign_up_with(app: &TestApp, body: &Value) -> Self {
        let answer = app.request("POST", "/api/sign_up/tenant/").json(body).expect(201).await;
        let slug = text(&answer["tenant"]["slug"]);
        Self { id: text(&answer["tenant"]["id"]), owner: User::of(app, &slug, &answer), slug }
    }

    /// The host of this organization.
    pub(crate) fn host(&self, app: &TestApp) -> String {
        format!("{}.localhost:{}", self.slug, app.address.port())
    }

    /// The schema of this organization.
    pub(crate) fn schema(&self) -> SchemaName {
        SchemaName::of(self.id.parse().unwrap())
    }

    /// The database of this organization, from inside.
    pub(crate) async fn db(&self, app: &TestApp) -> TenantDb {
        let name = TenantName::Id(self.id.parse().unwrap());
        app.app.tenancy.database_of(app.app.tenancy.resolver().resolve(name).await.unwrap().unwrap())
    }

    /// Changes a user behind the service's back.
    pub(crate) async fn change(&self, app: &TestApp, user: &User, set: &str) {
        let sql = format!(r#"UPDATE "{}".users SET {set} WHERE pk = '{}'"#, self.schema(), user.pk);
        let done = app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// Another session of the owner, by password.
    pub(crate) async fn log_in(&self, app: &TestApp) -> User {
        let body = json!({"username": self.owner.username, "password": PASSWORD});
        let answer = app.request("POST", "/api/login/").host(&self.host(app)).json(&body).expect(200).await;
        User::of(app, &self.slug, &answer)
    }

    /// Another session of the owner, without the cost of a password.
    pub(crate) async fn sign_in(&self, app: &TestApp) -> User {
        let owner = users::find(&self.db(app).await, self.owner.pk.parse().unwrap()).await.unwrap();
        self.sign_in_as(app, &owner.unwrap()).await
    }

    /// Somebody new in this organization, signed in. Everybody has the same password.
    pub(crate) async fn add_user(&self, app: &TestApp, person: Person<'_>) -> User {
        let account = self.add_account(app, person).await;
        self.sign_in_as(app, &account).await
    }

    /// Somebody new in this organization.
    pub(crate) async fn add_account(&self, app: &TestApp, person: Person<'_>) -> Account {
        let db = self.db(app).await;
        // Hashing it once for all keeps the tests fast.
        let owner = Login::Username(Username::parse(&self.owner.username).unwrap());
        let owner = users::find_credentials(&db, &owner).await.unwrap().unwrap();
        let pk = app.clock.uuid_v7();
        let email = match person.email {
            "" => format!("{}@{}.example", pk.simple(), self.slug),
            email => email.to_owned(),
        };
        let user = NewUser {
            pk,
            username: Username::parse(person.username).unwrap(),
            email: Email::parse(&email).unwrap(),
            password_hash: owner.password_hash,
            first_name: person.first_name.to_owned(),
            last_name: person.last_name.to_owned(),
            role: person.role,
            email_verified_at: None,
            date_joined: app.clock.now(),
        };
        users::insert(&db, user).await.unwrap()
    }

    async fn sign_in_as(&self, app: &TestApp, account: &Account) -> User {
        let (db, tenant) = (self.db(app).await, self.id.parse::<Uuid>().unwrap());
        let device = Device::from_request_without_body(&poem::Request::default()).await.unwrap();
        let signed_in = auth::sign_in(&app.app, &db, tenant, account, &device).await.unwrap();
        User::of(app, &self.slug, &serde_json::to_value(signed_in.answer(account)).unwrap())
    }
}

/// Somebody to be added to an organization.
#[derive(Clone, Copy)]
pub(crate) struct Person<'a> {
    /// The username.
    pub(crate) username: &'a str,
    /// The e-mail address; empty for one of no matter.
    pub(crate) email: &'a str,
    /// The first name.
    pub(crate) first_name: &'a str,
    /// The last name.
    pub(crate) last_name: &'a str,
    /// The role.
    pub(crate) role: Role,
}

impl<'a> Person<'a> {
    /// A member of whom only the name matters.
    pub(crate) fn named(username: &'a str) -> Self {
        Self { username, email: "", first_name: "", last_name: "", role: Role::Member }
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
    /// The refresh token.
    pub(crate) refresh: String,
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
            refresh: text(&login["refresh"]),
            host: format!("{slug}.localhost:{}", app.address.port()),
            client: app.client.clone(),
            address: app.address,
        }
    }

    /// A request by this user, to the host of his organization.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(&self.client, self.address, method, path).host(&self.host).bearer(&self.token)
    }

    /// The same session, at another process.
    pub(crate) fn at(&self, app: &TestApp) -> Self {
        Self { address: app.address, ..self.clone() }
    }

    /// The same session with other tokens: those of this answer.
    pub(crate) fn with(&self, tokens: &Value) -> Self {
        Self { token: text(&tokens["token"]), refresh: text(&tokens["refresh"]), ..self.clone() }
    }

    /// A refresh with this user's refresh token, by nobody, to the host of his organization.
    pub(crate) fn refresh(&self) -> Request {
        self.refresh_with(&self.refresh)
    }

    /// A refresh with another token.
    pub(crate) fn refresh_with(&self, refresh: &str) -> Request {
        Request::new(&self.client, self.address, "POST", "/api/token/refresh/")
            .host(&self.host)
            .json(&json!({"refresh": refresh}))
    }

    /// Who the service says this is.
    pub(crate) async fn me(&self) -> Answer {
        self.request("GET", "/api/current_user/").send().await
    }

    /// What a GET answers, which has to be 200.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request("GET", path).expect(200).await
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

//! What a tenant may have and do, and what operators see of it.

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{
    audit::Actor,
    operators::{self, NewOperator},
    users::identity::{Email, Password},
};

use crate::support::{Organization, PASSWORD, Request, TestApp};

#[cfg(test)]
mod changes;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod mails;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod room;
#[cfg(test)]
mod usage;

const PLANS: &str = "/api/admin/plans/";

/// Somebody who runs the installation, with a key that may do everything.
struct Operator {
    key: String,
}

impl Operator {
    async fn of(app: &TestApp) -> Self {
        let new = NewOperator {
            email: Email::parse("ops@example.com").unwrap(),
            password: Password::parse(PASSWORD.to_owned()).unwrap(),
        };
        let by = Actor::command_line();
        let (_, key) = operators::create_operator_with_key(&app.app, new, &by).await.unwrap();
        Self { key: key.key.expose_secret().to_owned() }
    }

    fn request(&self, app: &TestApp, method: &str, path: &str) -> Request {
        app.request(method, path).bearer(&self.key)
    }

    async fn get(&self, app: &TestApp, path: &str) -> Value {
        self.request(app, "GET", path).expect(200).await
    }

    /// Changes what a tenant may have and do.
    async fn set(&self, app: &TestApp, organization: &Organization, body: &Value) -> Value {
        self.request(app, "PATCH", &tenant(organization)).json(body).expect(200).await
    }

    /// Changes a tenant's own limits.
    async fn limit(&self, app: &TestApp, organization: &Organization, limits: Value) -> Value {
        self.set(app, organization, &json!({"limits": limits})).await
    }

    /// The newest entry of the log.
    async fn last(&self, app: &TestApp) -> Value {
        self.get(app, "/api/admin/audit/?page_size=1").await["results"][0].clone()
    }
}

fn tenant(organization: &Organization) -> String {
    format!("/api/admin/tenants/{}/", organization.id)
}

/// A number from the database.
async fn number(app: &TestApp, sql: &str) -> i64 {
    app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0)
}

/// Does something in the database past everything that guards it.
async fn execute(app: &TestApp, sql: &str) {
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
}

//! What people write on each other's pages.

mod life;
mod mentions;
mod races;
mod removal;
mod threads;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::support::{Organization, Person, Request, TestApp, User};

fn page(user: &User) -> String {
    format!("/api/users/{}/comments/", user.pk)
}

fn path(comment: &Value) -> String {
    format!("/api/comments/{}/", comment["id"].as_str().unwrap())
}

fn replies(comment: &Value) -> String {
    format!("{}replies/", path(comment))
}

/// A comment by somebody on somebody's page, to be sent.
fn comment(by: &User, on: &User, body: &str) -> Request {
    by.request("POST", &page(on)).json(&json!({"body": body}))
}

fn reply(by: &User, on: &User, to: &Value, body: &str) -> Request {
    by.request("POST", &page(on)).json(&json!({"body": body, "parent": to["id"]}))
}

fn edit(by: &User, what: &Value, body: &str) -> Request {
    by.request("PATCH", &path(what)).json(&json!({"body": body}))
}

fn delete(by: &User, what: &Value) -> Request {
    by.request("DELETE", &path(what))
}

fn person(user: &User) -> Value {
    json!({"pk": user.pk, "username": user.username, "first_name": "", "last_name": ""})
}

async fn comment_count(asking: &User, of: &User) -> Value {
    asking.get(&format!("/api/users/{}/", of.pk)).await["comment_count"].clone()
}

/// `acme`, and members of these names.
async fn acme<const N: usize>(app: &TestApp, names: [&str; N]) -> (Organization, [User; N]) {
    let acme = app.sign_up_quietly("acme").await;
    let mut users = Vec::new();
    for name in names {
        users.push(acme.add_user(app, Person::named(name)).await);
    }
    (acme, users.try_into().ok().unwrap())
}

/// The texts a query has in its first column.
async fn texts(app: &TestApp, organization: &Organization, sql: &str) -> Vec<String> {
    let mut superuser = app.superuser().await;
    let path = format!(r#"SET search_path TO "{}""#, organization.schema());
    superuser.execute(AssertSqlSafe(path)).await.unwrap();
    let rows = superuser.fetch_all(AssertSqlSafe(sql.to_owned())).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Who was told of what in the order in which it happened: `ann: mention by bob`.
async fn told(app: &TestApp, organization: &Organization) -> Vec<String> {
    let sql = "SELECT u.username || ': ' || n.kind || ' by ' || coalesce(a.username, '-') FROM notifications AS n \
               JOIN users AS u ON u.pk = n.user_pk LEFT JOIN users AS a ON a.pk = n.actor_pk ORDER BY n.event, 1";
    texts(app, organization, sql).await
}

/// What was done to comments: `bob replied`.
async fn done(app: &TestApp, organization: &Organization) -> Vec<String> {
    let sql = "SELECT u.username || ' ' || a.verb || coalesce(' ' || t.username, '') FROM activities AS a \
               JOIN users AS u ON u.pk = a.actor_pk LEFT JOIN users AS t ON t.pk = a.target_id \
               WHERE a.object_type = 'comment' ORDER BY a.number";
    texts(app, organization, sql).await
}

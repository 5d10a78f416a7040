//! What people are told of: in their inbox, by mail, and as they want it.

mod flows;
mod inbox;
mod mails;
mod preferences;
mod races;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{
    error::ServiceError,
    notifications::{Event, Kind, notify},
    references::Reference,
};
use uuid::Uuid;

use crate::support::{Organization, TestApp, User};

const INBOX: &str = "/api/notifications/";
const ALL_READ: &str = "/api/notifications/mark_all_read/";
const PREFERENCES: &str = "/api/notifications/preferences/";

fn pk(user: &User) -> Uuid {
    user.pk.parse().unwrap()
}

/// Somebody mentions somebody: something of its own each time.
async fn tell(app: &TestApp, organization: &Organization, by: &User, to: &[(&User, Kind)]) -> Uuid {
    let id = app.app.clock.uuid_v7();
    tell_of(app, organization, id, by, to).await.unwrap();
    id
}

async fn tell_of(
    app: &TestApp,
    organization: &Organization,
    id: Uuid,
    by: &User,
    to: &[(&User, Kind)],
) -> Result<(), ServiceError> {
    let tx = organization.db(app).await.begin().await?;
    let event = Event { id, actor: Some(pk(by)), object: Reference::user(pk(by)) };
    let to: Vec<_> = to.iter().map(|(user, kind)| (pk(user), *kind)).collect();
    notify(&app.app, &tx, &event, &to).await?;
    Ok(tx.commit().await?)
}

/// The first cell of the first row, in the schema of the organization.
async fn number(app: &TestApp, organization: &Organization, sql: &str) -> i64 {
    let mut superuser = app.superuser().await;
    let set = format!(r#"SET search_path TO "{}""#, organization.schema());
    superuser.execute(AssertSqlSafe(set)).await.unwrap();
    superuser.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap().get(0)
}

async fn run(app: &TestApp, organization: &Organization, sql: &str) {
    let sql = format!(r#"SET search_path TO "{}"; {sql}"#, organization.schema());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
}

/// `count` and `unread_count`, which have to be those of the rows, and those of each block, too.
async fn counts(app: &TestApp, organization: &Organization, user: &User) -> (i64, i64) {
    let wrong = format!(
        "SELECT count(*) FROM (SELECT number / 1024 AS block, count(*) AS total, \
             count(*) FILTER (WHERE read_at IS NULL) AS unread FROM notifications \
             WHERE user_pk = '{0}' AND number IS NOT NULL GROUP BY 1) AS r \
         FULL JOIN (SELECT * FROM list_blocks WHERE kind = 'inbox' AND owner = '{0}') AS b USING (block) \
         WHERE coalesce(r.total, 0) <> coalesce(b.total, 0) OR coalesce(r.unread, 0) <> coalesce(b.unread, 0)",
        user.pk
    );
    assert_eq!(number(app, organization, &wrong).await, 0, "blocks that are counted wrong");
    let rows =
        format!("SELECT count(*) FROM notifications WHERE number IS NOT NULL AND user_pk = '{}'", user.pk);
    let page = user.get(INBOX).await;
    let (count, unread) = (page["count"].as_i64().unwrap(), page["unread_count"].as_i64().unwrap());
    assert_eq!(count, number(app, organization, &rows).await);
    assert_eq!(unread, number(app, organization, &format!("{rows} AND read_at IS NULL")).await);
    (count, unread)
}

/// The results of a page.
async fn results(user: &User, query: &str) -> Vec<Value> {
    user.get(&format!("{INBOX}{query}")).await["results"].as_array().unwrap().clone()
}

fn path(notification: &Value) -> String {
    format!("{INBOX}{}/", notification["id"].as_str().unwrap())
}

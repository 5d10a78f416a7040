//! Futures that are dropped in the middle.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use sea_orm::{ConnectionTrait, DbErr};
use sqlx::{AssertSqlSafe, Executor};
use tenants::TenantDb;

use crate::support::{Options, TestApp};

use super::*;

/// Polls a future so many times and then drops it.
struct CutOff<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for CutOff<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        match self.future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // Cut off as soon as it waits for the last time.
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "short statements for a long test")]
async fn unit_of_work(db: &TenantDb, name: &str) -> Result<(), DbErr> {
    let tx = db.begin().await?;
    // Each takes long enough to be waited for, however fast PostgreSQL answers.
    tx.execute_raw(sql("UPDATE users SET first_name = $1 FROM pg_sleep(0.01)", [name.into()])).await?;
    tx.query_all_raw(sql("SELECT pk, username, email FROM users, pg_sleep(0.01)", [])).await?;
    tx.execute_raw(sql("UPDATE users SET last_name = $1 FROM pg_sleep(0.01)", [name.into()])).await?;
    tx.commit().await
}

#[tokio::test]
async fn a_unit_of_work_may_be_cut_off_at_every_await() {
    cut_off_units(TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await).await;
}

#[tokio::test]
async fn a_unit_of_work_behind_a_pooler_may_be_cut_off_at_every_await() {
    let options = Options { lane_pool_size: 2, ..Options::default() };
    let Some(app) = TestApp::behind_pooler(options).await else { return };
    cut_off_units(app).await;
}

async fn cut_off_units(app: TestApp) {
    let (one, other) = neighbours(&app).await;
    let (ones, others) = (database(&app, &one).await, database(&app, &other).await);
    let (own, foreign) = (tenant(&app, &one).await, tenant(&app, &other).await);

    let mut completed = 0;
    for polls in 1..200 {
        let work = Box::pin(unit_of_work(&ones, "Anna"));
        if let Some(result) = (CutOff { future: work, polls }).await {
            result.unwrap();
            completed += 1;
        }
        // Whichever connection comes next, of whichever tenant: it is the tenant's, and nobody's transaction is open.
        for (db, tenant) in [(&others, &foreign), (&ones, &own), (&others, &foreign)] {
            let schema = tenant.schema.to_string();
            assert_eq!(state(db).await, (schema.clone(), schema), "after {polls} polls");
        }
        let names = ask(&ones, "SELECT first_name, last_name FROM users").await.unwrap().remove(0);
        let name = |column: &str| names.try_get::<String>("", column).unwrap();
        assert_eq!(name("first_name"), name("last_name"), "half a unit of work after {polls} polls");
        if completed == 3 {
            break;
        }
    }
    assert_eq!(completed, 3, "the unit of work ends after some polls");
    let figures = figures(&app);
    assert!(
        figures.closed_unfinished == 0 && figures.opened <= 3,
        "whoever gave up cost no connection: {figures:?}"
    );
}

#[tokio::test]
async fn a_statement_may_be_cut_off_at_every_await() {
    let app = TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await;
    let (one, other) = neighbours(&app).await;
    let (ones, others) = (database(&app, &one).await, database(&app, &other).await);
    let (own, foreign) = (tenant(&app, &one).await, tenant(&app, &other).await);
    for polls in 1..40 {
        let query = Box::pin(ask(
            &ones,
            "SELECT username, repeat(username, 20000) FROM users, generate_series(1, 20)",
        ));
        let _ = (CutOff { future: query, polls }).await;
        let rows = ask(&others, "SELECT username FROM users").await.unwrap();
        assert_eq!(rows.len(), 1);
        let name: String = rows[0].try_get("", "username").unwrap();
        assert_eq!(name, other.owner.username, "after {polls} polls");
        for (db, tenant) in [(&ones, &own), (&others, &foreign)] {
            let schema = tenant.schema.to_string();
            assert_eq!(state(db).await, (schema.clone(), schema), "after {polls} polls");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_costs_no_connection() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    one.owner.get("/api/current_user/").await;
    let mut superuser = app.superuser().await;
    let schema = tenant(&app, &one).await.schema.clone();
    superuser.execute(AssertSqlSafe(format!(r#"BEGIN; LOCK TABLE "{schema}".sessions"#))).await.unwrap();
    let mut watcher = app.superuser().await;
    let mut waiting = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let row = watcher.fetch_one(sql).await.unwrap();
        sqlx::Row::get::<i64, _>(&row, 0)
    };
    let clients: Vec<_> =
        (0..8).map(|_| tokio::spawn(one.owner.request("GET", "/api/current_user/").send())).collect();
    // One tenant has at most half of its lane's connections; the others wait for these.
    until(async || waiting().await == 2).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    superuser.execute("ROLLBACK").await.unwrap();
    assert_eq!(one.owner.get("/api/current_user/").await["username"], one.owner.username.as_str());
    until(async || waiting().await == 0).await;
    let figures = figures(&app);
    assert!(figures.closed_unfinished == 0 && figures.opened <= 2 && figures.waiting == 0, "{figures:?}");
}

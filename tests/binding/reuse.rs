//! Connections that are used again, and in what state.

use sea_orm::ConnectionTrait;
use sqlx::Executor;
use tenants::{Fault, PoolFigures, fault};

use crate::support::{Options, TestApp};

use super::*;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a statement that fails")]
async fn a_failed_transaction_cannot_be_committed() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    let tx = db.begin().await.unwrap();
    tx.execute_raw(sql("UPDATE users SET first_name = 'lost'", [])).await.unwrap();
    assert!(tx.execute_raw(sql("SELECT 1 / 0", [])).await.is_err());
    let error = tx.commit().await.unwrap_err();
    assert!(error.to_string().contains("rolled back"), "{error}");
    assert_eq!(one.owner.get("/api/current_user/").await["first_name"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_bound_already_is_not_bound_again() {
    let app = TestApp::start().await;
    let (one, other) = neighbours(&app).await;
    let (ones, others) = (database(&app, &one).await, database(&app, &other).await);
    ask(&ones, "SELECT pk FROM users").await.unwrap();
    ask(&others, "SELECT pk FROM users").await.unwrap();
    let before = figures(&app);
    for db in [&ones, &others, &ones, &others, &ones, &others] {
        assert_eq!(ask(db, "SELECT pk FROM users").await.unwrap().len(), 1);
    }
    let after = figures(&app);
    assert_eq!(
        after,
        PoolFigures { reused: before.reused + 6, ..before },
        "each tenant finds its own connection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_makes_the_next_use_bind_again_and_a_broken_rule_does_not() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    ask(&db, "SELECT pk FROM users").await.unwrap();
    let before = figures(&app);
    let broken = "INSERT INTO settings (singleton, name, created_at) VALUES (2, '', now())";
    assert!(matches!(fault(&ask(&db, broken).await.unwrap_err()), Fault::Check(_)));
    ask(&db, "SELECT pk FROM users").await.unwrap();
    let unharmed = figures(&app);
    assert_eq!((unharmed.rebound, unharmed.reused), (before.rebound, before.reused + 2));
    ask(&db, "SELECT 1 / 0").await.unwrap_err();
    ask(&db, "SELECT pk FROM users").await.unwrap();
    assert_eq!(figures(&app).rebound, before.rebound + 1);
    assert_eq!(figures(&app).opened, before.opened, "all on one connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_unnoticed_costs_nobody_a_read() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    for begin in [false, true] {
        ask(&db, "SELECT pk FROM users").await.unwrap();
        kill_backends(&mut app.superuser().await).await;
        if begin {
            let tx = db.begin().await.unwrap();
            assert_eq!(ask(&tx, "SELECT pk FROM users").await.unwrap().len(), 1);
        } else {
            assert_eq!(ask(&db, "SELECT pk FROM users").await.unwrap().len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_ends_and_leaves_its_connection_in_order() {
    let app = TestApp::start().await;
    let one = app.sign_up("anna").await;
    let mut superuser = app.superuser().await;
    superuser
        .execute(r#"UPDATE tenantry.tenants SET limits = '{"statement_timeout_ms": 50}'"#)
        .await
        .unwrap();
    let tenant = tenant(&app, &one).await;
    app.app.tenancy.resolver().changed(tenant.id);
    let db = database(&app, &one).await;
    assert_eq!(fault(&ask(&db, "SELECT pg_sleep(20)").await.unwrap_err()), Fault::TimedOut);
    let schema = tenant.schema.to_string();
    assert_eq!(state(&db).await, (schema.clone(), schema));
    let tx = db.begin().await.unwrap();
    assert_eq!(fault(&ask(&tx, "SELECT pg_sleep(20)").await.unwrap_err()), Fault::TimedOut);
    drop(tx);
    assert_eq!(ask(&db, "SELECT pk FROM users").await.unwrap().len(), 1);
    assert_eq!(figures(&app).closed_unfinished, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_unit_of_work_rolls_it_back() {
    let app = TestApp::with(Options { lane_pool_size: 2, ..Options::default() }).await;
    let one = app.sign_up("anna").await;
    let db = database(&app, &one).await;
    for _ in 0..3 {
        let inside = db.clone();
        let unit = tokio::spawn(async move {
            let tx = inside.begin().await.unwrap();
            ask(&tx, "UPDATE users SET first_name = 'lost' RETURNING pk").await.unwrap();
            panic!("in the middle");
        });
        assert!(unit.await.unwrap_err().is_panic());
        // The next unit of work waits for the row's lock, which only the end of that transaction gives up.
        let rows = ask(&db, "UPDATE users SET last_name = 'kept' RETURNING first_name").await.unwrap();
        assert_eq!(rows[0].try_get::<String>("", "first_name").unwrap(), "");
    }
}

//! Behind a pooler that gives each transaction another connection: a real PgBouncer.
//!
//! The suite as a whole can be run so, too, where it does not look at connections: `TENANTRY_TEST_POOLING=transaction`.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};
use serde_json::json;
use sqlx::{Executor as _, Row as _};
use tenants::TenantDb;

use crate::support::{Database, Options, PASSWORD, Person, TestApp};

#[expect(clippy::disallowed_methods, reason = "the connection is asked about itself")]
async fn ask(db: &impl ConnectionTrait, text: &str) -> Result<Vec<QueryResult>, DbErr> {
    db.query_all_raw(Statement::from_string(DbBackend::Postgres, text)).await
}

async fn setting(db: &impl ConnectionTrait, name: &str) -> String {
    let row = ask(db, &format!("SELECT current_setting('{name}') AS value")).await.unwrap().remove(0);
    row.try_get("", "value").unwrap()
}

/// What guards a connection is there in both modes, whoever it is bound to.
#[tokio::test(flavor = "multi_thread")]
async fn every_unit_of_work_is_bound_and_guarded() {
    for app in [Some(TestApp::start().await), TestApp::behind_pooler(Options::default()).await] {
        let Some(app) = app else { return };
        let one = app.sign_up("anna").await;
        let db = one.db(&app).await;
        let schema = one.schema().to_string();
        let tx = db.begin().await.unwrap();
        for (name, expected) in [
            ("role", schema.as_str()),
            ("search_path", &format!("{schema}, pg_temp")),
            ("statement_timeout", "10s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "30s"),
            ("client_connection_check_interval", "1s"),
        ] {
            assert_eq!(setting(&tx, name).await, expected, "{name} in a transaction");
            assert_eq!(setting(&db, name).await, expected, "{name} of a single statement");
        }
        tx.commit().await.unwrap();
        let catalog = app.app.tenancy.catalog();
        for (name, expected) in [
            ("role", "none"),
            ("search_path", "tenantry, pg_temp"),
            ("statement_timeout", "30s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ] {
            assert_eq!(setting(catalog, name).await, expected, "{name} of the catalog");
        }
    }
}

/// Whatever ends a transaction, what it was bound to ends with it: the next one on that connection begins as the login,
/// which may read nothing.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a transaction is ended behind the back of what guards it")]
async fn no_role_stays_behind_on_a_connection_of_the_pooler() {
    let Some(app) = TestApp::behind_pooler(Options::default()).await else { return };
    let one = app.sign_up("anna").await;
    let db: TenantDb = one.db(&app).await;
    for end in ["COMMIT", "ROLLBACK", "SELECT 1 / 0", "dropped"] {
        for _ in 0..4 {
            let tx = db.begin().await.unwrap();
            assert_eq!(setting(&tx, "role").await, one.schema().to_string());
            match end {
                "COMMIT" => tx.commit().await.unwrap(),
                "ROLLBACK" => tx.rollback().await,
                "dropped" => drop(tx),
                failing => drop(ask(&tx, failing).await.unwrap_err()),
            }
        }
        let tx = db.begin().await.unwrap();
        let end = Statement::from_string(DbBackend::Postgres, "COMMIT");
        tx.execute_raw(end).await.unwrap();
        // Nobody's transaction now, on whichever connection comes.
        for _ in 0..6 {
            let row = ask(&tx, "SELECT current_user::text AS login, current_setting('role') AS role").await;
            let row = row.unwrap().remove(0);
            let column = |name: &str| row.try_get::<String>("", name).unwrap();
            assert!(column("login").contains("_lane_"), "{}", column("login"));
            assert_eq!(column("role"), "none");
        }
        let error = ask(&tx, "SELECT pk FROM users").await.unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
    }
}

/// Nothing that lives in a session goes through the pooler: clients and connections behind it come to no harm.
#[tokio::test(flavor = "multi_thread")]
async fn people_work_behind_a_pooler_as_they_do_without() {
    for app in [Some(TestApp::start().await), TestApp::behind_pooler(Options::default()).await] {
        let Some(app) = app else { return };
        let one = app.sign_up("anna").await;
        let bert = one.add_user(&app, Person::named("bert")).await;
        let login = app.request("POST", "/api/login/").host(&one.host(&app));
        let login = login.json(&json!({"username": "bert", "password": PASSWORD})).expect(200).await;
        let bert = bert.with(&login);
        let mut stream = one.owner.request("GET", "/api/notifications/stream/").open().await;
        let path = format!("/api/users/{}/comments/", one.owner.pk);
        let comment = bert
            .request("POST", &path)
            .json(&json!({"body": format!("Hello @{}", one.owner.username)}))
            .expect(201)
            .await;
        // Heartbeats come for ever.
        let event = tokio::time::timeout(std::time::Duration::from_secs(30), stream.number()).await;
        assert_eq!(event.expect("a commit is heard of past the pooler"), 1);
        assert_eq!(one.owner.get(&path).await["count"], 1);
        assert_eq!(one.owner.get("/api/notifications/").await["count"], 1);
        let id = comment["id"].as_str().unwrap();
        let answer = bert.request("DELETE", &format!("/api/comments/{id}/")).send().await;
        assert_eq!(answer.status, 204, "{}", answer.text);
        assert_eq!(one.owner.get(&path).await["count"], 0);
        let twice = json!({"first_name": "Bert"});
        assert_eq!(
            bert.request("PATCH", "/api/current_user/").json(&twice).expect(200).await["first_name"],
            "Bert"
        );
        crate::support::assert_counts(&app, &one).await;
        let mails = app.mails().await;
        assert!(!mails.is_empty(), "jobs are taken and done");
    }
}

/// The mode of a pooler works without one, too: nobody has to change both at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn binding_each_transaction_works_without_a_pooler() {
    let mut database = Database::create().await;
    database.settings.pooling = tenants::Pooling::Transaction;
    let app = TestApp::on(database, tenantry::clock::Clock::system(), Options::default()).await;
    let one = app.sign_up("anna").await;
    assert_eq!(one.owner.get("/api/current_user/").await["username"], one.owner.username.as_str());
    let sessions = "SELECT count(*) FROM pg_prepared_statements";
    let named: i64 = app.superuser().await.fetch_one(sessions).await.unwrap().get(0);
    assert_eq!(named, 0);
}

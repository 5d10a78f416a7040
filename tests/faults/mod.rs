//! What the service answers while its database fails, and what is there afterwards.
//!
//! Each test prints a line of figures: `cargo test -- --nocapture faults`.

mod disk;
mod load;
mod network;
mod server;

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Instant};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tenantry::embedded::{self, Cluster, Durability};
use tenants::{PoolFigures, TenantDb};

use crate::support::{Database, Options, Organization, PgBouncer, Proxy, TestApp, Weather, eventually, say};

use load::{Load, Toll};

/// A cluster of one's own. What survives a crash of PostgreSQL and what survives one of the machine are two things; this
/// is for the former.
async fn cluster() -> (TempDir, embedded::Options, Cluster) {
    let permissions = Permissions::from_mode(0o711);
    let directory =
        tempfile::Builder::new().prefix("tenantry-test-").permissions(permissions).tempdir().unwrap();
    let options = embedded::Options {
        durability: Durability::Relaxed,
        max_connections: 60,
        ..embedded::Options::new(directory.path().join("data"))
    };
    let cluster = Cluster::start(&options).await.unwrap();
    (directory, options, cluster)
}

/// Waits until PostgreSQL takes connections again.
#[expect(clippy::disallowed_methods, reason = "the database is looked at from outside")]
async fn until_back(superuser: &SecretString) {
    eventually("PostgreSQL has recovered", async || {
        PgConnection::connect(superuser.expose_secret()).await.is_ok()
    })
    .await;
}

/// The socket that a URL leads to.
fn socket(url: &SecretString) -> PathBuf {
    let options: PgConnectOptions = url.expose_secret().parse().unwrap();
    options.get_socket().unwrap().join(format!(".s.PGSQL.{}", options.get_port()))
}

/// A service with a proxy between it and its database, where its requests go; and, if it is `direct_too`, all else.
async fn behind_proxy(mut database: Database, options: Options, direct_too: bool) -> (TestApp, Proxy) {
    let proxy = Proxy::before(socket(&database.settings.owner)).await;
    database.settings.owner = proxy.through(&database.settings.owner);
    if direct_too {
        database.settings.direct = proxy.through(&database.settings.direct);
    }
    let clock = tenantry::clock::Clock::system();
    (TestApp::on(database, clock, options).await, proxy)
}

/// The figures of all lanes together.
fn figures(app: &TestApp) -> PoolFigures {
    app.app.tenancy.lane_figures().into_iter().sum()
}

#[expect(clippy::disallowed_methods, reason = "the database is asked what no request asks")]
async fn ask(db: &impl ConnectionTrait, text: &str) -> Result<Vec<QueryResult>, DbErr> {
    db.query_all_raw(Statement::from_string(DbBackend::Postgres, text)).await
}

/// A request until it is answered well: how often it was sent, and how long that took in ms.
async fn recovery(organization: &Organization) -> (u32, u128) {
    let start = Instant::now();
    let mut interval = tokio::time::interval(std::time::Duration::from_millis(50));
    for tries in 1..=200 {
        interval.tick().await;
        let answer = organization.owner.request("GET", "/api/users/").send().await;
        if answer.status == 200 {
            return (tries, start.elapsed().as_millis());
        }
        load::assert_unavailable(&answer);
    }
    panic!("it did not recover");
}

/// No connection is held for nobody, none is waited for, and there are no more than there may be.
async fn assert_no_leak(app: &TestApp, organizations: &[&Organization]) {
    let most = 2 * app.settings().lane_pool.size;
    eventually("every connection is given back", async || {
        let figures = figures(app);
        figures.waiting == 0 && figures.open <= most
    })
    .await;
    // Each can have as many as it may, at once: no right to one was lost.
    for organization in organizations {
        let db: TenantDb = organization.db(app).await;
        // Another lane may have its own last pause before it looks for the database again.
        eventually("two transactions are open at once", async || {
            let (one, other) = tokio::join!(db.begin(), db.begin());
            let (Ok(one), Ok(other)) = (one, other) else { return false };
            assert_eq!(ask(&one, "SELECT pk FROM users LIMIT 1").await.unwrap().len(), 1);
            assert_eq!(ask(&other, "SELECT pk FROM users LIMIT 1").await.unwrap().len(), 1);
            true
        })
        .await;
    }
}

/// The same, directly and behind a PgBouncer of its own before this superuser's cluster, where there is one.
async fn behind(
    superuser: &SecretString,
    pooled: bool,
    database: Database,
) -> Option<(Database, Option<PgBouncer>)> {
    if !pooled {
        return Some((database, None));
    }
    let between = PgBouncer::start(superuser).await?;
    Some((database.behind(&between).await, Some(between)))
}

/// What a test came to, on a line.
fn report(name: &str, toll: &Toll, recovered: (u32, u128), app: &TestApp) {
    let figures = figures(app);
    let (tries, ms) = recovered;
    say(&format!(
        "faults | {name} | {} requests | {:?} by status | {} writes acknowledged, 0 lost | {} in doubt | recovered in \
         {ms} ms, {tries} tries | {} opened, {} failed, {} refused at once",
        toll.requests,
        toll.statuses,
        toll.acknowledged.len(),
        toll.in_doubt.len(),
        figures.opened,
        figures.failed,
        figures.refused
    ));
}

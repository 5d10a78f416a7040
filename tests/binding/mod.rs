//! Whose rows a connection sees: what PostgreSQL refuses, and what no cut-off, race or error may change.

mod cut_off;
mod refusals;
mod reuse;
mod stress;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tenants::{Fault, PoolFigures, Tenant, TenantDb, TenantName, fault};

use crate::support::{Organization, TestApp};

/// Two organizations whose tenants share a lane.
async fn neighbours(app: &TestApp) -> (Organization, Organization) {
    let mut known: Vec<(u16, Organization)> = Vec::new();
    for slug in ["anna", "bert", "cora", "dirk", "emma", "finn", "gina", "hugo"] {
        let organization = app.sign_up(slug).await;
        let lane = tenant(app, &organization).await.lane;
        if let Some(index) = known.iter().position(|(other, _)| *other == lane) {
            return (known.swap_remove(index).1, organization);
        }
        known.push((lane, organization));
    }
    panic!("of three tenants, two share one of two lanes");
}

async fn tenant(app: &TestApp, organization: &Organization) -> Arc<Tenant> {
    let name = TenantName::Slug(organization.slug.parse().unwrap());
    app.app.tenancy.resolver().resolve(name).await.unwrap().unwrap()
}

async fn database(app: &TestApp, organization: &Organization) -> TenantDb {
    app.app.tenancy.database_of(tenant(app, organization).await)
}

#[expect(clippy::disallowed_methods, reason = "what must be refused cannot be built by sea-query")]
fn sql(text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}

#[expect(clippy::disallowed_methods, reason = "what must be refused cannot be built by sea-query")]
async fn ask(db: &impl ConnectionTrait, text: &str) -> Result<Vec<QueryResult>, DbErr> {
    db.query_all_raw(sql(text, [])).await
}

fn refused<T>(result: Result<T, DbErr>) -> bool {
    result.is_err_and(|error| {
        fault(&error) == Fault::TenantChanged && error.to_string().contains("permission denied")
    })
}

/// Who the next connection is and where it works; and that nobody's transaction is open on it.
#[expect(clippy::disallowed_methods, reason = "outside of a transaction, this is an error")]
async fn state(db: &TenantDb) -> (String, String) {
    // Behind a pooler a single statement has a transaction of its own, in which nobody can have set a savepoint.
    let error = db.execute_raw(sql("ROLLBACK TO SAVEPOINT somebody_s", [])).await.unwrap_err();
    let says = error.to_string();
    assert!(
        says.contains("can only be used in transaction blocks") || says.contains("does not exist"),
        "{says}"
    );
    binding_of(db).await
}

/// Who the next connection is and where it works.
async fn binding_of(db: &impl ConnectionTrait) -> (String, String) {
    let row = ask(db, "SELECT current_user::text AS role, current_schema()::text AS schema")
        .await
        .unwrap()
        .remove(0);
    let column = |name: &str| row.try_get::<String>("", name).unwrap();
    (column("role"), column("schema"))
}

/// A connection as a lane's login has it before it is bound.
async fn unbound(app: &TestApp, tenant: &Tenant) -> PgConnection {
    let mut connection = app.superuser().await;
    let members = format!(
        "SELECT m.rolname::text FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member \
         JOIN pg_roles g ON g.oid = a.roleid WHERE g.rolname = '{}' AND m.rolcanlogin AND NOT m.rolcreaterole",
        tenant.schema
    );
    let row = connection.fetch_one(AssertSqlSafe(members)).await.unwrap();
    let lane: String = sqlx::Row::get(&row, 0);
    connection.execute(AssertSqlSafe(format!(r#"SET SESSION AUTHORIZATION "{lane}""#))).await.unwrap();
    connection
}

/// Waits until it is so, and fails where that takes unreasonably long.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < end, "it never came to that");
        tokio::task::yield_now().await;
    }
}

/// The figures of all lanes together.
fn figures(app: &TestApp) -> PoolFigures {
    app.app.tenancy.lane_figures().into_iter().sum()
}

/// Ends every connection of a lane to this database, whatever it is at. Returns how many there were.
async fn kill_backends(superuser: &mut PgConnection) -> usize {
    let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND usename LIKE '%\\_lane\\_%'";
    superuser.fetch_all(sql).await.unwrap().len()
}

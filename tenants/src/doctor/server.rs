//! The server itself: its version, its clock and its limits.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Finding, unchecked};
use crate::{
    Error,
    install::{self, Installation},
    tenancy::{BULK_CONNECTIONS, CATALOG_CONNECTIONS, LISTENER_CONNECTIONS, OWNER_CONNECTIONS},
};

/// A token or a lease that one clock has just made must not look used up to the other.
const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(1);

pub(super) async fn version(connection: &mut PgConnection) -> Result<Finding, Finding> {
    install::check_server(connection).map_err(|error| {
        Finding::problem("server", "server_too_old", error.to_string(), "install PostgreSQL 14 or newer")
    })?;
    let version: String = sqlx::query_scalar("SELECT current_setting('server_version')")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| unchecked("server", error))?;
    Ok(Finding::ok("server", format!("PostgreSQL {version}")))
}

/// Compares the clocks. The database's is read somewhere between the two looks at ours.
pub(super) async fn clock(
    connection: &mut PgConnection,
    now: impl Fn() -> DateTime<Utc>,
) -> Result<Finding, sqlx::Error> {
    let before = now();
    let theirs: DateTime<Utc> =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *connection).await?;
    let after = now();
    let (skew, than) = if theirs < before {
        (before - theirs, "behind")
    } else {
        ((theirs - after).max(TimeDelta::zero()), "ahead of")
    };
    if skew <= TOLERATED_SKEW {
        return Ok(Finding::ok("clock", "the database's agrees with this machine's"));
    }
    let seconds = skew.as_seconds_f64();
    Ok(Finding::warning(
        "clock",
        "clock_skew",
        format!("the database's is {seconds:.1} s {than} this machine's"),
        "let both be set by NTP: tokens, links and jobs depend on the time",
    ))
}

/// Whether the server has room for this process, and for a dump of all tenants.
pub(super) async fn limits(
    connection: &mut PgConnection,
    installation: &Installation,
    lane_pool: usize,
) -> Result<Vec<Finding>, Error> {
    let (most, reserved, locks, tables, open, taken, size): (i64, i64, i64, i64, i64, i64, String) = sqlx::query_as(
        "SELECT current_setting('max_connections')::bigint, \
         current_setting('superuser_reserved_connections')::bigint, \
         current_setting('max_locks_per_transaction')::bigint \
             * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint), \
         (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN tenantry.tenants t ON t.schema_name = n.nspname WHERE c.relkind IN ('r', 'p', 'S')), \
         (SELECT greatest(sum(numbackends) - 1, 0)::bigint FROM pg_stat_database), \
         (SELECT count(*) FROM pg_locks WHERE NOT fastpath), \
         pg_size_pretty(pg_database_size(current_database()))",
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut findings = Vec::new();
    let lanes = usize::from(installation.lanes) * lane_pool;
    let needed = i64::try_from(
        lanes + OWNER_CONNECTIONS + BULK_CONNECTIONS + CATALOG_CONNECTIONS + LISTENER_CONNECTIONS,
    )
    .unwrap_or(i64::MAX);
    let free = most - reserved;
    let select = "SELECT datconnlimit FROM pg_database WHERE datname = current_database()";
    let limit: i32 = sqlx::query_scalar(select).fetch_one(&mut *connection).await?;
    if (0..needed).contains(&i64::from(limit)) {
        findings.push(Finding::problem(
            "connections",
            "database_limited",
            format!("one process may open {needed}, and the database lets {limit} in (CONNECTION LIMIT)"),
            "have whoever owns the database run ALTER DATABASE NAME CONNECTION LIMIT -1",
        ));
    }
    findings.push(if needed > free {
        Finding::problem(
            "connections",
            "too_few_connections",
            format!("one process may open {needed}, and the server has {free}"),
            format!("raise max_connections to {} or lower TENANTRY_LANE_POOL_SIZE", needed + reserved),
        )
    } else if needed > free - open {
        Finding::warning(
            "connections",
            "connections_scarce",
            format!(
                "of {free} there are {open} in use: another process, which may open {needed}, might find none"
            ),
            format!("raise max_connections to {} before you start another one", open + needed + reserved),
        )
    } else {
        Finding::ok(
            "connections",
            format!("one process may open {needed} of the {free} there are, {open} are open"),
        )
    });
    // What changes the schemas of tenants, purges among it, takes what is free; without, it comes to a halt.
    if taken > locks / 2 {
        findings.push(Finding::warning(
            "locks",
            "locks_taken",
            format!("{taken} of {locks} are taken: migrations and purges go slowly, or fail"),
            "look in pg_locks for who takes them, or raise max_locks_per_transaction",
        ));
    }
    findings.push(if tables > locks {
        Finding::warning(
            "locks",
            "too_few_locks",
            format!("there are {tables} tenant tables and room for {locks} locks, so pg_dump of the whole database fails"),
            format!("raise max_locks_per_transaction to {}", tables.div_euclid(most) + 64),
        )
    } else {
        Finding::ok("locks", format!("{tables} tenant tables, room for {locks} locks, {taken} are taken"))
    });
    findings.push(Finding::ok("size", format!("the database has {size}")));
    Ok(findings)
}

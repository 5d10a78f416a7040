//! Jobs that nobody does, or that cannot be done.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::Finding;

/// Workers look each second and hold a job for two minutes at most: what is due for longer than this, nobody takes.
const OVERDUE: TimeDelta = TimeDelta::minutes(10);
/// A mail server may be away for a while, at a restart or because it wants to see a stranger come back (greylisting).
const FAILING: TimeDelta = TimeDelta::hours(1);

pub(super) async fn check(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<Vec<Finding>, sqlx::Error> {
    let (parked, overdue, failing): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE j.status = 'parked'), \
         count(*) FILTER (WHERE j.status IN ('queued', 'running') AND coalesce(j.leased_until, j.run_at) < $1 \
             AND j.run_at < $1 AND (t.id IS NULL OR t.status = 'active' AND NOT t.mails_held)), \
         count(*) FILTER (WHERE j.status IN ('queued', 'running') AND j.error IS NOT NULL AND j.due_since < $2) \
         FROM tenantry.jobs j LEFT JOIN tenantry.tenants t ON t.id = j.tenant_id WHERE j.status <> 'done'",
    )
    .bind(now - OVERDUE)
    .bind(now - FAILING)
    .fetch_one(&mut *connection)
    .await?;
    let mut findings = Vec::new();
    if parked > 0 {
        findings.push(Finding::warning(
            "jobs",
            "jobs_parked",
            format!("{parked} failed for good and wait for you"),
            "`tenantry jobs list --status parked` says why; then `tenantry jobs retry --all-failed`",
        ));
    }
    if overdue > 0 {
        findings.push(Finding::warning(
            "jobs",
            "jobs_overdue",
            format!(
                "{overdue} are due for more than {} minutes, and nobody does them",
                OVERDUE.num_minutes()
            ),
            "see that a `tenantry serve` runs on this database, and what its log says",
        ));
    }
    if failing > 0 {
        findings.push(Finding::warning(
            "jobs",
            "jobs_failing",
            format!("{failing} keep failing for more than an hour"),
            "`tenantry jobs list` says why; they are tried for two days",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("jobs", "none is stuck"));
    }
    Ok(findings)
}

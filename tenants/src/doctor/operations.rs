//! Operations that nobody does, or that failed.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Finding, few};

const CHECK: &str = "operations";
/// Whoever has a hand free takes one within a second, and one whose process died within a minute; two long ones may be
/// before it.
const OVERDUE: TimeDelta = TimeDelta::minutes(10);
/// What failed longer ago is history.
const RECENT: TimeDelta = TimeDelta::days(7);

pub(super) async fn check(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<Vec<Finding>, sqlx::Error> {
    let stuck: Vec<String> = sqlx::query_scalar(
        "SELECT kind || coalesce(' of ' || tenant_slug, '') FROM tenantry.operations \
         WHERE status IN ('queued', 'running') AND coalesce(leased_until, created_at) < $1 ORDER BY created_at",
    )
    .bind(now - OVERDUE)
    .fetch_all(&mut *connection)
    .await?;
    // What went well later, or what is being tried again, needs nobody.
    let failed: Vec<String> = sqlx::query_scalar(
        "SELECT o.kind || coalesce(' of ' || o.tenant_slug, '') FROM tenantry.operations o \
         WHERE o.status = 'failed' AND o.finished_at > $1 AND NOT EXISTS (SELECT FROM tenantry.operations later \
             WHERE later.kind = o.kind AND later.tenant_id IS NOT DISTINCT FROM o.tenant_id \
             AND later.created_at > o.created_at AND later.status <> 'failed') ORDER BY o.finished_at DESC",
    )
    .bind(now - RECENT)
    .fetch_all(&mut *connection)
    .await?;
    let half_gone: Vec<String> = sqlx::query_scalar(
        "SELECT slug FROM tenantry.tenants t WHERE status = 'purging' AND NOT EXISTS ( \
             SELECT FROM tenantry.operations o WHERE o.tenant_id = t.id AND o.status IN ('queued', 'running')) \
         ORDER BY slug",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut findings = Vec::new();
    if !stuck.is_empty() {
        findings.push(Finding::warning(
            CHECK,
            "operations_overdue",
            format!(
                "nobody has been at these for more than {} minutes: {}",
                OVERDUE.num_minutes(),
                few(&stuck)
            ),
            "see that a `tenantry serve` runs on this database; `tenantry operation resume ID` does one here",
        ));
    }
    if !failed.is_empty() {
        findings.push(Finding::warning(
            CHECK,
            "operations_failed",
            format!("{} failed within {} days: {}", failed.len(), RECENT.num_days(), few(&failed)),
            "`tenantry operation list --status failed` says why; `tenantry operation resume ID` tries one again",
        ));
    }
    if !half_gone.is_empty() {
        findings.push(Finding::warning(
            CHECK,
            "purges_stopped",
            format!("tenants are half gone, and nobody purges them: {}", few(&half_gone)),
            "`tenantry tenant purge SLUG --yes` goes on; the clean-up of a `tenantry serve` does within a day",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "none is stuck"));
    }
    Ok(findings)
}

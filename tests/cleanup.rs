//! What is over is deleted, in every tenant, by whichever process comes to it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::cleanup::{self, BATCH, Cleaned};

use crate::support::{Organization, Person, TestApp};

const DAY: Duration = Duration::from_hours(24);
const TABLES: [&str; 7] =
    ["sessions", "tokens", "sign_ups", "invitations", "devices", "idempotency_keys", "throttles"];

async fn pass(app: &TestApp) -> Cleaned {
    cleanup::pass(&app.app, app.clock.now()).await.unwrap()
}

async fn run(app: &TestApp, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut app.superuser().await).await.unwrap();
}

/// What is left of the marks that [`fill`] has made.
async fn left(app: &TestApp, organization: &Organization) -> String {
    let schema = organization.schema();
    let sql = format!(
        r#"SET search_path TO "{schema}";
        SELECT string_agg(name, ' ' ORDER BY name) FROM (
            SELECT 'session-' || user_agent AS name FROM sessions WHERE user_agent IN ('over', 'not')
            UNION ALL SELECT 'link-' || split_part(email, '@', 1) FROM tokens
            UNION ALL SELECT 'sign_up-' || username FROM sign_ups
            UNION ALL SELECT 'invitation-' || split_part(email, '@', 1) FROM invitations
            UNION ALL SELECT 'device-' || user_agent FROM devices WHERE user_agent IN ('over', 'not')
            UNION ALL SELECT 'key-' || mark FROM idempotency_keys JOIN (VALUES ('over'), ('not')) AS m (mark)
                ON request = sha256(mark::bytea)
            UNION ALL SELECT 'throttle-' || convert_from(key, 'UTF8') FROM throttles) AS marks"#
    );
    let mut superuser = app.superuser().await;
    let (set, select) = sql.split_once(';').unwrap();
    superuser.execute(AssertSqlSafe(set.to_owned())).await.unwrap();
    let row = superuser.fetch_one(AssertSqlSafe(select.to_owned())).await.unwrap();
    row.get::<Option<String>, _>(0).unwrap_or_default()
}

/// Rows on both sides of every boundary: `over` ended just now, `not` ends in a microsecond.
async fn fill(app: &TestApp, organization: &Organization) {
    let (schema, user, now) = (organization.schema(), &organization.owner.pk, app.clock.now().to_rfc3339());
    for (mark, later) in [("over", "0 s"), ("not", "1 us")] {
        let at = format!("timestamptz '{now}' + interval '{later}'");
        // What is counted from the other end, and what is younger by a little than what is over.
        let since = |days: u32| match mark {
            "over" => format!("timestamptz '{now}' - interval '{days} days 1 us'"),
            _ => format!("timestamptz '{now}' - interval '{days} days'"),
        };
        let sql = format!(
            r#"SET search_path TO "{schema}";
            INSERT INTO sessions (id, user_pk, refresh_hash, generation, rotated_at, ip, user_agent, created_at, last_used_at, expires_at)
                VALUES (gen_random_uuid(), '{user}', sha256('{mark}'), 0, {at}, '', '{mark}', {at}, {at}, {at});
            INSERT INTO tokens (hash, user_pk, purpose, email, created_at, expires_at)
                VALUES (sha256('{mark}'), '{user}', 'change_email', '{mark}@a.example', {at}, {at});
            INSERT INTO sign_ups (email_key, email, username, password_hash, first_name, last_name, token_hash, created_at, expires_at)
                VALUES ('{mark}', '{mark}', '{mark}', '', '', '', sha256('{mark}'), {at}, {at});
            INSERT INTO invitations (id, email, email_key, role, token_hash, created_at, expires_at)
                VALUES (gen_random_uuid(), '{mark}@a.example', '{mark}', 'member', sha256('{mark}'), {at}, {at});
            INSERT INTO devices (user_pk, network, user_agent, first_used_at, last_used_at)
                VALUES ('{user}', '', '{mark}', {at}, {used});
            INSERT INTO idempotency_keys (user_pk, request, body_hash, created, created_at)
                VALUES ('{user}', sha256('{mark}'), sha256(''), '{user}', {at} - interval '1 day');
            INSERT INTO throttles (key, hits) VALUES ('{mark}', ARRAY[{at} - interval '9 days', {hit}])"#,
            used = since(90),
            hit = since(2),
        );
        run(app, &sql).await;
    }
    run(app, &format!(r#"INSERT INTO "{schema}".throttles (key, hits) VALUES ('empty', '{{}}')"#)).await;
}

const STAYS: &str = "device-not invitation-not key-not link-not session-not sign_up-not throttle-not";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_goes_and_what_is_not_stays() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    fill(&app, &acme).await;
    let cleaned = pass(&app).await;
    assert_eq!(cleaned, Cleaned { tenants: 1, rows: TABLES.len() as u64 + 1, closed: 0, purges: 0 });
    assert_eq!(left(&app, &acme).await, STAYS);
    acme.owner.get("/api/current_user/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_forgets_what_was_done_and_keeps_what_failed_for_longer() {
    let app = TestApp::start().await;
    let now = app.clock.now().to_rfc3339();
    let sql = format!(
        "INSERT INTO tenantry.jobs (kind, payload, status, run_at, due_since, finished_at)
         SELECT kind, '{{}}', status, '{now}', '{now}', timestamptz '{now}' - age::interval FROM (VALUES
             ('over', 'done', '7 days 1 us'), ('young', 'done', '7 days'), ('failed', 'parked', '90 days'),
             ('given up', 'parked', '90 days 1 us'),
             ('waits', 'queued', NULL)) AS jobs (kind, status, age);
         INSERT INTO tenantry.throttles (key, hits) VALUES ('over', ARRAY[timestamptz '{now}' - interval '2 days 1 us']),
             ('young', ARRAY[timestamptz '{now}' - interval '2 days'])"
    );
    run(&app, &sql).await;
    assert_eq!(pass(&app).await, Cleaned { rows: 3, ..Cleaned::default() });
    let sql = "SELECT (SELECT string_agg(kind, ' ' ORDER BY kind) FROM tenantry.jobs), \
               (SELECT string_agg(convert_from(key, 'UTF8'), ' ') FROM tenantry.throttles)";
    let row = app.superuser().await.fetch_one(sql).await.unwrap();
    assert_eq!((row.get::<&str, _>(0), row.get::<&str, _>(1)), ("failed waits young", "young"));
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_kept_for_a_quarter_of_a_year_after_their_end() {
    let app = TestApp::start().await;
    let now = app.clock.now().to_rfc3339();
    let sql = format!(
        "INSERT INTO tenantry.operations (id, kind, is_exclusive, params, status, done, actor, attempts, created_at, finished_at)
         SELECT gen_random_uuid(), kind, false, '{{}}', status, 0, 'somebody', 1, '2020-01-01Z',
             timestamptz '{now}' - age::interval FROM (VALUES
             ('old', 'succeeded', '90 days 1 us'), ('old failure', 'failed', '90 days 1 us'),
             ('young', 'succeeded', '90 days'), ('waits', 'queued', NULL)) AS operations (kind, status, age)"
    );
    run(&app, &sql).await;
    // What waits is of no kind that this program knows, so nobody does it.
    assert_eq!(pass(&app).await, Cleaned { rows: 2, ..Cleaned::default() });
    let sql = "SELECT string_agg(kind, ' ' ORDER BY kind) FROM tenantry.operations";
    let row = app.superuser().await.fetch_one(sql).await.unwrap();
    assert_eq!(row.get::<&str, _>(0), "waits young");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_deleted_in_batches() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let many = u64::from(BATCH) * 2 + 1;
    let sql = format!(
        r#"INSERT INTO "{}".sign_ups (email_key, email, username, password_hash, first_name, last_name, token_hash,
               created_at, expires_at)
           SELECT n, n, n, '', '', '', sha256(n::text::bytea), '2026-01-01Z', '2026-01-01Z'
           FROM generate_series(1, {many}) AS n"#,
        acme.schema()
    );
    run(&app, &sql).await;
    // One that somebody works on is not waited for.
    let mut busy = app.superuser().await;
    let lock = format!(r#"SELECT 1 FROM "{}".sign_ups WHERE email_key = '7' FOR UPDATE"#, acme.schema());
    busy.execute("BEGIN").await.unwrap();
    busy.execute(AssertSqlSafe(lock)).await.unwrap();
    assert_eq!(pass(&app).await.rows, many - 1);
    assert_eq!(left(&app, &acme).await, "sign_up-7");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_the_tenants_and_each_has_its_turn_once_an_hour() {
    let app = TestApp::start().await;
    let beside = app.beside().await;
    for n in 0..6 {
        fill(&app, &app.sign_up(&format!("tenant-{n}")).await).await;
    }
    let hour_ago = || app.clock.now() - chrono::TimeDelta::hours(1);
    let passes = [&app, &beside, &app, &beside].map(|app| cleanup::pass(&app.app, hour_ago()));
    let cleaned: Vec<Cleaned> = join_all(passes).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(cleaned.iter().map(|one| one.tenants).sum::<u64>(), 6, "{cleaned:?}");
    assert_eq!(cleaned.iter().map(|one| one.rows).sum::<u64>(), 6 * 8, "{cleaned:?}");
    for (advance, tenants) in [(0, 0), (3600, 0), (1, 6), (1, 0)] {
        app.clock.advance(Duration::from_secs(advance));
        let again = cleanup::pass(&beside.app, hour_ago()).await.unwrap();
        assert_eq!(again.tenants, tenants, "after {advance} s more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_not_in_use_is_left_alone_and_keeps_no_other_from_its_turn() {
    let app = TestApp::start().await;
    let mut all = Vec::new();
    for slug in ["active", "suspended", "closed", "newer"] {
        let organization = app.sign_up(slug).await;
        fill(&app, &organization).await;
        all.push(organization);
    }
    app.app.tenancy.set_suspended(&"suspended".parse().unwrap(), true).await.unwrap();
    app.app.tenancy.close_tenant(all[2].id.parse().unwrap(), app.clock.now()).await.unwrap();
    run(&app, "UPDATE tenantry.tenants SET schema_version = 1000 WHERE slug = 'newer'").await;
    assert_eq!(pass(&app).await, Cleaned { tenants: 1, rows: 8, closed: 0, purges: 0 });
    assert_eq!(left(&app, &all[0]).await, STAYS);
    for organization in &all[1..] {
        assert!(left(&app, organization).await.contains("link-over"), "{}", organization.slug);
    }
    let sql = "SELECT string_agg(slug, ' ') FROM tenantry.tenants WHERE cleaned_at IS NOT NULL";
    let row = app.superuser().await.fetch_one(sql).await.unwrap();
    assert_eq!(row.get::<&str, _>(0), "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_make_no_sense_keep_no_other_tenant_from_its_turn() {
    let app = TestApp::start().await;
    let (broken, whole) = (app.sign_up("broken").await, app.sign_up("whole").await);
    fill(&app, &broken).await;
    fill(&app, &whole).await;
    // PostgreSQL knows times that no program can count with.
    run(&app, &format!("UPDATE \"{}\".settings SET created_at = 'infinity'", broken.schema())).await;
    assert_eq!(pass(&app).await, Cleaned { tenants: 1, rows: 8, closed: 0, purges: 0 });
    assert_eq!(left(&app, &whole).await, STAYS);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_nobody_came_to_is_closed_after_two_weeks() {
    let app = TestApp::start().await;
    let abandoned = app.sign_up("abandoned").await;
    let proven = app.sign_up("proven").await;
    proven.change(&app, &proven.owner, "email_verified_at = now()").await;
    let shared = app.sign_up("shared").await;
    shared.add_account(&app, Person::named("second")).await;
    app.clock.advance(14 * DAY);
    assert_eq!(pass(&app).await.closed, 0, "not before two weeks are over");
    app.clock.advance(Duration::from_secs(1));
    let young = app.sign_up("young").await;
    assert_eq!(pass(&app).await.closed, 1);
    let slug = |organization: &Organization| {
        app.request("POST", "/api/login/")
            .host(&organization.host(&app))
            .json(&json!({"username": "x", "password": "y"}))
    };
    assert_eq!(slug(&abandoned).send().await.said(), (404, "tenant_not_found".into()));
    for organization in [&proven, &shared, &young] {
        assert_eq!(slug(organization).send().await.status, 400, "{}", organization.slug);
    }
    // An operator can give it back.
    app.app.tenancy.restore(&"abandoned".parse().unwrap()).await.unwrap();
    assert_eq!(slug(&abandoned).send().await.status, 400);
}

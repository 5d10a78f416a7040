//! What the export and the import of one tenant cost, beside PostgreSQL's own programs.
//!
//! A tenant is filled with so many rows: of a hundred, one is a user, forty are comments, forty activities and nineteen
//! notifications. In each round, in turn, on the same cluster: `pg_dump -Fc -n` of its schema, `tenantry tenant export`,
//! `pg_restore` into an empty database, and `tenantry tenant import` as another tenant. Each is a process of its own, timed
//! from its start to its end. What one side does and the other does not is in the figures: `pg_dump` compresses with zlib,
//! the archive with zstd; an import reads the archive twice, checks its seal and its content, counts anew what is derived,
//! and commits once, where `pg_restore` checks nothing and commits each statement.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tenantry::embedded::{Cluster, Options};
use tokio::process::Command;

use crate::{Failure, processes, report, service::Service};

/// How often the memory of a process is looked at. It only ever grows: what counts is its highest.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const SLUG: &str = "big";
const COPY_DATABASE: &str = "restored";

/// What one process took.
struct Took {
    time: Duration,
    /// The most it had resident, in KiB.
    memory: u32,
}

/// Measures with so many rows, and says what came of it.
pub(crate) async fn measure(rows: u32, rounds: u32) -> Result<(), Failure> {
    let service = Service::start().await?;
    let cluster = Cluster::start_or_attach(&Options::new(service.data_dir())).await?;
    let create =
        ["tenant", "create", "--name", "Big", "--slug", SLUG, "--owner-email", "a@big.example", "--invite"];
    tenantry(&service.data_dir(), &create).await?;
    let users = (rows / 100).max(2).to_string();
    tenantry(&service.data_dir(), &["tenant", "seed", SLUG, "--users", &users]).await?;
    let mut superuser = open(cluster.superuser_url("tenantry").expose_secret()).await?;
    let schema: String = superuser
        .fetch_one("SELECT schema_name FROM tenantry.tenants WHERE slug = 'big'")
        .await?
        .try_get(0)?;
    fill(&mut superuser, &schema, rows).await?;
    let programs: String =
        superuser.fetch_one("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await?.try_get(0)?;
    let programs = Path::new(&programs);

    let dump = service.data_dir().join("big.dump");
    let (source, target) = (cluster.superuser_url("tenantry"), cluster.superuser_url(COPY_DATABASE));
    report::say(&format!("{rows} rows; rows per second, and the most memory:"));
    for round in 1..=rounds {
        let mut pg_dump = Command::new(programs.join("pg_dump"));
        pg_dump.args(["-Fc", "-n", &schema, "-f"]).arg(&dump).arg(source.expose_secret());
        let pg_dump = timed(pg_dump).await?;

        let archive = format!("big-{round}.tenantry");
        let archive = service.data_dir().join(archive);
        let path = archive.to_str().ok_or("the directory's name is no text")?;
        let export = tenantry(&service.data_dir(), &["tenant", "export", SLUG, "--to", path]).await?;
        let sizes = (kibibytes(&archive)?, kibibytes(&dump)?);

        superuser.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {COPY_DATABASE}"))).await?;
        superuser
            .execute(AssertSqlSafe(format!("CREATE DATABASE {COPY_DATABASE} TEMPLATE template0")))
            .await?;
        let mut pg_restore = Command::new(programs.join("pg_restore"));
        pg_restore.args(["--no-acl", "--exit-on-error", "-d", target.expose_secret()]).arg(&dump);
        let pg_restore = timed(pg_restore).await?;

        let slug = format!("copy-{round}");
        let import = ["tenant", "import", path, "--slug", &slug, "--name", "Copy"];
        let import = tenantry(&service.data_dir(), &import).await?;
        check(&mut superuser, &slug, &schema).await?;

        report::say(&format!(
            "  round {round}: pg_dump {}, export {} ({:.2} times as long; the archive is {:.2} times as large)",
            said(&pg_dump, rows),
            said(&export, rows),
            export.time.as_secs_f64() / pg_dump.time.as_secs_f64(),
            sizes.0 / sizes.1,
        ));
        report::say(&format!(
            "           pg_restore {}, import {} ({:.2} times as long)",
            said(&pg_restore, rows),
            said(&import, rows),
            import.time.as_secs_f64() / pg_restore.time.as_secs_f64(),
        ));
    }
    superuser.close().await?;
    Ok(())
}

fn kibibytes(file: &Path) -> Result<f64, Failure> {
    Ok(f64::from(u32::try_from(std::fs::metadata(file)?.len() / 1024)?))
}

fn said(took: &Took, rows: u32) -> String {
    let rate = f64::from(rows) / took.time.as_secs_f64();
    format!("{rate:.0}/s {} MiB", took.memory / 1024)
}

#[expect(clippy::disallowed_methods, reason = "it fills the database past everything that guards it")]
async fn open(url: &str) -> Result<PgConnection, Failure> {
    Ok(PgConnection::connect(url).await?)
}

/// As many rows in the copy as there were, or nothing was measured.
async fn check(superuser: &mut PgConnection, slug: &str, schema: &str) -> Result<(), Failure> {
    let copy = format!("SELECT schema_name FROM tenantry.tenants WHERE slug = '{slug}'");
    let copy: String = superuser.fetch_one(AssertSqlSafe(copy)).await?.try_get(0)?;
    for table in ["users", "comments", "activities", "notifications"] {
        let same =
            format!("SELECT (SELECT count(*) FROM {copy}.{table}) = (SELECT count(*) FROM {schema}.{table})");
        if !superuser.fetch_one(AssertSqlSafe(same)).await?.try_get::<bool, _>(0)? {
            return Err(format!("{table} lost rows").into());
        }
    }
    Ok(())
}

async fn tenantry(data_dir: &Path, arguments: &[&str]) -> Result<Took, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
    command.args(arguments).current_dir(data_dir).env("TENANTRY_DATA_DIR", data_dir);
    timed(command).await
}

async fn timed(mut command: Command) -> Result<Took, Failure> {
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let pid = child.id().ok_or("it ended at once")?;
    let mut memory = 0;
    let ended = child.wait_with_output();
    let mut ended = std::pin::pin!(ended);
    let output = loop {
        tokio::select! {
            output = &mut ended => break output?,
            () = tokio::time::sleep(LOOK_INTERVAL) => memory = processes::peak_memory(pid).unwrap_or(0).max(memory),
        }
    };
    let time = began.elapsed();
    if output.status.success() {
        Ok(Took { time, memory })
    } else {
        Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// Fills the tenant's tables as the service would have, its lists and their counts included.
async fn fill(superuser: &mut PgConnection, schema: &str, rows: u32) -> Result<(), Failure> {
    let [comments, activities, notifications] = [rows / 5 * 2, rows / 5 * 2, rows / 100 * 19];
    let sql = FILL
        .replace("{schema}", schema)
        .replace("{comments}", &comments.to_string())
        .replace("{activities}", &activities.to_string())
        .replace("{notifications}", &notifications.to_string());
    superuser.execute(AssertSqlSafe(sql)).await?;
    superuser.execute(AssertSqlSafe("VACUUM ANALYZE")).await?;
    Ok(())
}

const FILL: &str = "
    SET search_path TO {schema};
    CREATE TEMP TABLE people AS SELECT pk, row_number() OVER (ORDER BY pk) - 1 AS place FROM users;
    CREATE INDEX ON people (place);
    CREATE TEMP TABLE written AS
        SELECT i, a.pk AS author, p.pk AS page, timestamptz '2026-01-01' + i * interval '1 second' AS at
        FROM (SELECT count(*) AS people FROM people) AS n, generate_series(1::bigint, {comments}) AS i
        JOIN LATERAL (SELECT pk FROM people WHERE place = i * 7919 % n.people) AS a ON true
        JOIN LATERAL (SELECT pk FROM people WHERE place = i % n.people) AS p ON true;
    INSERT INTO comments (id, user_pk, author_pk, number, body, created_at)
        SELECT gen_random_uuid(), page, author, row_number() OVER (PARTITION BY page ORDER BY i),
            'Comment ' || i || ' of an ordinary length: ' || md5(i::text) || ' ' || md5((-i)::text), at
        FROM written ORDER BY i;
    INSERT INTO lists (kind, owner, numbered, numbered_at)
        SELECT 'page', user_pk, count(*), max(created_at) FROM comments GROUP BY 2;
    INSERT INTO list_blocks (kind, owner, block, total) SELECT 'page', user_pk, number / 1024, count(*) FROM comments GROUP BY 2, 3;
    UPDATE users SET comment_count = (SELECT count(*) FROM comments WHERE user_pk = pk);
    CREATE TEMP TABLE done AS
        SELECT i, p.pk AS actor, timestamptz '2026-02-01' + i * interval '1 second' AS at,
            (ARRAY['commented', 'replied', 'mentioned', 'joined', 'invited', 'profile_updated'])[1 + i * 104729 % 6] AS verb
        FROM (SELECT count(*) AS people FROM people) AS n, generate_series(1::bigint, {activities}) AS i
        JOIN LATERAL (SELECT pk FROM people WHERE place = i * 7919 % n.people) AS p ON true;
    DELETE FROM activities;
    DELETE FROM lists WHERE kind LIKE 'activity%';
    INSERT INTO activities (number, id, actor_pk, actor_number, verb, verb_number, actor_verb_number, object_type, object_id,
            object_text, created_at)
        SELECT i, gen_random_uuid(), actor, row_number() OVER (PARTITION BY actor ORDER BY i), verb,
            row_number() OVER (PARTITION BY verb ORDER BY i), row_number() OVER (PARTITION BY actor, verb ORDER BY i), 'user',
            actor, NULL, at
        FROM done ORDER BY i;
    INSERT INTO lists (kind, owner, numbered, numbered_at)
        SELECT 'activity', uuid '00000000-0000-0000-0000-000000000000', count(*), max(created_at) FROM activities
        UNION ALL SELECT 'activity', actor_pk, count(*), max(created_at) FROM activities GROUP BY 2
        UNION ALL SELECT 'activity ' || verb, uuid '00000000-0000-0000-0000-000000000000', count(*), max(created_at) FROM activities GROUP BY 1
        UNION ALL SELECT 'activity ' || verb, actor_pk, count(*), max(created_at) FROM activities GROUP BY 1, 2;
    INSERT INTO notifications (id, user_pk, number, event, kind, actor_pk, object_type, object_id, created_at)
        SELECT gen_random_uuid(), reader, row_number() OVER (PARTITION BY reader ORDER BY i), gen_random_uuid(), 'comment', actor,
            'user', reader, at
        FROM (SELECT i, p.pk AS reader, a.pk AS actor, timestamptz '2026-03-01' + i * interval '1 second' AS at
            FROM (SELECT count(*) AS people FROM people) AS n, generate_series(1::bigint, {notifications}) AS i
            JOIN LATERAL (SELECT pk FROM people WHERE place = i % n.people) AS p ON true
            JOIN LATERAL (SELECT pk FROM people WHERE place = i * 7919 % n.people) AS a ON true) AS told
        ORDER BY i;
    INSERT INTO lists (kind, owner, numbered, numbered_at)
        SELECT 'inbox', user_pk, count(*), max(created_at) FROM notifications GROUP BY 2;
    INSERT INTO list_blocks (kind, owner, block, total, unread)
        SELECT 'inbox', user_pk, number / 1024, count(*), count(*) FROM notifications GROUP BY 2, 3;
";

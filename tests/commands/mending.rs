//! `doctor --fix` after a restore onto another cluster, and what belongs to no tenant.

use std::{fs, process::Command};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tenantry::embedded::{Cluster, Options};

use super::support::{Ended, Workplace};
use crate::support::superuser_of;

const PASSWORD: &str = "correct horse battery";

async fn cluster_of(place: &Workplace) -> Cluster {
    Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap()
}

async fn schema_of(superuser: &mut PgConnection, slug: &str) -> String {
    let select = format!("SELECT schema_name FROM tenantry.tenants WHERE slug = '{slug}'");
    superuser.fetch_one(AssertSqlSafe(select)).await.unwrap().get(0)
}

fn findings(report: &Value, level: &str) -> Vec<String> {
    let all = report["findings"].as_array().unwrap().iter();
    all.filter(|it| it["level"] == level).map(|it| it["found"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn roles_and_rights_are_made_anew_after_a_restore_onto_another_cluster() {
    let (from, to) = (Workplace::new(), Workplace::new());
    let (old, new) = (from.serve(), to.serve());
    for slug in ["alpha", "beta", "gamma"] {
        let line = format!("tenant create --name={slug} --owner-email=owner@{slug}.example");
        from.run_with(&line, PASSWORD).ok();
    }
    from.run("tenant suspend beta").ok();
    let (source, target) = (cluster_of(&from).await, cluster_of(&to).await);
    let mut superuser = superuser_of(&target.superuser_url("postgres")).await;
    superuser.execute("CREATE ROLE ann LOGIN CREATEROLE PASSWORD 'secret'").await.unwrap();
    superuser.execute("CREATE DATABASE own OWNER ann").await.unwrap();
    superuser.close().await.unwrap();
    let url = target.url("ann", &"secret".into(), "own");
    let mut superuser = superuser_of(&source.superuser_url("tenantry")).await;
    let programs: String =
        superuser.fetch_one("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await.unwrap().get(0);
    let dumped = source.superuser_url("tenantry");
    let copied = Command::new("sh")
        .args(["-c", r#""$0/pg_dump" --no-owner --no-acl "$1" | "$0/psql" -qX -v ON_ERROR_STOP=1 "$2" >&2"#])
        .args([programs.as_str(), dumped.expose_secret(), url.expose_secret()])
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let key = fs::read_to_string(from.data_dir().join("master.key")).unwrap();
    assert_eq!(old.terminate(), Some(0));

    let place = Workplace::new()
        .with("TENANTRY_DATABASE_URL", url.expose_secret())
        .with("TENANTRY_MASTER_KEY", key.trim())
        .with("TENANTRY_MAIL", "file");
    let Ended { code, stdout, .. } = place.run("doctor --json");
    let sick: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 1, "{sick:#}");
    assert!(findings(&sick, "problem").iter().any(|it| it.starts_with("roles are missing: ")), "{sick:#}");
    let mended = place.run("doctor --fix --json").json();
    assert_eq!((&mended["problems"], &mended["mended"]["refused"]), (&json!(0), &json!([])), "{mended:#}");
    // By somebody who is no superuser; what only one could take is all that is left.
    assert_eq!(findings(&mended, "warning").len(), 1, "{mended:#}");
    let log = place.run("audit --json --limit=1").json();
    assert_eq!(log[0]["action"], "installation.mended");
    assert_eq!(log[0]["detail"]["statements"], mended["mended"]["done"].as_array().unwrap().len());
    let again = place.run("doctor --fix").ok();
    assert!(again.starts_with("There was nothing to fix.\n"), "{again}");

    let serve = place.serve();
    let login = json!({"username": "owner", "password": PASSWORD});
    for (slug, expected) in [("alpha", 200), ("beta", 403), ("gamma", 200)] {
        let answer = serve.request(slug, "POST", "/api/login/").json(&login).send().await;
        assert_eq!(answer.status, expected, "{slug}: {}", answer.text);
    }
    // New ones can be made, and old ones purged.
    place.run_with("tenant create --name=Delta --owner-email=owner@delta.example", PASSWORD).ok();
    place.run("tenant delete gamma --yes").ok();
    place.run("tenant purge gamma --yes --now").ok();
    assert_eq!(place.run("doctor --json").json()["problems"], 0);
    assert_eq!(serve.terminate(), Some(0));
    assert_eq!(new.terminate(), Some(0));
}

#[tokio::test]
async fn what_belongs_to_no_tenant_is_dropped_when_it_is_empty_or_somebody_says_so() {
    let place = Workplace::new();
    let serve = place.serve();
    for slug in ["alpha", "empty", "full", "lost"] {
        let line = format!("tenant create --name={slug} --owner-email=owner@{slug}.example");
        place.run_with(&line, PASSWORD).ok();
    }
    let mut superuser = superuser_of(&cluster_of(&place).await.superuser_url("tenantry")).await;
    let [alpha, empty, full, lost] = [
        schema_of(&mut superuser, "alpha").await,
        schema_of(&mut superuser, "empty").await,
        schema_of(&mut superuser, "full").await,
        schema_of(&mut superuser, "lost").await,
    ];
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = $1",
    )
    .bind(&empty)
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    let sql = format!(
        "TRUNCATE {}; DELETE FROM tenantry.tenants WHERE slug IN ('empty', 'full'); DROP SCHEMA {lost} CASCADE",
        tables.join(", ")
    );
    superuser.execute(AssertSqlSafe(sql)).await.unwrap();

    let Ended { code, stdout, .. } = place.run("doctor --json");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, findings(&report, "problem")), (1, vec!["tenants have no schema: lost".to_owned()]));
    let warnings = findings(&report, "warning");
    assert!(warnings.iter().any(|it| it.starts_with("schemas belong to no tenant: ")), "{warnings:?}");
    assert!(warnings.iter().any(|it| it.starts_with("roles belong to no tenant: ")), "{warnings:?}");

    let Ended { stdout, .. } = place.run("doctor --fix --json");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["mended"]["done"], json!([format!("DROP SCHEMA {empty}")]));
    let refused = &report["mended"]["refused"];
    assert_eq!(
        (refused.as_array().unwrap().len(), &refused[0]["statement"]),
        (1, &json!(format!("DROP SCHEMA {full}")))
    );
    assert!(refused[0]["reason"].as_str().unwrap().starts_with("there are rows in it; "), "{refused}");

    let drop = format!("doctor --drop-orphan {full}");
    let error = place.run(&drop).failure(1);
    assert_eq!(error, format!("error: this drops {full} with all its rows; add --yes if that is meant\n"));
    let error = place.run(&format!("doctor --drop-orphan {alpha} --yes")).failure(1);
    assert_eq!(error, format!("error: {alpha} is no orphan: a tenant has it, or it is not there\n"));
    let dropped = place.run(&format!("{drop} --yes --json")).json();
    assert_eq!((&dropped["schema"], &dropped["tables"]), (&json!(full), &json!(tables.len())));
    assert!(dropped["rows"].as_u64().unwrap() > 1, "{dropped}");
    assert_eq!(place.run("audit --json --limit=1").json()[0]["action"], "orphan.dropped");

    // Whose schema is lost can be purged.
    place.run("tenant delete lost --yes").ok();
    place.run("tenant purge lost --yes --now").ok();
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^t_' \
         UNION SELECT rolname::text FROM pg_roles WHERE rolname ~ '^t_'",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert_eq!(names, [alpha]);
    assert!(place.run("doctor").ok().ends_with("\nAll is well.\n"));
    assert_eq!(serve.terminate(), Some(0));
}

//! What others in the same cluster, and a copy of it, do to an installation.

use std::{collections::BTreeSet, process::Command};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, Row as _};

use super::{Site, all_is_well, attacks::another, create, run, set_up, text_of};
use crate::support::{eventually, psql, superuser_of};

#[tokio::test]
async fn a_tenant_is_purged_though_its_role_has_rights_in_another_database() {
    let Site { cluster, mut superuser, place, .. } = set_up().await;
    place.run("migrate").ok();
    create(&place, "acme");
    let schema = "SELECT schema_name FROM tenantry.tenants WHERE slug = 'acme'";
    let schema: String = superuser.fetch_one(schema).await.unwrap().get(0);
    run(&mut superuser, "CREATE DATABASE strange").await;
    let mut strange = superuser_of(&cluster.superuser_url("strange")).await;
    run(&mut strange, format!("CREATE TABLE public.bait (); GRANT SELECT ON public.bait TO {schema}")).await;
    run(&mut strange, format!("GRANT CONNECT ON DATABASE postgres TO {schema}")).await;

    place.run("tenant delete acme --yes").ok();
    let purged = place.run("tenant purge acme --yes --now --json");
    assert_eq!(purged.code, 0, "{purged:?}");
    let operation: Value = serde_json::from_str(&purged.stdout).unwrap();
    let result = &operation["result"];
    assert_eq!(result["role_held_in"], json!(["postgres", "strange"]), "{operation:#}");
    let absent = json!({"schema": true, "role": false, "catalog_rows": true, "tenant": true});
    assert_eq!(result["absent"], absent);
    assert!(purged.stderr.contains("postgres, strange"), "{}", purged.stderr);
    assert_eq!(place.run("tenant certificate acme --json").json()["valid"], json!(true));
    let act = format!("SELECT count(*)::text FROM pg_auth_members WHERE roleid = '{schema}'::regrole");
    assert_eq!(text_of(&mut superuser, &act).await.as_deref(), Some("0"), "nobody can act as it");

    let report: Value = serde_json::from_str(&place.run("doctor --json").stdout).unwrap();
    let found: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["code"] == "roles_without_tenant")
        .collect();
    assert!(
        found[0]["found"].as_str().unwrap().ends_with("with rights in postgres and strange"),
        "{found:#?}"
    );
    let fixed: Value = serde_json::from_str(&place.run("doctor --fix --json").stdout).unwrap();
    let reason = fixed["mended"]["refused"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("in these databases: postgres, strange"), "{fixed:#}");
    run(&mut strange, format!("DROP OWNED BY {schema}")).await;
    place.run("doctor --fix").ok();
    all_is_well(&place);
}

#[tokio::test]
async fn roles_that_another_cluster_gave_other_numbers_are_missed_by_the_doctor() {
    let Site { cluster, mut superuser, place, .. } = set_up().await;
    place.run("migrate").ok();
    create(&place, "acme");
    run(&mut superuser, "UPDATE tenantry_roles.made SET oid = 1").await;
    let report: Value = serde_json::from_str(&place.run("doctor --json").stdout).unwrap();
    let codes: BTreeSet<_> =
        report["findings"].as_array().unwrap().iter().filter_map(|it| it["code"].as_str()).collect();
    assert_eq!(codes, BTreeSet::from(["role_maker_forgot"]));
    let url = cluster.superuser_url("tenantry");
    psql(&url, &url, "roles.sql", "").await;
    all_is_well(&place);
}

#[tokio::test]
async fn whoever_waits_for_the_catalog_says_for_whom() {
    let Site { cluster, mut superuser, place, .. } = set_up().await;
    let mut watcher = superuser_of(&cluster.superuser_url("tenantry")).await;
    run(&mut superuser, "SELECT pg_advisory_lock(hashtextextended('tenantry.catalog', 0))").await;
    let pid = text_of(&mut superuser, "SELECT pg_backend_pid()::text").await.unwrap();
    let migration = tokio::task::spawn_blocking(move || place.run("migrate"));
    // The second try has no end.
    let mut tries = BTreeSet::new();
    eventually("it waits on", async || {
        let waits = "SELECT query_start::text FROM pg_stat_activity
             WHERE query LIKE 'SELECT pg_advisory_lock(%' AND wait_event_type = 'Lock'";
        tries.extend(text_of(&mut watcher, waits).await);
        tries.len() > 1
    })
    .await;
    superuser.close().await.unwrap();
    let migration = migration.await.unwrap();
    assert_eq!(migration.code, 0, "{migration:?}");
    let said = format!("postgres (pid {pid})");
    assert!(
        migration.stderr.contains("waiting for the catalog") && migration.stderr.contains(&said),
        "{migration:?}"
    );
}

/// As backup.md has it: by the owner, out of a database that is hardened and pooled, into one that is, too.
#[tokio::test]
async fn the_owner_dumps_and_restores_a_hardened_database() {
    let mut site = set_up().await;
    site.place.run("migrate").ok();
    create(&site.place, "acme");
    let (_, mut superuser) = another(&site).await;
    // No role of an installation is there yet: it is about to become this one.
    run(&mut superuser, "TRUNCATE tenantry_roles.installation, tenantry_roles.made").await;
    for database in ["tenantry", "other"] {
        let url = site.cluster.superuser_url(database);
        psql(&url, &url, "pgbouncer.sql", "the pooler's").await;
    }
    let programs = "SELECT setting FROM pg_config WHERE name = 'BINDIR'";
    let programs = text_of(&mut site.superuser, programs).await.unwrap();
    let dump = site.place.path("dump");
    let other = site.cluster.url("other_owner", &"others".into(), "other");
    let document = include_str!("../../../deploy/backup.md");
    for (program, url) in [("pg_dump", &site.owner), ("pg_restore", &other)] {
        // As the document has it, but for the places.
        let line = document.lines().find(|line| line.trim_start().starts_with(program)).unwrap();
        let mut command = Command::new(format!("{programs}/{program}"));
        for word in line.split_whitespace().skip(1).take_while(|word| *word != "#") {
            match word.trim_matches('"') {
                "$OWNER_URL" | "$NEW_OWNER_URL" => command.arg(url.expose_secret()),
                "tenantry.dump" => command.arg(&dump),
                word => command.arg(word),
            };
        }
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
    }
    let rows = "SELECT slug FROM tenantry.tenants";
    assert_eq!(text_of(&mut superuser, rows).await.as_deref(), Some("acme"));
    let left = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'pgbouncer'";
    assert_eq!(text_of(&mut superuser, left).await.as_deref(), Some("postgres"));
}

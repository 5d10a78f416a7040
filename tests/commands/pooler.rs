//! Commands on a database behind a PgBouncer that gives each transaction another connection.

use secrecy::{ExposeSecret as _, SecretString};

use super::support::Workplace;
use crate::support::{Database, PgBouncer};

/// Somebody's own database, as settings name it.
fn workplace(url: &SecretString, direct: Option<&SecretString>, pooling: Option<&str>) -> Workplace {
    let mut workplace = Workplace::new()
        .with("TENANTRY_DATABASE_URL", url.expose_secret())
        .with("TENANTRY_MASTER_KEY", "c9f1a07be25d4836911f0ce8a5b3d76204e7fd189a2c5b60718392a4b5c6d7e8")
        .with("TENANTRY_MAIL", "file");
    if let Some(direct) = direct {
        workplace = workplace.with("TENANTRY_DIRECT_DATABASE_URL", direct.expose_secret());
    }
    if let Some(pooling) = pooling {
        workplace = workplace.with("TENANTRY_DATABASE_POOLING", pooling);
    }
    workplace
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_refuse_a_pooler_they_were_not_told_of_and_work_through_one_they_were() {
    let Some(database) = Database::empty().await.behind_pooler().await else { return };
    let (pooled, direct) = (&database.settings.owner, &database.settings.direct);

    let told = workplace(pooled, Some(direct), Some("transaction"));
    let migrated = told.run("migrate --json").json();
    assert!(!migrated["catalog"].as_array().unwrap().is_empty(), "{migrated}");

    let untold = workplace(pooled, Some(direct), None);
    for command in ["serve", "migrate", "tenant list"] {
        let said = untold.run(command).failure(1);
        assert!(said.contains("TENANTRY_DATABASE_URL leads through a pooler"), "{command}: {said}");
        assert!(said.contains("set TENANTRY_DATABASE_POOLING=transaction"), "{command}: {said}");
    }
    let said = workplace(pooled, Some(pooled), Some("transaction")).run("serve").failure(1);
    assert!(said.contains("TENANTRY_DIRECT_DATABASE_URL leads through a pooler"), "{said}");
    let said = workplace(pooled, None, Some("transaction")).run("serve");
    assert!(said.code != 0 && said.stderr.contains("TENANTRY_DIRECT_DATABASE_URL"), "{}", said.stderr);

    told.run_with("tenant provision - --json", "name,slug,owner_email\nAcme,acme,owner@acme.example\n").ok();
    let server = told.serve();
    let ready = server.service("GET", "/readyz").send().await;
    assert_eq!(ready.status, 200, "{}", ready.text);
    let check = server.request("acme", "GET", "/api/current_user/").send().await;
    assert_eq!(check.status, 401, "{}", check.text);
    drop(server);
    let doctor = told.run("doctor --json");
    let findings: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap();
    let looked_at: Vec<_> = findings["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["check"] == "pooler")
        .collect();
    assert!(looked_at.iter().all(|finding| finding["level"] == "ok") && !looked_at.is_empty(), "{findings}");
    let doctor = untold.run("doctor --json");
    let text = format!("{}{}", doctor.stdout, doctor.stderr);
    assert!(text.contains("TENANTRY_DATABASE_URL leads through a pooler"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_through_a_pooler_are_never_taken_for_ones_own() {
    let database = Database::create().await;
    // It gives each client a connection of its own; it passes over what it does not know; and each has its turn.
    for settings in [
        "pool_mode = session",
        "pool_mode = session\nignore_startup_parameters = options",
        "ignore_startup_parameters = options\nserver_round_robin = 1\nmin_pool_size = 2",
    ] {
        let Some(pooler) = PgBouncer::start_with(&database.superuser, settings).await else { return };
        pooler.serve(&database.superuser).await;
        let (through, direct) = (pooler.through(&database.settings.owner), &database.settings.direct);
        let said = workplace(&through, Some(direct), None).run("tenant list").failure(1);
        assert!(said.contains("TENANTRY_DATABASE_URL leads through a pooler"), "{settings}: {said}");
        let said = workplace(&through, Some(&through), Some("transaction")).run("tenant list").failure(1);
        assert!(said.contains("TENANTRY_DIRECT_DATABASE_URL leads through a pooler"), "{settings}: {said}");
    }
}

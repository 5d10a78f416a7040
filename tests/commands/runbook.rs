//! The night that `deploy/RUNBOOK.md` tells of, command by command as it stands there.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tenantry::embedded::{Cluster, Options};

use super::support::Workplace;
use crate::support::superuser_of;

const RUNBOOK: &str = include_str!("../../deploy/RUNBOOK.md");

/// What the document's reader types: what is behind each `$ `, and the lines that go on with it because of a backslash.
fn commands() -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for block in RUNBOOK.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        let mut goes_on = false;
        for line in block.lines() {
            if goes_on {
                let command = commands.last_mut().unwrap();
                *command = format!("{command}\n{line}");
            } else if let Some(command) = line.strip_prefix("$ ") {
                commands.push(command.to_owned());
            } else {
                continue;
            }
            goes_on = line.ends_with('\\');
        }
    }
    commands
}

#[tokio::test]
async fn the_night_goes_as_the_runbook_has_it() {
    // A cluster to have a database of one's own on.
    let home = Workplace::new();
    let host = home.serve();
    let cluster = Cluster::start_or_attach(&Options::new(home.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    superuser.execute("CREATE ROLE ann LOGIN CREATEROLE PASSWORD 'secret'").await.unwrap();
    superuser.execute("CREATE DATABASE own OWNER ann").await.unwrap();
    let programs: String =
        superuser.fetch_one("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await.unwrap().get(0);
    superuser.close().await.unwrap();
    let url = cluster.url("ann", &"secret".into(), "own");

    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("master.key");
    fs::write(&key, "MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXY=").unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let place = Workplace::new()
        .with("TENANTRY_DATABASE_URL", url.expose_secret())
        .with("TENANTRY_MASTER_KEY_FILE", key.to_str().unwrap())
        .with("TENANTRY_MAIL", "file");
    let hardening = place.run("migrate --json").json();
    let mut superuser = superuser_of(&cluster.superuser_url("own")).await;
    for statement in hardening["not_hardened"].as_array().unwrap() {
        superuser.execute(AssertSqlSafe(statement.as_str().unwrap().to_owned())).await.unwrap();
    }
    superuser.close().await.unwrap();
    let operator =
        place.run_with("operator create ops@example.com --json", "correct horse battery staple").json();
    let serve = place.serve();

    let program = Path::new(env!("CARGO_BIN_EXE_tenantry")).parent().unwrap();
    let mut script = format!(
        "export PATH='{}':'{programs}':$PATH SUFFIX=localhost:{} API=http://localhost:{} KEY={}\n",
        program.display(),
        serve.port(),
        serve.port(),
        operator["api_key"].as_str().unwrap(),
    );
    let commands = commands();
    assert!(commands.len() > 30, "{commands:#?}");
    for command in &commands {
        let typed = shell_word(&format!("$ {command}"));
        writeln!(script, "printf '%s\\n' {typed}\n{command}").unwrap();
    }
    let night = place.run_script(&script);
    assert_eq!(night.code, 0, "{}\n{}", night.stdout, night.stderr);

    // What was refused is in no exit code of curl's.
    assert!(!night.stdout.contains("about:blank"), "{}", night.stdout);
    let rotated = place.path("master.key.2");
    let place = place.with("TENANTRY_MASTER_KEY_FILE", rotated.to_str().unwrap());
    let tenants = place.run("tenant list --json").json();
    let slugs: BTreeMap<&str, &str> = tenants
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["slug"].as_str().unwrap(), it["status"].as_str().unwrap()))
        .collect();
    assert_eq!(slugs.len(), 22, "{slugs:?}");
    assert!(slugs.values().all(|status| *status == "active"), "{slugs:?}");
    assert!(slugs.contains_key("five") && slugs.contains_key("customer-09-test"), "{slugs:?}");
    let restored = place.run("tenant show customer-09 --json").json();
    assert_eq!(restored["usage"]["users"], 200);
    assert_eq!(place.run("doctor --json").json()["problems"], 0);

    let log = place.run("audit --json --limit=200").json();
    let mut deeds: Vec<&str> =
        log.as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap()).collect();
    deeds.reverse();
    deeds.dedup();
    let night = [
        "operator.created",
        "api_key.created",
        "tenant.provisioned",
        "tenant.suspended",
        "tenant.limits_changed",
        "tenant.resumed",
        "tenant.exported",
        "tenant.restore_requested",
        "tenant.restored_from",
        "tenant.replaced",
        "tenant.owner_invited",
        "tenant.clone_requested",
        "tenant.cloned",
        "tenant.renamed",
        "tenant.deleted",
        "tenant.purge_requested",
        "tenant.purged",
        "keys.rotated",
        "keys.master_rotated",
        "installation.mended",
    ];
    assert_eq!(deeds, night);
    assert_eq!(serve.terminate(), Some(0));
    assert_eq!(host.terminate(), Some(0));
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

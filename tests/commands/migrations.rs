//! Migrations of all tenants from the command line, on a database of somebody's own.

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use super::support::Workplace;
use crate::support::{Fleet, eventually};

/// Somebody who works with the program on the database of this fleet.
fn at(fleet: &Fleet) -> Workplace {
    let key = data_encoding::HEXLOWER.encode(fleet.app.settings().master_key.expose());
    Workplace::new()
        .with("TENANTRY_DATABASE_URL", fleet.app.settings().owner.expose_secret())
        .with("TENANTRY_MASTER_KEY", key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_is_resumed() {
    let mut fleet = Fleet::behind(12).await;
    let place = at(&fleet);
    let behind = place.run("migrate --check");
    assert_eq!((behind.code, behind.stderr.as_str()), (1, ""));
    assert_eq!(behind.stdout, "12 tenants are behind.\nRun `tenantry migrate`.\n");

    // The wave does not end while somebody has a table of t-6, so the run is in its middle for certain.
    let schema = fleet.schema("t-6").await;
    let mut user = fleet.app.superuser().await;
    let lock = format!(r#"BEGIN; LOCK TABLE "{schema}".invitations IN ACCESS SHARE MODE"#);
    user.execute(AssertSqlSafe(lock)).await.unwrap();
    let mut child = place.start("migrate --wave 4 --parallel 3");
    let run = async || fleet.app.app.tenancy.run(None).await.unwrap();
    eventually("the second wave waits for one", async || run().await.is_some_and(|run| run.done == 8)).await;
    let second = place.run("migrate").failure(1);
    assert!(
        second.starts_with("error: the migration run ") && second.contains(" goes on since "),
        "{second}"
    );
    assert!(second.contains(&format!(" in process {}: ", child.id())), "{second}");
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("it is noticed", async || run().await.unwrap().status == "interrupted").await;
    assert_eq!(fleet.migrated().await.len(), 8);
    // Killed as it was, it has not noted all that it had done.
    let mut other = fleet.app.superuser().await;
    other.execute("UPDATE tenantry.migration_runs SET done = 5").await.unwrap();
    let list = place.run("migrations list").ok();
    assert!(list.contains("  interrupted  4 ") && list.contains("  8 of 12  "), "{list}");
    // Its backend is left, and would migrate the tenant yet if it were let at the table before it gives up waiting.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("its backend has given up", async || {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut user).await.unwrap() == 0
    })
    .await;
    user.execute("COMMIT").await.unwrap();

    let resumed = place.run("migrate --resume --json").json();
    assert_eq!((&resumed["catalog"], &resumed["tenants"]), (&json!([]), &json!(4)));
    assert_eq!((&resumed["run"]["status"], &resumed["run"]["done"]), (&json!("succeeded"), &json!(12)));
    assert_eq!(fleet.migrated().await.len(), 12);
    let shown = place.run("migrations show --json").json();
    let once = |item: &Value| item["status"] == "done" && item["slug"] != "t-6" && item["attempts"] == 1;
    let tenants = shown["tenants"].as_array().unwrap();
    assert_eq!(tenants.iter().filter(|item| once(item)).count(), 11, "{shown:#}");

    assert_eq!(place.run("migrate").ok(), "The database is up to date.\n");
    assert_eq!(place.run("migrate --check").ok(), "The database is up to date.\n");
    let nothing = place.run("migrate --resume").failure(1);
    assert_eq!(nothing, "error: nothing is left to do in this run: it succeeded\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_shown_with_its_reason_and_retried() {
    let mut fleet = Fleet::behind(4).await;
    let place = at(&fleet);
    fleet.obstruct("t-1").await;
    let failed = place.run("migrate --canaries t-1,t-2 --parallel 1");
    assert_eq!((failed.code, failed.stderr.as_str()), (1, ""));
    let id = fleet.app.app.tenancy.run(None).await.unwrap().unwrap().id;
    assert_eq!(
        failed.stdout,
        format!(
            "Brought 0 tenants up to date.\n\nIt stopped: the canary t-1 failed.\n1 tenant failed: `tenantry migrations show \
             {id} --failed` says why, `tenantry migrate --retry` tries again.\n3 tenants were not touched: `tenantry migrate \
             --resume` goes on with them.\nThe run is {id}.\n"
        )
    );
    let shown = place.run(&format!("migrations show {id} --failed")).ok();
    assert!(
        shown.starts_with(&format!("Migration run {id}\n\n  Status   stopped (the canary t-1 failed)\n")),
        "{shown}"
    );
    let line = shown.lines().last().unwrap();
    assert!(line.starts_with("t-1     failed  canary  1         "), "{shown}");
    assert!(line.ends_with("PostgreSQL refused: relation \"audit\" already exists"), "{shown}");

    fleet.mend("t-1").await;
    let retried = place.run("migrate --retry");
    assert_eq!(retried.code, 1, "three are pending still: {retried:?}");
    assert!(retried.stdout.starts_with("Brought 1 tenant up to date.\n"), "{retried:?}");
    assert_eq!(place.run("migrate --resume").ok(), "Brought 3 tenants up to date.\n");
    let actions: Vec<_> = place
        .run("audit --json")
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap().to_owned(), entry["actor"]["name"].clone()))
        .collect();
    let by = json!("command line");
    let expected = ["migration.resumed", "migration.retried", "migration.started"];
    assert_eq!(actions, expected.map(|action| (action.to_owned(), by.clone())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_nobody_is_told_where_nobody_is_behind() {
    let fleet = Fleet::behind(0).await;
    fleet.make("t-0").await;
    let place = at(&fleet);
    assert_eq!(place.run("migrate --canaries t-0").ok(), "The database is up to date.\n");
    let refused = place.run("migrate --canaries t-0,nope").failure(1);
    assert_eq!(refused, "error: there is no tenant `nope`\n");
}

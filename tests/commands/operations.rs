//! Purges and other operations from the command line, and what becomes of one whose process is killed.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::embedded::{Cluster, Options};

use super::support::Workplace;
use crate::support::{eventually, superuser_of};

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn a_tenant_is_purged_from_the_command_line() {
    let place = Workplace::new();
    place.run_with("tenant create --name=Acme --owner-email=ada@acme.example", PASSWORD).ok();
    assert_eq!(
        place.run("tenant purge acme").failure(1),
        "error: this drops everything that acme has, and nothing brings it back; add --yes if that is meant\n"
    );
    assert_eq!(
        place.run("tenant purge acme --yes").failure(1),
        "error: the tenant `acme` is not being deleted: `tenantry tenant delete acme` first\n"
    );
    assert_eq!(place.run("tenant purge nowhere --yes").failure(1), "error: there is no tenant `nowhere`\n");
    place.run("tenant delete acme --yes").ok();
    let early = place.run("tenant purge acme --yes").failure(1);
    assert!(
        early.starts_with("error: the tenant `acme` can be restored until ") && early.contains("--now"),
        "{early}"
    );
    assert_eq!(place.run("tenant certificate acme").failure(1), "error: no tenant `acme` was purged\n");

    let purged = place.run("tenant purge acme --yes --now --json").json();
    assert_eq!((&purged["kind"], &purged["status"]), (&json!("tenant.purge"), &json!("succeeded")));
    assert_eq!(purged["done"], purged["total"]);
    let certificate = place.run("tenant certificate acme --json").json();
    assert_eq!((&certificate["valid"], &certificate["by"]), (&json!(true), &json!("command line")));
    assert_eq!(certificate["tenant"], purged["tenant"]["id"]);
    let shown = place.run(&format!("tenant certificate {}", certificate["tenant"].as_str().unwrap())).ok();
    assert!(
        shown.starts_with("acme was purged on ") && shown.ends_with("The MAC is this installation's.\n"),
        "{shown}"
    );

    let listed = place.run("operation list --json --status=succeeded").json();
    assert_eq!(listed[0]["id"], purged["id"]);
    let id = purged["id"].as_str().unwrap();
    assert_eq!(place.run(&format!("operation show {id} --json")).json(), purged);
    let again = place.run(&format!("operation resume {id}")).failure(1);
    let done =
        format!("error: it has succeeded already: `tenantry operation show {id}` says what came of it\n");
    assert_eq!(again, done);
    assert_eq!(place.run("tenant list").ok(), "No tenants yet.\n");
    // What was done to it is found by the name it had.
    let log = place.run("audit --tenant acme --json").json();
    let done: Vec<_> =
        log.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(done, ["tenant.purged", "tenant.purge_requested", "tenant.deleted", "tenant.provisioned"]);
    let by_id =
        place.run(&format!("audit --tenant {} --json", purged["tenant"]["id"].as_str().unwrap())).json();
    assert_eq!(by_id, log);
    assert_eq!(place.run("doctor --json").json()["problems"], 0);
}

#[tokio::test]
async fn what_a_killed_process_was_at_another_one_finishes() {
    let place = Workplace::new();
    let serve = place.serve();
    let operator = place.run_with("operator create ops@example.com --json", PASSWORD).json();
    let key = operator["api_key"].as_str().unwrap().to_owned();
    let line = "tenant create --name=Acme --owner-email=ada@acme.example --json";
    let acme = place.run_with(line, PASSWORD).json();
    place.run_with("tenant create --name=Beta --owner-email=ada@beta.example", PASSWORD).ok();
    let tenant = format!("/api/admin/tenants/{}/", acme["id"].as_str().unwrap());
    serve.service("DELETE", &tenant).bearer(&key).expect(204).await;

    let cluster = Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    let schema: String = superuser
        .fetch_one("SELECT schema_name FROM tenantry.tenants WHERE slug = 'acme'")
        .await
        .unwrap()
        .get(0);
    // One of the last of its tables, to which no other refers: whoever purges has dropped others by then, and waits.
    let lock = format!("BEGIN; LOCK TABLE {schema}.throttles IN ACCESS SHARE MODE");
    superuser.execute(AssertSqlSafe(lock)).await.unwrap();
    let purge = serve.service("POST", &format!("{tenant}purge/")).bearer(&key).json(&json!({"now": true}));
    let left = purge.expect(202).await;
    let path = format!("/api/admin/operations/{}/", left["id"].as_str().unwrap());
    let shown = async || serve.service("GET", &path).bearer(&key).expect(200).await;
    eventually("some of it is gone", async || shown().await["done"].as_i64().unwrap() > 0).await;
    let restore = serve.service("POST", &format!("{tenant}restore/")).bearer(&key).send().await;
    assert_eq!(restore.said(), (409, "tenant_purging".into()));
    serve.kill();

    // Its PostgreSQL went with it, or is adopted by the next one.
    drop(superuser);
    let serve = place.serve();
    let shown = async || serve.service("GET", &path).bearer(&key).expect(200).await;
    let before: Value = shown().await;
    // It waits for its next attempt where the lock kept it for too long before the kill.
    let under_way = before["status"] == "running" || before["status"] == "queued";
    assert!(under_way && before["finished_at"].is_null(), "nobody said that it ended: {before}");
    let cluster = Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    // A minute later.
    superuser.execute("UPDATE tenantry.operations SET leased_until = now()").await.unwrap();
    eventually("another process has done it", async || shown().await["status"] == "succeeded").await;
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = $1) \
         + (SELECT count(*) FROM pg_roles WHERE rolname = $1) \
         + (SELECT count(*) FROM tenantry.tenants WHERE schema_name = $1)",
    )
    .bind(&schema)
    .fetch_one(&mut superuser)
    .await
    .unwrap();
    assert_eq!(left, 0);
    drop(superuser);
    let certificate = place.run("tenant certificate acme --json").json();
    assert_eq!((&certificate["valid"], &certificate["by"]), (&json!(true), &json!("ops@example.com")));
    assert_eq!(place.run("doctor --json").json()["problems"], 0);
    assert_eq!(serve.terminate(), Some(0));
}

/// The database of a place, from the outside, while no command is at it.
async fn change(place: &Workplace, sql: &str) {
    let cluster = Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    superuser.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

#[tokio::test]
async fn an_operation_of_a_killed_process_is_taken_up_whenever_it_is_resumed() {
    let place = Workplace::new();
    place.run_with("tenant create --name=Acme --owner-email=ada@acme.example", PASSWORD).ok();
    let exported = place.run("tenant export acme --json").json();
    let id = exported["id"].as_str().unwrap();
    let resume = format!("operation resume {id}");
    let again = place.run(&resume).failure(1);
    let done =
        format!("error: it has succeeded already: `tenantry operation show {id}` says what came of it\n");
    assert_eq!(again, done);
    let nobody = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";
    let unknown = place.run(&format!("operation resume {nobody}")).failure(1);
    assert_eq!(unknown, format!("error: there is no operation {nobody}\n"));

    // As a kill leaves it. The lease is longer than it takes to start the database and the command.
    let killed = "UPDATE tenantry.operations SET status = 'running', result = NULL, finished_at = NULL, attempts = 1, \
                  leased_until = now() + interval '12 s'";
    change(&place, killed).await;
    let resumed = place.run(&resume);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(
        resumed.stderr.starts_with("The operation tenant.export is held by another process until "),
        "{resumed:?}"
    );
    assert!(resumed.stdout.contains("Status    succeeded"), "{resumed:?}");
    change(&place, killed).await;
    assert_eq!(
        place.run(&format!("{resume} --json")).json()["status"],
        "succeeded",
        "and says nothing else to a program"
    );

    // One that waits for its next attempt has nobody who holds it.
    let waits = "UPDATE tenantry.operations SET status = 'queued', result = NULL, finished_at = NULL, attempts = 1, \
                 leased_until = now() + interval '1 hour'";
    change(&place, waits).await;
    assert!(place.run(&resume).ok().contains("Status    succeeded"));
}

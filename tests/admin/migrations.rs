//! Migrations of all tenants over HTTP.

use serde_json::{Value, json};

use super::support::Operator;
use crate::support::{Fleet, eventually};

const RUNS: &str = "/api/admin/migrations/";

async fn ended(fleet: &Fleet, ops: &Operator, run: &Value) -> Value {
    let path = format!("{RUNS}{}/", run["id"].as_str().unwrap());
    let status = async || ops.get(&fleet.app, &path).await["run"]["status"].clone();
    eventually("the run ends", async || status().await != "running").await;
    ops.get(&fleet.app, &path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_starts_a_run_looks_at_it_and_tries_again_what_failed() {
    let mut fleet = Fleet::behind(5).await;
    let ops = Operator::create(&fleet.app, "ops@example.com").await;
    fleet.obstruct("t-2").await;
    fleet.obstruct("t-3").await;

    let body = json!({"canaries": "t-0", "wave": 3, "stop_after": "100%", "parallel": 1});
    let run = ops.request(&fleet.app, "POST", RUNS).json(&body).expect(202).await;
    assert_eq!(run["actor"], "ops@example.com");
    let of_run = ["status", "target", "total", "canaries", "wave", "stop_after", "parallel"];
    let said: Vec<_> = of_run.iter().map(|member| run[*member].clone()).collect();
    assert_eq!(json!(said), json!(["running", 4, 5, 1, 3, "100%", 1]));

    let detail = ended(&fleet, &ops, &run).await;
    let numbers =
        |run: &Value| ["done", "failed", "skipped", "pending"].map(|member| run[member].as_i64().unwrap());
    assert_eq!((&detail["run"]["status"], numbers(&detail["run"])), (&json!("failed"), [3, 2, 0, 0]));
    assert_eq!(detail["run"]["finished_at"], "2026-01-02T03:04:05.678901Z");
    assert_eq!(detail["tenants"]["count"], 5);
    let first = &detail["tenants"]["results"][0];
    assert_eq!(
        (&first["slug"], &first["wave"], &first["status"]),
        (&json!("t-0"), &json!(0), &json!("done"))
    );

    let id = run["id"].as_str().unwrap();
    let page = ops.get(&fleet.app, &format!("{RUNS}{id}/?status=failed&page_size=1&page=2")).await;
    assert_eq!((&page["tenants"]["count"], &page["tenants"]["next"]), (&json!(2), &Value::Null));
    let [item] = page["tenants"]["results"].as_array().unwrap().as_slice() else { panic!("{page}") };
    assert_eq!(
        (&item["slug"], &item["error"], &item["attempts"], &item["from_version"], &item["to_version"]),
        (
            &json!("t-3"),
            &json!("PostgreSQL refused: relation \"audit\" already exists"),
            &json!(1),
            &json!(3),
            &json!(4)
        )
    );

    fleet.mend("t-2").await;
    fleet.mend("t-3").await;
    let again = ops.request(&fleet.app, "POST", &format!("{RUNS}{id}/retry/")).expect(202).await;
    assert_eq!((&again["id"], &again["status"]), (&run["id"], &json!("running")));
    let detail = ended(&fleet, &ops, &run).await;
    assert_eq!((&detail["run"]["status"], numbers(&detail["run"])), (&json!("succeeded"), [5, 0, 0, 0]));
    assert_eq!(fleet.migrated().await.len(), 5);

    let list = ops.get(&fleet.app, RUNS).await;
    assert_eq!((&list["count"], &list["results"][0]), (&json!(1), &detail["run"]));
    let log = ops.log(&fleet.app).await;
    let entries: Vec<_> = log.iter().map(|entry| (&entry["action"], &entry["detail"])).collect();
    assert_eq!(entries[0], (&json!("migration.retried"), &json!({"run": id, "failed": 2})));
    let detail = json!({
        "run": id, "target": 4, "tenants": 5, "canaries": "t-0", "wave": 3, "stop_after": "100%", "parallel": 1,
    });
    assert_eq!(entries[1], (&json!("migration.started"), &detail));
    assert_eq!(log[0]["actor"]["name"], "ops@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_now_is_refused_with_the_reason() {
    let mut fleet = Fleet::behind(3).await;
    let ops = Operator::create(&fleet.app, "ops@example.com").await;
    let post = async |path: &str| ops.request(&fleet.app, "POST", path).send().await;
    for (body, field, sentence) in [
        (
            json!({"canaries": ""}),
            "canaries",
            "A number of tenants, or their slugs with commas between them, is required.",
        ),
        (json!({"canaries": "nobody"}), "canaries", "There is no organization nobody."),
        (
            json!({"stop_after": 0}),
            "stop_after",
            "A number of failures from 1 on, or a percentage from 1% to 100%, is required.",
        ),
        (json!({"parallel": 17}), "parallel", "Ensure this value is between 1 and 16."),
        (json!({"wave": 0}), "wave", "Ensure this value is greater than or equal to 1."),
    ] {
        let answer = ops.request(&fleet.app, "POST", RUNS).json(&body).expect(400).await;
        assert_eq!(answer[field], json!([sentence]), "{body}");
    }
    assert_eq!(ops.get(&fleet.app, RUNS).await["count"], 0, "and nothing was begun");

    // Somebody else is at one.
    let under_way = fleet.start(&tenants::RunPlan::default()).await.unwrap();
    let id = under_way.run().id;
    for path in [RUNS.to_owned(), format!("{RUNS}{id}/resume/"), format!("{RUNS}{id}/retry/")] {
        let answer = post(&path).await;
        assert_eq!(answer.said(), (409, "migration_running".to_owned()), "{path}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.starts_with(&format!("The migration run {id} of command line goes on since ")),
            "{detail}"
        );
    }
    drop(under_way);
    let path = format!("{RUNS}{id}/");
    let status = async || ops.get(&fleet.app, &path).await["run"]["status"].clone();
    eventually("it is interrupted", async || status().await == "interrupted").await;
    let answer = post(&format!("{RUNS}{id}/retry/")).await;
    assert_eq!(answer.said(), (409, "nothing_to_retry".to_owned()));
    let run = ops.request(&fleet.app, "POST", &format!("{RUNS}{id}/resume/")).expect(202).await;
    assert_eq!(ended(&fleet, &ops, &run).await["run"]["status"], "succeeded");
    assert_eq!(ops.log(&fleet.app).await[0]["action"], "migration.resumed");

    for (path, code) in
        [(RUNS.to_owned(), "up_to_date"), (format!("{RUNS}{id}/resume/"), "nothing_to_resume")]
    {
        let answer = ops.request(&fleet.app, "POST", &path).send().await;
        assert_eq!(answer.said(), (409, code.to_owned()));
    }
    let nobody = uuid::Uuid::nil();
    for (method, action) in [("GET", ""), ("GET", "events/"), ("POST", "resume/"), ("POST", "retry/")] {
        let path = format!("{RUNS}{nobody}/{action}");
        let answer = ops.request(&fleet.app, method, &path).send().await;
        assert_eq!(answer.said(), (404, "not_found".to_owned()), "{path}");
    }
    fleet.bring_back(Some("t-0")).await;
    let reads = ops.key_with(&fleet.app, &["read"]).await;
    let provisions = ops.key_with(&fleet.app, &["provision"]).await;
    for (method, path, right, wrong) in [
        ("GET", RUNS.to_owned(), &reads, &provisions),
        ("GET", format!("{RUNS}{id}/"), &reads, &provisions),
        ("GET", format!("{RUNS}{id}/events/"), &reads, &provisions),
        ("POST", RUNS.to_owned(), &provisions, &reads),
        ("POST", format!("{RUNS}{id}/resume/"), &provisions, &reads),
        ("POST", format!("{RUNS}{id}/retry/"), &provisions, &reads),
    ] {
        let ask = async |key: &String| fleet.app.request(method, &path).bearer(key).send().await.status;
        assert_eq!(ask(wrong).await, 403, "{method} {path}");
        assert_ne!(ask(right).await, 403, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_how_far_a_run_is_until_it_ends() {
    let fleet = Fleet::behind(3).await;
    let ops = Operator::create(&fleet.app, "ops@example.com").await;
    let under_way = fleet.start(&tenants::RunPlan::default()).await.unwrap();
    let path = format!("{RUNS}{}/events/", under_way.run().id);
    let mut stream = ops.request(&fleet.app, "GET", &path).open().await;
    let first = stream.next().await.unwrap();
    assert_eq!((first.id, first.name.as_str()), (1, "run"));
    assert_eq!((&first.data["status"], &first.data["done"]), (&json!("running"), &json!(0)));
    crate::support::work(under_way).await;
    let mut last = first.data;
    while let Some(event) = stream.next().await {
        last = event.data;
    }
    assert_eq!((&last["status"], &last["done"]), (&json!("succeeded"), &json!(3)));
}

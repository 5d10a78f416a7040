//! Jobs that failed, over HTTP.

use serde_json::{Value, json};

use super::support::Operator;
use crate::support::TestApp;

const JOBS: &str = "/api/admin/jobs/";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_keeps_failing_and_has_it_tried_again() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    app.sign_up("acme").await;
    // The mail to acme's owner: given up, with a payload that nobody is to see.
    sqlx::raw_sql(
        "UPDATE tenantry.jobs SET status = 'parked', attempts = 3, error = 'no such mailbox', finished_at = created_at, \
         payload = '{\"sealed\": \"a secret\"}'",
    )
    .execute(&mut app.superuser().await)
    .await
    .unwrap();

    for path in [JOBS.to_owned(), format!("{JOBS}?status=parked")] {
        let list = ops.get(&app, &path).await;
        assert_eq!(list["count"], 1, "{list}");
        let job = &list["results"][0];
        assert_eq!(
            (&job["kind"], &job["tenant"], &job["status"], &job["attempts"], &job["error"]),
            (&json!("mail"), &json!("acme"), &json!("parked"), &json!(3), &json!("no such mailbox"))
        );
        assert!(!list.to_string().contains("secret"), "{list}");
    }
    for status in ["queued", "running", "done"] {
        assert_eq!(ops.get(&app, &format!("{JOBS}?status={status}")).await["count"], 0, "{status}");
    }
    let wrong = ops.request(&app, "GET", &format!("{JOBS}?status=lost")).send().await;
    assert_eq!(wrong.status, 400);

    let list = ops.get(&app, JOBS).await;
    let id = list["results"][0]["id"].as_str().unwrap();
    let retry = format!("{JOBS}{id}/retry/");
    let job = ops.request(&app, "POST", &retry).expect(200).await;
    assert_eq!(
        (&job["id"], &job["status"], &job["finished_at"]),
        (&json!(id), &json!("queued"), &Value::Null)
    );
    assert_eq!(job["run_at"], "2026-01-02T03:04:05.678901Z");
    let log = ops.log(&app).await;
    assert_eq!(
        (&log[0]["action"], &log[0]["detail"]),
        (&json!("job.retried"), &json!({"job": id, "jobs": 1}))
    );

    // It is due already; and what is not recorded is not done.
    let again = ops.request(&app, "POST", &retry).send().await;
    assert_eq!(again.said(), (409, "job_not_failed".to_owned()));
    assert_eq!(ops.log(&app).await.len(), log.len());
    let unknown = format!("{JOBS}{}/retry/", uuid::Uuid::nil());
    assert_eq!(ops.request(&app, "POST", &unknown).send().await.said(), (404, "not_found".to_owned()));

    let (reads, provisions) = (ops.key_with(&app, &["read"]).await, ops.key_with(&app, &["provision"]).await);
    for (method, path, right, wrong) in
        [("GET", JOBS, &reads, &provisions), ("POST", retry.as_str(), &provisions, &reads)]
    {
        assert_eq!(app.request(method, path).bearer(wrong).send().await.status, 403);
        assert_ne!(app.request(method, path).bearer(right).send().await.status, 403);
    }
}

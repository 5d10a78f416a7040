//! Limits, plans and usage from the command line.

use serde_json::json;

use super::support::Workplace;

#[tokio::test]
async fn an_operator_limits_a_tenant_and_sees_what_it_uses() {
    let place = Workplace::new();
    let serve = place.serve();
    assert_eq!(place.run("plan list").ok(), "No plans yet.\n");
    let set = place.run("plan set small --users 3 --requests-per-second 100").ok();
    let expected = "The plan small has these limits from the next request on: \
                    {\"requests_per_second\":100,\"users\":3}\n";
    assert_eq!(set, expected);
    let unknown = "tenant create --name=Acme --owner-email=ada@acme.example --plan=big";
    assert_eq!(
        place.run_with(unknown, "correct horse battery").failure(1),
        "error: there is no plan `big`\n"
    );
    let create = "tenant create --name=Acme --owner-email=ada@acme.example --plan=small";
    place.run_with(create, "correct horse battery").ok();

    let shown = place.run("tenant limits acme").ok();
    assert!(shown.starts_with("acme, plan small\n\n  requests_per_second   100\n"), "{shown}");
    let login = json!({"username": "ada", "password": "correct horse battery"});
    let login = serve.request("acme", "POST", "/api/login/").json(&login).send().await;
    assert_eq!((login.status, login.header("ratelimit-policy")), (200, "100;w=1;burst=100"));
    let changed = place.run("tenant limits acme --burst 7 --json").json();
    let expected = json!({
        "slug": "acme", "plan": "small", "limits": {"burst": 7},
        "effective_limits": {"requests_per_second": 100, "burst": 7, "users": 3},
    });
    assert_eq!(changed, expected);
    let token = login.json()["token"].as_str().unwrap().to_owned();
    let me = async || serve.request("acme", "GET", "/api/current_user/").bearer(&token).send().await;
    crate::support::eventually("the service has heard of it", async || {
        me().await.header("ratelimit-policy") == "100;w=1;burst=7"
    })
    .await;

    let full = place.run("tenant seed acme --users 3").failure(1);
    assert_eq!(full, "error: This organization has reached its limit of 3 users.\n");
    place.run("tenant seed acme --users 2").ok();
    let wrong = place.run("tenant limits acme --burst 0 --concurrency 20000 --users -1").failure(2);
    assert!(wrong.contains("--users: Ensure this value is greater than or equal to 1."), "{wrong}");
    assert!(wrong.contains("--burst: Ensure this value is greater than or equal to 1."), "{wrong}");
    assert!(wrong.contains("--concurrency: Ensure this value is less than or equal to 10000."), "{wrong}");
    assert!(place.run("tenant limits acme --users many").failure(2).contains("a whole number, or none"));
    assert_eq!(place.run("tenant limits nobody").failure(1), "error: there is no tenant `nobody`\n");
    assert_eq!(place.run("tenant limits acme --plan big").failure(1), "error: there is no plan `big`\n");

    let listed = place.run("plan list --json").json();
    assert_eq!((&listed[0]["name"], &listed[0]["tenants"]), (&json!("small"), &json!(1)));
    let in_use = place.run("plan delete small").failure(1);
    assert_eq!(in_use, "error: tenants have the plan: give them another one first\n");
    place.run("tenant limits acme --plan none --burst none").ok();
    assert_eq!(place.run("plan delete small").ok(), "Deleted the plan small.\n");

    // What was counted to the last moment is written down at the end.
    assert_eq!(me().await.status, 200);
    assert_eq!(serve.terminate(), Some(0));
    let days = place.run("tenant usage acme --json").json();
    assert!(days[0]["requests"].as_i64().unwrap() >= 3, "{days}");
    let busiest = place.run("usage --by database_time --json").json();
    assert_eq!(
        (&busiest[0]["tenant"]["slug"], &busiest[0]["requests"]),
        (&json!("acme"), &days[0]["requests"])
    );
    let table = place.run("usage").ok();
    assert!(table.starts_with("TENANT  REQUESTS  ERRORS  THROTTLED  DATABASE"), "{table}");
    assert_eq!(place.run("usage --day 2020-01-01").ok(), "Nobody used anything on that day.\n");
}

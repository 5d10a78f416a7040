//! Who may have and do how much is changed while the service runs.

use serde_json::{Value, json};

use super::{Operator, PLANS, tenant};
use crate::support::{PASSWORD, TestApp, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_its_own_limits_over_its_plan_s_over_everybody_s() {
    let app = TestApp::start().await;
    let (beside, ops) = (app.beside().await, Operator::of(&app).await);
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let plan = async |body: &Value| ops.request(&app, "POST", PLANS).json(body).expect(201).await;
    let made = plan(&json!({"name": "pro", "limits": {"users": 50, "burst": 20, "concurrency": null}})).await;
    let expected = json!({
        "name": "pro", "limits": {"burst": 20, "users": 50}, "tenants": 0,
        "created_at": "2026-01-02T03:04:05.678901Z",
    });
    assert_eq!(made, expected);
    let said = ops.last(&app).await;
    let after = json!({"after": {"plan": "pro", "limits": {"burst": 20, "users": 50}}});
    assert_eq!((&said["action"], &said["detail"]), (&json!("plan.created"), &after));
    plan(&json!({"name": "default", "limits": {"users": 5, "mails_per_day": 9, "requests_per_second": 100}}))
        .await;

    let shown = ops.set(&app, &acme, &json!({"plan": "pro", "limits": {"burst": 30}})).await;
    let in_force = json!({"requests_per_second": 100, "burst": 30, "users": 50, "mails_per_day": 9});
    assert_eq!((&shown["plan"], &shown["limits"]), (&json!("pro"), &json!({"burst": 30})));
    assert_eq!(shown["effective_limits"], in_force);
    let said = ops.last(&app).await;
    let detail = json!({
        "before": {"limits": {}, "plan": null}, "after": {"limits": {"burst": 30}, "plan": "pro"},
    });
    assert_eq!((&said["action"], &said["detail"]), (&json!("tenant.limits_changed"), &detail));
    assert_eq!(acme.owner.get("/api/tenant/audit/").await["results"][0]["action"], "tenant.limits_changed");
    // The same once more is no change.
    ops.set(&app, &acme, &json!({"plan": "pro", "limits": {"burst": 30}})).await;
    assert_eq!(ops.last(&app).await["id"], said["id"]);
    assert_eq!(ops.get(&app, &tenant(&beta)).await["effective_limits"]["users"], 5);

    // Every process goes by it: from the next request on, or as soon as it has heard.
    assert_eq!(acme.owner.me().await.header("ratelimit-policy"), "100;w=1;burst=30");
    let policy =
        async |process: &TestApp| acme.owner.at(process).me().await.header("ratelimit-policy").to_owned();
    eventually("the other one knows it", async || policy(&beside).await == "100;w=1;burst=30").await;
    let patch = json!({"limits": {"requests_per_second": 70}});
    let changed = ops.request(&app, "PATCH", &format!("{PLANS}pro/")).json(&patch).expect(200).await;
    assert_eq!((&changed["limits"]["requests_per_second"], &changed["tenants"]), (&json!(70), &json!(1)));
    assert_eq!(policy(&app).await, "70;w=1;burst=30");
    eventually("the other one has heard", async || policy(&beside).await == "70;w=1;burst=30").await;
    let said = ops.last(&app).await;
    let pro = |limits: Value| json!({"plan": "pro", "limits": limits});
    let detail = json!({
        "before": pro(json!({"burst": 20, "users": 50})),
        "after": pro(json!({"burst": 20, "users": 50, "requests_per_second": 70})),
    });
    assert_eq!((&said["action"], &said["detail"]), (&json!("plan.changed"), &detail));

    let back = ops.set(&app, &acme, &json!({"limits": {"burst": null}, "plan": null})).await;
    assert_eq!((&back["plan"], &back["limits"]), (&json!(null), &json!({})));
    let everybody = json!({"requests_per_second": 100, "users": 5, "mails_per_day": 9});
    assert_eq!(back["effective_limits"], everybody);
    assert_eq!(policy(&app).await, "100;w=1;burst=100");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_told_field_by_field() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up("acme").await;
    let refused = async |body: &Value| {
        let answer = ops.request(&app, "PATCH", &tenant(&acme)).json(body).send().await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{body}");
        answer.json()
    };
    let wrong = json!({"limits": {
        "burst": 0, "requests": 1, "statement_timeout_ms": 5, "users": "many", "mails_per_day": -1, "concurrency": 10_001,
    }});
    let told = refused(&wrong).await["limits"].clone();
    let expected = json!([
        "requests: There is no such limit.",
        "burst: Ensure this value is greater than or equal to 1.",
        "concurrency: Ensure this value is less than or equal to 10000.",
        "statement_timeout_ms: Ensure this value is greater than or equal to 10.",
        "mails_per_day: Ensure this value is greater than or equal to 0.",
        "users: A valid integer is required.",
    ]);
    assert_eq!(told, expected);
    // The least is the limit's, however far below it the number is, and so is the most.
    for limit in tenants::Limit::ALL {
        let (least, most) = limit.bounds().into_inner();
        for (number, sentence) in [
            (json!(-1), format!("{limit}: Ensure this value is greater than or equal to {least}.")),
            (json!(i64::MIN), format!("{limit}: Ensure this value is greater than or equal to {least}.")),
            (json!(u64::MAX), format!("{limit}: Ensure this value is less than or equal to {most}.")),
        ] {
            let told = refused(&json!({"limits": {(limit.as_str()): number}})).await;
            assert_eq!(told["limits"], json!([sentence]));
        }
    }
    let told = refused(&json!({"limits": [], "plan": "No plan"})).await;
    assert_eq!(told["limits"], json!(["Invalid data. Expected a dictionary, but got list."]));
    assert!(told["plan"][0].as_str().unwrap().starts_with("Enter a name of 1 to 40"), "{told}");
    assert_eq!(refused(&json!({"plan": "none"})).await["plan"], json!(["There is no such plan."]));
    assert_eq!(refused(&json!({"limits": null})).await["limits"], json!(["This field may not be null."]));
    assert_eq!(ops.get(&app, &tenant(&acme)).await["effective_limits"], json!({}));

    let tag = ops.request(&app, "GET", &tenant(&acme)).send().await.header("etag").to_owned();
    ops.limit(&app, &acme, json!({"users": 7})).await;
    let body = json!({"limits": {"users": 8}});
    let stale = ops.request(&app, "PATCH", &tenant(&acme)).header("if-match", &tag).json(&body).send().await;
    assert_eq!(stale.said(), (412, "precondition_failed".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_listed_given_and_deleted() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    for name in ["small", "big"] {
        ops.request(&app, "POST", PLANS).json(&json!({"name": name})).expect(201).await;
    }
    let taken = ops.request(&app, "POST", PLANS).json(&json!({"name": "big"})).send().await;
    assert_eq!(taken.said(), (409, "plan_taken".into()));
    let owner = json!({"email": "ada@acme.example", "username": "ada", "password": PASSWORD});
    let body = json!({"name": "Acme", "slug": "acme", "owner": owner, "plan": "big"});
    let made = ops.request(&app, "POST", "/api/admin/tenants/").json(&body).expect(201).await;
    assert_eq!(made["plan"], "big");
    let body = json!({"name": "Beta", "slug": "beta", "owner": {"email": "b@b.example"}, "plan": "huge"});
    let unknown = ops.request(&app, "POST", "/api/admin/tenants/").json(&body).send().await;
    assert_eq!((unknown.status, &unknown.json()["plan"]), (400, &json!(["There is no such plan."])));

    let list = ops.get(&app, PLANS).await;
    let names = |list: &Value| {
        let all = list["results"].as_array().unwrap().iter();
        all.map(|plan| format!("{} {}", plan["name"].as_str().unwrap(), plan["tenants"])).collect::<Vec<_>>()
    };
    assert_eq!((&list["count"], names(&list)), (&json!(2), vec!["big 1".into(), "small 0".into()]));
    assert_eq!(names(&ops.get(&app, &format!("{PLANS}?ordering=-name")).await), ["small 0", "big 1"]);

    let delete = |name: &str| ops.request(&app, "DELETE", &format!("{PLANS}{name}/"));
    assert_eq!(delete("big").send().await.said(), (409, "plan_in_use".into()));
    delete("small").expect(204).await;
    let said = ops.last(&app).await;
    let before = json!({"before": {"plan": "small", "limits": {}}});
    assert_eq!((&said["action"], &said["detail"]), (&json!("plan.deleted"), &before));
    assert_eq!(delete("small").send().await.said(), (404, "not_found".into()));
    let limits = json!({"limits": {"users": 1}});
    let gone = ops.request(&app, "PATCH", &format!("{PLANS}small/")).json(&limits).send().await;
    assert_eq!(gone.said(), (404, "not_found".into()));
    let free = json!({"plan": null});
    let path = format!("/api/admin/tenants/{}/", made["id"].as_str().unwrap());
    ops.request(&app, "PATCH", &path).json(&free).expect(200).await;
    delete("big").expect(204).await;
    assert_eq!(ops.get(&app, PLANS).await["count"], 0);
}

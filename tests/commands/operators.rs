//! What operators do from the command line, with the words and the rules of the admin API; and its listener.

use serde_json::{Value, json};

use super::support::{Serve, Workplace};
use crate::support::eventually;

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn an_operator_works_from_the_command_line_and_over_http_alike() {
    let place = Workplace::new();
    let serve = place.serve();
    let key = accounts_and_keys(&place);
    let id = life_of_a_tenant(&place, &serve).await;

    let table = place.run("audit --tenant=labs").ok();
    assert!(
        table.starts_with("WHEN ") && table.contains("command line") && table.contains("tenant.renamed"),
        "{table}"
    );
    let log = place.run("audit --json --tenant=labs").json();
    let told: Vec<_> =
        log.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let done = [
        "tenant.restored",
        "tenant.deleted",
        "tenant.resumed",
        "tenant.suspended",
        "tenant.renamed",
        "tenant.renamed",
        "tenant.provisioned",
    ];
    assert_eq!(told, done);
    let by = json!({"operator": null, "name": "command line", "api_key": null});
    assert_eq!((&log[0]["actor"], &log[0]["ip"], &log[0]["tenant"]["id"]), (&by, &Value::Null, &id));
    assert_eq!(place.run("audit --json --limit=2").json().as_array().unwrap().len(), 2);
    assert_eq!(place.run("audit --tenant=nowhere").failure(1), "error: there is no tenant `nowhere`\n");
    // Over HTTP it is the same log.
    let http = serve.service("GET", "/api/admin/audit/?page_size=1").bearer(&key).expect(200).await;
    assert_eq!(http["results"][0], place.run("audit --json --limit=1").json()[0]);
}

/// A key that may read.
fn accounts_and_keys(place: &Workplace) -> String {
    assert_eq!(place.run("operator list").ok(), "No operators yet: `tenantry operator create` makes one.\n");
    assert_eq!(place.run("api-key list").ok(), "No API keys.\n");
    for email in ["ops@example.com", "second@example.com"] {
        place.run_with(&format!("operator create {email}"), PASSWORD).ok();
    }
    let list = place.run("operator list --json").json();
    assert_eq!(
        (&list[0]["email"], &list[1]["email"]),
        (&json!("ops@example.com"), &json!("second@example.com"))
    );

    let line = "api-key create night --operator OPS@example.com --scope read,destroy --expires-at 2099-01-01T00:00:00Z";
    let made = place.run(&format!("{line} --json")).json();
    assert_eq!(
        (&made["scopes"], &made["expires_at"]),
        (&json!(["read", "destroy"]), &json!("2099-01-01T00:00:00Z"))
    );
    let shown = place.run("api-key create day --operator ops@example.com --scope read").ok();
    assert!(shown.starts_with("Made the API key day of ops@example.com.\n\n  API key  tenantry_"), "{shown}");
    let key = shown.split_whitespace().find(|word| word.starts_with("tenantry_")).unwrap().to_owned();
    let table = place.run("api-key list").ok();
    assert!(table.contains("night") && table.contains("read, destroy") && !table.contains(&key), "{table}");
    let nobody = place.run("api-key create x --operator nobody@example.com --scope read").failure(1);
    assert_eq!(nobody, "error: there is no operator nobody@example.com\n");
    let past = place
        .run("api-key create x --operator ops@example.com --scope read --expires-at 2020-01-01T00:00:00Z");
    assert_eq!(past.failure(1), "error: the end lies in the past\n");

    let delete = format!("api-key delete {}", made["id"].as_str().unwrap());
    let unsure = place.run(&delete).failure(1);
    assert_eq!(unsure, "error: whatever uses this key stops working; add --yes if that is meant\n");
    place.run(&format!("{delete} --yes")).ok();
    assert!(place.run(&format!("{delete} --yes")).failure(1).starts_with("error: there is no API key "));

    let unsure = place.run("operator delete second@example.com").failure(1);
    assert!(unsure.ends_with("add --yes if that is meant\n"), "{unsure}");
    place.run("operator delete second@example.com --yes").ok();
    let refused = place.run("operator delete ops@example.com --yes").failure(1);
    assert_eq!(refused, "error: this is the last operator\n");
    key
}

/// The tenant's id; it is called `labs` in the end.
async fn life_of_a_tenant(place: &Workplace, serve: &Serve) -> Value {
    let line = "tenant create --name=Acme --owner-email=ada@acme.example --invite";
    let created = place.run(line).ok();
    assert!(created.contains("\n  Owner  ada@acme.example, who gets an invitation by mail\n"), "{created}");
    let shown = place.run("tenant show acme --json").json();
    assert_eq!(
        (&shown["slug"], &shown["usage"]["users"], &shown["limits"]),
        (&json!("acme"), &json!(0), &json!({}))
    );
    let text = place.run("tenant show acme").ok();
    assert!(text.starts_with("acme\n\n  Name     Acme\n  Status   active\n"), "{text}");

    let nothing = place.run("tenant rename acme").failure(2);
    assert!(nothing.contains("<--slug <SLUG>|--name <NAME>>"), "{nothing}");
    let renamed = place.run("tenant rename acme --name=Acme+Sons").ok();
    assert_eq!(renamed, "The tenant acme is acme now, Acme+Sons.\n");
    assert!(place.run("tenant rename acme --slug=www").failure(2).contains("--slug: This name is reserved."));
    let renamed = place.run("tenant rename acme --slug=labs --name=Labs").ok();
    assert_eq!(renamed, "The tenant acme is labs now, Labs.\n");
    assert_eq!(place.run("tenant show acme").failure(1), "error: there is no tenant `acme`\n");
    let status = async || {
        let answer = serve.request("labs", "GET", "/api/current_user/").send().await;
        (answer.status, answer.said().1)
    };
    eventually("it is found by its new name", async || status().await == (401, "not_authenticated".into()))
        .await;
    let taken = place.run("tenant create --name=Acme --slug=acme --owner-email=eve@evil.example --invite");
    assert_eq!(taken.failure(1), "error: the slug acme is taken\n");

    place.run("tenant suspend labs").ok();
    place.run("tenant resume labs").ok();
    let unsure = place.run("tenant delete labs").failure(1);
    assert_eq!(unsure, "error: this closes labs for everybody in it; add --yes if that is meant\n");
    let deleted = place.run("tenant delete labs --yes --json").json();
    assert_eq!(deleted, json!({"slug": "labs", "status": "deleting"}));
    eventually("nobody finds it", async || status().await == (404, "tenant_not_found".into())).await;
    assert_eq!(place.run("tenant restore labs --json").json(), json!({"slug": "labs", "status": "active"}));
    shown["id"].clone()
}

#[tokio::test]
async fn the_admin_api_can_have_a_listener_of_its_own() {
    let place = Workplace::new().with("TENANTRY_ADMIN_LISTEN", "127.0.0.1:0");
    let serve = place.serve();
    let made = place.run_with("operator create ops@example.com --json", PASSWORD).json();
    let key = made["api_key"].as_str().unwrap();
    let admin = serve.started()["admin"].as_str().unwrap().to_owned();
    let tenants = format!("{admin}tenants/");
    let client = reqwest::Client::new();
    let list = client.get(&tenants).bearer_auth(key).send().await.unwrap();
    assert_eq!(list.status(), 200, "{tenants}");
    let list: Value = serde_json::from_str(&list.text().await.unwrap()).unwrap();
    assert_eq!(list["count"], 0);
    let health = client.get(admin.replace("/api/admin/", "/healthz")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    let elsewhere = serve.service("GET", "/api/admin/tenants/").bearer(key).send().await;
    assert_eq!(elsewhere.said(), (404, "not_found".into()));
    serve.service("GET", "/healthz").expect(200).await;
    assert_eq!(serve.terminate(), Some(0), "both listeners end");
}

//! What a running server tells those who watch it: its log and its figures.

use serde_json::{Map, Value, json};

use super::support::Workplace;

const PASSWORD: &str = "correct horse battery";
/// What somebody may write to forge a line, or to play with a terminal.
const HOSTILE: &str = "Eve%0a%1b%5b2J2030-01-01T00:00:00Z%20ERROR";

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_for_programs_and_names_nobody() {
    let place = Workplace::new()
        .with("TENANTRY_LOG_FORMAT", "json")
        .with("TENANTRY_LOG", "debug")
        .with("TENANTRY_METRICS_LISTEN", "127.0.0.1:0");
    let (serve, log) = place.serve_with_log();
    let sign_up = json!({
        "organization": "Zyxel Works", "slug": "zyxel", "username": "quentin", "email": "quentin@zyxel.example",
        "password": PASSWORD,
    });
    let signed_up = serve.service("POST", "/api/sign_up/tenant/").json(&sign_up).expect(201).await;
    let (token, refresh) = (signed_up["token"].as_str().unwrap(), signed_up["refresh"].as_str().unwrap());
    let tenant = signed_up["tenant"]["id"].as_str().unwrap();
    let me = serve.request("zyxel", "GET", "/api/current_user/").bearer(token).expect(200).await;
    let wrong = json!({"email": "quentin@zyxel.example", "password": "guess-4711"});
    serve.request("zyxel", "POST", "/api/login/").json(&wrong).expect(400).await;
    let forgotten = json!({"email": "quentin@zyxel.example"});
    serve.request("zyxel", "POST", "/api/password/forget/").json(&forgotten).expect(200).await;
    let path = format!("/api/users/{HOSTILE}/?token={token}&email=quentin@zyxel.example");
    let asked = serve.request("zyxel", "GET", &path).bearer(token).header("user-agent", "quentin-agent");
    assert_eq!(asked.header("x-request-id", "chosen-by-client").send().await.status, 404);
    serve.service("GET", &format!("/{HOSTILE}")).expect(404).await;
    serve.service("GET", "/healthz").expect(200).await;
    let metrics = serve.started()["metrics"].as_str().unwrap().to_owned();
    let figures = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    assert!(
        figures.contains("tenantry_listening 1") || figures.contains("tenantry_listening 1.0"),
        "{figures}"
    );
    assert_eq!(serve.terminate(), Some(0));

    let lines: Vec<String> = log.collect();
    let secrets =
        [token, refresh, PASSWORD, "guess-4711", "quentin", "zyxel", "Zyxel", "chosen-by-client", "2030"];
    for line in &lines {
        for secret in secrets.into_iter().chain(["@", "127.0.0.1", "\u{1b}"]) {
            // Where the server listens it may say, and where its database is.
            let is_ours = secret == "127.0.0.1" && !line.contains("request_id");
            assert!(is_ours || !line.contains(secret), "{secret} is in {line}");
        }
    }
    let lines: Vec<Map<String, Value>> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(line.values().all(|value| !value.is_object() && !value.is_array()), "{line:?}");
        assert!(chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).is_ok());
        for member in ["level", "target", "message"] {
            assert!(line[member].is_string(), "{line:?}");
        }
    }
    let ended = |route: &str| {
        let of_route = lines.iter().filter(|line| {
            line.get("route").is_some_and(|it| it == route) && line.contains_key("duration_us")
        });
        of_route.collect::<Vec<_>>()
    };
    let [of_user] = ended("/api/current_user/")[..] else { panic!("one line each") };
    let said = |name: &str| of_user[name].clone();
    assert_eq!(
        ["method", "status", "tenant", "user"].map(said),
        [json!("GET"), json!(200), json!(tenant), me["pk"].clone()]
    );
    assert_eq!(of_user["level"], "INFO");
    assert!(of_user["request_id"].as_str().unwrap().len() == 36 && of_user["duration_us"].is_u64());
    let [login] = ended("/api/login/")[..] else { panic!("one line each") };
    assert_eq!(
        (&login["status"], &login["tenant"], &login["code"]),
        (&json!(400), &json!(tenant), &json!("invalid"))
    );
    assert_eq!(login.get("user"), None);
    assert_eq!(ended("/api/users/{pk}/").len(), 1);
    assert_eq!(ended("none").len(), 1);
    assert_eq!(ended("/healthz")[0]["level"], "DEBUG");
    let jobs: Vec<_> = lines.iter().filter(|line| line.contains_key("job")).collect();
    assert!(jobs.iter().any(|job| job["kind"] == "mail" && job["tenant"] == tenant), "{jobs:?}");
}

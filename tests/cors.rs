//! Pages of other origins, on the real routes.

use reqwest::header::HeaderName;
use sqlx::{AssertSqlSafe, Executor as _};
use tenantry::http::Route;

use crate::support::{Answer, Options, Request, TestApp};

const PAGE: &str = "https://app.example.org";
const NOBODY: &str = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";

async fn start() -> TestApp {
    TestApp::with(Options { cors_origins: &[PAGE], ..Options::default() }).await
}

/// A path of this route.
fn path_of(route: &Route) -> String {
    let parts: Vec<_> = route.template().split(['{', '}']).collect();
    parts.iter().enumerate().map(|(n, part)| if n % 2 == 0 { part } else { NOBODY }).collect()
}

fn of_cors(answer: &Answer) -> Vec<&str> {
    answer.headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with("access-control-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_can_be_called_from_an_allowed_origin_and_from_no_other() {
    let app = start().await;
    let acme = app.sign_up("acme").await;
    let routes = tenantry::app::routes().unwrap();
    for route in routes.all() {
        let path = path_of(route);
        for (method, _) in route.operations() {
            let what = format!("{method} {path}");
            let preflight = |origin| {
                let request = app.request("OPTIONS", &path).header("origin", origin);
                request.header("access-control-request-method", method.as_str()).send()
            };
            let answer = preflight(PAGE).await;
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, PAGE), "{what}");
            assert_eq!(answer.header("access-control-allow-methods"), answer.header("allow"), "{what}");
            let named =
                answer.header("access-control-allow-methods").split(", ").any(|name| name == method.as_str());
            assert!(named, "{what}");
            let refused = preflight("https://evil.example").await;
            assert_eq!((refused.status, of_cors(&refused)), (204, vec![]), "{what}");

            // Whatever it says to a call without a body, token or tenant.
            let call = |origin| app.request(method.as_str(), &path).header("origin", origin).send();
            let (ours, theirs) = (call(PAGE).await, call("https://evil.example").await);
            assert_eq!(ours.header("access-control-allow-origin"), PAGE, "{what}");
            assert!(ours.header("access-control-expose-headers").contains("X-Request-Id"), "{what}");
            assert_eq!((theirs.status, of_cors(&theirs)), (ours.status, vec![]), "{what}");
            for answer in [&ours, &theirs] {
                assert!(answer.header("vary").split(", ").any(|name| name == "Origin"), "{what}");
                assert_eq!(answer.headers.get_all("vary").iter().count(), 1, "{what}");
                assert_eq!(answer.header("access-control-allow-credentials"), "", "{what}");
            }
        }
    }
    let users = acme.owner.request("GET", "/api/users/").header("origin", PAGE).send().await;
    assert_eq!((users.status, users.header("access-control-allow-origin")), (200, PAGE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_page_calls_its_own_host_only() {
    let app = TestApp::start().await;
    let [acme, beta] = [app.sign_up("acme").await, app.sign_up("beta").await];
    let domain = format!(
        "INSERT INTO tenantry.domains (name, tenant_id, verified_at) VALUES ('crm.acme.example', '{}', now())",
        acme.id
    );
    app.superuser().await.execute(AssertSqlSafe(domain)).await.unwrap();
    let port = app.address.port();
    let tenant = |host: &str, origin: &str| -> Request {
        app.request("GET", "/api/tenant/").host(host).bearer(&acme.owner.token).header("origin", origin)
    };
    for host in [acme.host(&app), format!("crm.acme.example:{port}")] {
        let own = format!("http://{host}");
        let answer = tenant(&host, &own).send().await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, own.as_str()));
        for origin in [
            format!("http://{}", beta.host(&app)),
            format!("http://localhost:{port}"),
            format!("https://{host}"),
            "http://acme.localhost".to_owned(),
            "null".to_owned(),
        ] {
            let answer = tenant(&host, &origin).send().await;
            assert_eq!((answer.status, of_cors(&answer)), (200, vec![]), "{origin} on {host}");
        }
    }
    // Not even with the tenant's name in a header: another host is another origin.
    let elsewhere = tenant("localhost", &format!("http://{}", acme.host(&app))).header("x-tenant", "acme");
    let answer = elsewhere.send().await;
    assert_eq!((answer.status, of_cors(&answer)), (200, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_learns_why_it_was_refused() {
    let app = start().await;
    let acme = app.sign_up("acme").await;
    let users = || app.request("GET", "/api/users/").header("origin", PAGE);
    for (status, code, request) in [
        (400, "tenant_required", users()),
        (401, "not_authenticated", users().host(&acme.host(&app))),
        (401, "token_not_valid", users().host(&acme.host(&app)).bearer("x")),
        (404, "tenant_not_found", users().host("nobody.localhost")),
        (404, "not_found", app.request("GET", "/nowhere").header("origin", PAGE)),
        (405, "method_not_allowed", app.request("PUT", "/api/users/").header("origin", PAGE)),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.said(), (status, code.to_owned()));
        assert_eq!(answer.header("access-control-allow-origin"), PAGE, "{code}");
    }
}

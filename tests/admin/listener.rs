//! The admin API on a listener of its own.

use serde_json::json;

use super::support::Operator;
use crate::support::{Options, TestApp};
use tenantry::http::Face;

const TENANTS: &str = "/api/admin/tenants/";

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_its_own_has_the_admin_api_and_the_other_one_has_not() {
    let public = TestApp::with(Options { face: Face::Public, ..Options::default() }).await;
    let admin = public.beside_with(Options { face: Face::Admin, ..Options::default() }).await;
    let ops = Operator::create(&public, "ops@example.com").await;
    let acme = public.sign_up("acme").await;
    let not_found = (404, "not_found".to_owned());

    for path in [TENANTS, "/api/admin/audit/", "/api/admin/login/"] {
        for method in ["GET", "POST", "OPTIONS"] {
            assert_eq!(ops.request(&public, method, path).send().await.said(), not_found, "{method} {path}");
        }
    }
    assert_eq!(acme.owner.me().await.status, 200);
    for app in [&public, &admin] {
        for path in ["/healthz", "/readyz", "/openapi.json", "/docs"] {
            assert_eq!(app.request("GET", path).send().await.status, 200, "{path}");
        }
    }
    for path in [
        "/api/current_user/",
        "/api/users/",
        "/.well-known/jwks.json",
        "/api/sign_up/tenant/",
        "/account/verify",
    ] {
        let asked = acme.owner.at(&admin).request("GET", path).send().await;
        assert_eq!(asked.said(), not_found, "{path}");
    }

    let port = admin.address.port();
    let list = ops.get(&admin, &format!("{TENANTS}?page_size=1")).await;
    assert_eq!((&list["count"], &list["results"][0]["slug"]), (&json!(1), &json!("acme")));
    public.sign_up("beta").await;
    let list = ops.get(&admin, &format!("{TENANTS}?page_size=1")).await;
    let next = format!("http://localhost:{port}{TENANTS}?page_size=1&page=2");
    assert_eq!(list["next"], next, "a link leads to this listener, not to the public one");
    // It may be called what its operators call it, but not what a tenant is called.
    let domain = "INSERT INTO tenantry.domains (name, tenant_id, verified_at) SELECT 'acme.example', id, now() FROM tenantry.tenants WHERE slug = 'acme'";
    sqlx::raw_sql(domain).execute(&mut public.superuser().await).await.unwrap();
    ops.request(&admin, "GET", TENANTS).host("admin.internal:1").expect(200).await;
    for host in ["acme.localhost", "nobody.localhost", "acme.example"] {
        assert_eq!(ops.request(&admin, "GET", TENANTS).host(host).send().await.said(), not_found, "{host}");
    }
}

//! Which tenant a request is for: the contract's table, row by row.

use serde_json::json;
use sqlx::Executor as _;

use crate::support::{Options, Organization, Request, TestApp};

const NOT_FOUND: (u16, &str) = (404, "tenant_not_found");
const REQUIRED: (u16, &str) = (400, "tenant_required");
const MISMATCH: (u16, &str) = (400, "tenant_mismatch");
const SUSPENDED: (u16, &str) = (403, "tenant_suspended");
const UNAVAILABLE: (u16, &str) = (503, "service_unavailable");
const NOT_VALID: (u16, &str) = (401, "token_not_valid");

/// A request that every signed-in user may make.
fn tenant(app: &TestApp) -> Request {
    app.request("GET", "/api/tenant/")
}

/// What it says whose it is.
async fn slug_of(request: Request) -> String {
    request.expect(200).await["slug"].as_str().unwrap().to_owned()
}

async fn refused(request: Request) -> (u16, String) {
    request.send().await.said()
}

fn code((status, code): (u16, &str)) -> (u16, String) {
    (status, code.to_owned())
}

async fn sql(app: &TestApp, sql: &'static str) {
    app.superuser().await.execute(sql).await.unwrap();
}

/// A request in the tenant by each source alone.
fn by_every_source(app: &TestApp, organization: &Organization) -> [Request; 3] {
    let signed_in = || tenant(app).bearer(&organization.owner.token);
    [
        signed_in(),
        signed_in().host(&organization.host(app)),
        signed_in().header("x-tenant", &organization.slug),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn host_header_and_token_each_name_the_tenant_alone_or_together() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    for organization in [&acme, &beta] {
        for request in by_every_source(&app, organization) {
            assert_eq!(slug_of(request).await, organization.slug);
        }
        let all = tenant(&app).host(&organization.host(&app)).header("x-tenant", &organization.slug);
        assert_eq!(slug_of(all.bearer(&organization.owner.token)).await, organization.slug);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_source_is_told_to_name_one() {
    let app = TestApp::start().await;
    let port = app.address.port();
    for host in [
        "localhost".to_owned(),
        format!("localhost:{port}"),
        "LOCALHOST.".to_owned(),
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        "192.0.2.1".to_owned(),
    ] {
        let answer = tenant(&app).host(&host).send().await;
        assert_eq!(answer.said(), code(REQUIRED), "{host}");
        assert_eq!(
            answer.problem(),
            json!({
                "type": "about:blank", "title": "Bad Request", "status": 400, "code": "tenant_required",
                "detail": "Name the organization by the host, the header X-Tenant or the token.",
            })
        );
    }
    // A token is no source where none is taken.
    let acme = app.sign_up("acme").await;
    let login = app.request("POST", "/api/login/").bearer(&acme.owner.token).json(&json!({}));
    assert_eq!(refused(login).await, code(REQUIRED));
    // And one that is not valid is told so.
    assert_eq!(refused(tenant(&app).bearer("garbage")).await, code(NOT_VALID));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_of_the_public_url_names_no_tenant() {
    let public_url = Some("https://app.example.org".parse().unwrap());
    let app = TestApp::with(Options { public_url, ..Options::default() }).await;
    let acme = app.sign_up("acme").await;
    for host in ["app.example.org", "App.Example.ORG.:443"] {
        assert_eq!(refused(tenant(&app).host(host)).await, code(REQUIRED), "{host}");
        assert_eq!(slug_of(tenant(&app).host(host).bearer(&acme.owner.token)).await, "acme", "{host}");
        let by_header = tenant(&app).host(host).header("x-tenant", "acme");
        assert_eq!(refused(by_header).await, code((401, "not_authenticated")), "{host}");
    }
    assert_eq!(refused(tenant(&app).host("example.org")).await, code(NOT_FOUND));
    // But links in mails lead under it, so there tenants are found as under the base domain.
    assert_eq!(
        slug_of(tenant(&app).host("acme.app.example.org").bearer(&acme.owner.token)).await,
        "acme",
        "under the public host"
    );
    assert_eq!(refused(tenant(&app).host("nobody.app.example.org")).await, code(NOT_FOUND));
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_disagree_are_refused() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    let host = acme.host(&app);
    let of_acme = || tenant(&app).host(&host).bearer(&acme.owner.token);
    for header in ["beta", "nobody", "ACME", "acme,beta", "acme, acme", "a b", ""] {
        assert_eq!(refused(of_acme().header("x-tenant", header)).await, code(MISMATCH), "{header:?}");
    }
    let answer = of_acme().header("x-tenant", "beta").send().await;
    assert_eq!(
        answer.problem(),
        json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "code": "tenant_mismatch",
            "detail": "Host and X-Tenant must name the same organization, and X-Tenant only one.",
        })
    );
    let twice = of_acme().header("x-tenant", "acme").header("x-tenant", "acme");
    assert_eq!(refused(twice).await, code(MISMATCH));
    // On a host that names nobody, too.
    assert_eq!(refused(tenant(&app).header("x-tenant", "")).await, code(MISMATCH));
    let twice = tenant(&app).header("x-tenant", "acme").header("x-tenant", "beta");
    assert_eq!(refused(twice).await, code(MISMATCH));
    // A token of another tenant is as good as any other that is not valid.
    assert_eq!(refused(tenant(&app).host(&host).bearer(&beta.owner.token)).await, code(NOT_VALID));
    let by_header = tenant(&app).header("x-tenant", "acme").bearer(&beta.owner.token);
    assert_eq!(refused(by_header).await, code(NOT_VALID));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_is_called_is_not_found() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let signed_in = || tenant(&app).bearer(&acme.owner.token);
    for host in [
        "nobody.localhost",
        "acme.acme.localhost",
        "www.localhost",
        "xn--acme-.localhost",
        "a.localhost",
        "acme.example.com",
        "example.com",
        "acmelocalhost",
        "acme_.localhost",
    ] {
        let answer = signed_in().host(host).send().await;
        assert_eq!(answer.said(), code(NOT_FOUND), "{host}");
        assert_eq!(answer.json()["detail"], "No such organization.");
    }
    for header in ["nobody", "ACME", "acme.localhost", "acme ltd", "www", "x", "../acme", "acme' OR '1'='1"] {
        assert_eq!(refused(signed_in().header("x-tenant", header)).await, code(NOT_FOUND), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_port_and_one_final_dot_of_a_host_do_not_count() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let signed_in = || tenant(&app).bearer(&acme.owner.token);
    for host in
        ["acme.localhost", "ACME.LocalHost", "acme.localhost:1", "acme.localhost.", "Acme.localhost.:8080"]
    {
        assert_eq!(slug_of(signed_in().host(host)).await, "acme", "{host}");
    }
    for host in ["acme.localhost..", "acme..localhost", ".acme.localhost"] {
        let answer = signed_in().host(host).send().await;
        assert_eq!(answer.said(), code((400, "parse_error")), "{host}");
        assert_eq!(answer.json()["detail"], "The header Host is malformed.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_closed_by_whichever_source_and_goes_on_after() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    let slug = acme.slug.parse().unwrap();
    let host = acme.host(&app);
    assert_eq!(slug_of(tenant(&app).bearer(&acme.owner.token)).await, "acme");

    app.app.tenancy.set_suspended(&slug, true).await.unwrap();
    for request in by_every_source(&app, &acme) {
        let answer = request.send().await;
        assert_eq!(answer.said(), code(SUSPENDED));
        assert_eq!(answer.json()["detail"], "This organization is suspended.");
    }
    // Before the credentials are looked at, and where there are none.
    assert_eq!(refused(tenant(&app).host(&host)).await, code(SUSPENDED));
    assert_eq!(refused(tenant(&app).host(&host).bearer(&beta.owner.token)).await, code(SUSPENDED));
    let login = app.request("POST", "/api/login/").host(&host).json(&json!({}));
    assert_eq!(refused(login).await, code(SUSPENDED));
    assert_eq!(slug_of(tenant(&app).bearer(&beta.owner.token)).await, "beta");

    app.app.tenancy.set_suspended(&slug, false).await.unwrap();
    for request in by_every_source(&app, &acme) {
        assert_eq!(slug_of(request).await, "acme");
    }
}

/// A schema's name follows from the tenant's id: a row that names another's would show one organization the other's people.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_row_names_another_s_schema_is_not_served() {
    let app = TestApp::start().await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let names = "SELECT (SELECT schema_name FROM tenantry.tenants WHERE slug = 'acme'), \
        (SELECT schema_name FROM tenantry.tenants WHERE slug = 'beta')";
    let mut superuser = app.superuser().await;
    let (a, b): (String, String) = sqlx::query_as(names).fetch_one(&mut superuser).await.unwrap();
    for (schema, slug) in [("x", "acme"), (&a, "beta"), (&b, "acme")] {
        let cross = "UPDATE tenantry.tenants SET schema_name = $1 WHERE slug = $2";
        sqlx::query(cross).bind(schema).bind(slug).execute(&mut superuser).await.unwrap();
    }
    // One that remembers nothing of before.
    let other = app.beside().await;
    for organization in [&acme, &beta] {
        for request in by_every_source(&other, organization) {
            assert_eq!(refused(request).await, code(UNAVAILABLE));
        }
        let login = other.request("POST", "/api/login/").host(&organization.host(&other)).json(&json!({}));
        assert_eq!(refused(login).await, code(UNAVAILABLE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_and_resuming_count_at_the_next_request_of_every_process() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = app.sign_up("acme").await;
    let (slug, host) = (acme.slug.parse().unwrap(), acme.host(&app));
    let login = || {
        let body = json!({"username": "nobody", "password": "wrong"});
        other.request("POST", "/api/login/").host(&host).json(&body)
    };
    for round in 0..2 {
        // From here on the other process remembers where the tenant is, by each source.
        for request in by_every_source(&other, &acme) {
            assert_eq!(slug_of(request).await, "acme", "round {round}");
        }
        assert_eq!(login().send().await.status, 400);
        app.app.tenancy.set_suspended(&slug, true).await.unwrap();
        // Each meets what is remembered; the first to do so gets what is true, and not an excuse.
        if round == 0 {
            let requests = by_every_source(&other, &acme);
            for (n, request) in requests.into_iter().enumerate() {
                assert_eq!(refused(request).await, code(SUSPENDED), "source {n}");
            }
        } else {
            assert_eq!(refused(login()).await, code(SUSPENDED));
        }
        assert_eq!(refused(tenant(&other).host(&host)).await, code(SUSPENDED));
        app.app.tenancy.set_suspended(&slug, false).await.unwrap();
    }
    for request in by_every_source(&other, &acme) {
        assert_eq!(slug_of(request).await, "acme");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_being_deleted_is_gone_for_the_outside() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    sql(&app, "UPDATE tenantry.tenants SET status = 'deleting'").await;
    let app = app.beside().await;
    for request in by_every_source(&app, &acme) {
        assert_eq!(refused(request).await, code(NOT_FOUND));
    }
    let unknown = tenant(&app).host("nobody.localhost").send().await.problem();
    assert_eq!(tenant(&app).host(&acme.host(&app)).send().await.problem(), unknown);
    // Its name is not to be had all the same.
    let check = app.request("GET", "/api/sign_up/tenant/check/?slug=acme").expect(200).await;
    assert_eq!(check, json!({"slug": "acme", "available": false, "reason": "This name is taken."}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_this_process_does_not_serve_is_unavailable_while_others_work() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    let served = tenants::served_versions();
    sql(&app, "UPDATE tenantry.tenants SET schema_version = 0 WHERE slug = 'acme'").await;
    let behind = app.beside().await;
    assert!(!served.contains(&0));
    for version in [0, 1000] {
        for request in by_every_source(&behind, &acme) {
            let answer = request.send().await;
            assert_eq!(answer.said(), code(UNAVAILABLE), "{version}");
            assert_eq!(answer.header("retry-after"), "30");
            assert_eq!(answer.json()["detail"], "Service temporarily unavailable, try again later.");
        }
        sql(&app, "UPDATE tenantry.tenants SET schema_version = 1000 WHERE slug = 'acme'").await;
    }
    assert_eq!(slug_of(tenant(&behind).bearer(&beta.owner.token)).await, "beta");
    // Once it is migrated, by whichever process, it is there again at once.
    sql(&app, "UPDATE tenantry.tenants SET schema_version = 4 WHERE slug = 'acme'").await;
    assert_eq!(slug_of(tenant(&behind).bearer(&acme.owner.token)).await, "acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_of_ones_own_works_once_it_is_verified() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    sql(
        &app,
        "INSERT INTO tenantry.domains (name, tenant_id, verified_at) \
         SELECT 'team.acme.example', id, now() FROM tenantry.tenants WHERE slug = 'acme' UNION ALL \
         SELECT 'new.acme.example', id, NULL FROM tenantry.tenants WHERE slug = 'acme'",
    )
    .await;
    // What this process remembers of the tenant is from before.
    let app = app.beside().await;
    let on = |host: &str| tenant(&app).host(host).bearer(&acme.owner.token);
    for host in ["team.acme.example", "Team.ACME.example.:443"] {
        assert_eq!(slug_of(on(host)).await, "acme", "{host}");
    }
    assert_eq!(slug_of(on("team.acme.example").header("x-tenant", "acme")).await, "acme");
    for host in ["new.acme.example", "acme.example", "x.team.acme.example"] {
        assert_eq!(refused(on(host)).await, code(NOT_FOUND), "{host}");
    }
    assert_eq!(refused(on("team.acme.example").header("x-tenant", "beta")).await, code(MISMATCH));
    let foreign = tenant(&app).host("team.acme.example").bearer(&beta.owner.token);
    assert_eq!(refused(foreign).await, code(NOT_VALID));

    app.app.tenancy.set_suspended(&acme.slug.parse().unwrap(), true).await.unwrap();
    assert_eq!(refused(on("team.acme.example")).await, code(SUSPENDED));
}

#[tokio::test(flavor = "multi_thread")]
async fn public_paths_look_for_no_tenant_on_any_host() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    app.app.tenancy.set_suspended(&acme.slug.parse().unwrap(), true).await.unwrap();
    for path in [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/.well-known/jwks.json",
        "/api/sign_up/tenant/check/?slug=nobody",
    ] {
        for host in ["localhost", "nobody.localhost", "acme.localhost", "nobody.example.com", "a.b.localhost"]
        {
            for header in ["nobody", "acme", ""] {
                let answer = app.request("GET", path).host(host).header("x-tenant", header).send().await;
                assert_eq!(answer.status, 200, "{path} on {host} with X-Tenant {header:?}: {}", answer.text);
            }
        }
    }
    let twice = app.request("GET", "/healthz").header("x-tenant", "a").header("x-tenant", "b");
    assert_eq!(twice.expect(200).await, json!({"status": "ok"}));
    // An organization signs up wherever it likes.
    let sign_up = app.request("POST", "/api/sign_up/tenant/").host("nobody.localhost").json(&json!({}));
    assert_eq!(refused(sign_up).await, code((400, "invalid")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_nobody_had_is_known_as_soon_as_somebody_has_it() {
    let app = TestApp::start().await;
    let login = || app.request("POST", "/api/login/").host("acme.localhost").json(&json!({}));
    assert_eq!(refused(login()).await, code(NOT_FOUND));
    app.sign_up("acme").await;
    assert_eq!(refused(login()).await, code((400, "invalid")));
}

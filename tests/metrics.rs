//! The figures on `/metrics`: that they count what happens, that there are never more of them, and who gets to see them.

#![expect(clippy::float_cmp, reason = "what is counted is a whole number")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use serde_json::json;
use tenantry::{
    http::{Face, Policy},
    jobs,
    server::Server,
    usage,
};
use tenants::{NewTenant, SlugChoice};

use crate::support::{Organization, Request, SmtpServer, TestApp, http_client};

const USER: &str = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";

/// Another listener of the same process, for who watches it.
fn watch(app: &TestApp, face: Face) -> SocketAddr {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap().showing(face);
    let (address, app) = (server.address(), app.app.clone());
    tokio::spawn(async move {
        server.run(&app, Policy::default(), std::future::pending(), Duration::ZERO).await.unwrap();
    });
    address
}

/// What a page said: a value for each name with its labels.
#[derive(Debug)]
struct Figures(BTreeMap<String, f64>);

impl Figures {
    async fn at(address: SocketAddr) -> Self {
        let answer = Request::new(&http_client(), address, "GET", "/metrics").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(answer.header("content-type"), media_type);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(answer.text.ends_with("\n# EOF\n"), "{}", answer.text);
        let mut figures = BTreeMap::new();
        for line in answer.text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let told_before = figures.insert(name.to_owned(), value.parse().unwrap());
            assert_eq!(told_before, None, "{name} is there twice");
        }
        Self(figures)
    }

    #[track_caller]
    fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("there is no {name} in {:#?}", self.0.keys()))
    }

    /// The sum over all labels.
    fn sum(&self, name: &str) -> f64 {
        self.of(name).values().sum()
    }

    /// Those of a family, by their labels.
    fn of(&self, name: &str) -> BTreeMap<&str, f64> {
        let of_it = |(label, value): (&'_ String, &f64)| {
            let rest = label.strip_prefix(name)?;
            (rest.is_empty() || rest.starts_with('{')).then_some(*value)
        };
        let all = self.0.iter();
        all.filter_map(|(label, value)| Some((&label[name.len().min(label.len())..], of_it((label, value))?)))
            .collect()
    }
}

/// The families of a page, as Prometheus names their figures.
async fn families(address: SocketAddr) -> BTreeSet<String> {
    let text = Request::new(&http_client(), address, "GET", "/metrics").send().await.text;
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    kinds
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        })
        .collect()
}

fn tenant_of(organization: &Organization) -> uuid::Uuid {
    organization.id.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_and_never_by_what_a_client_wrote() {
    let app = TestApp::start().await;
    let metrics = watch(&app, Face::Metrics);
    let acme = app.sign_up("acme").await;
    for _ in 0..3 {
        assert_eq!(acme.owner.me().await.status, 200);
    }
    assert_eq!(acme.owner.request("HEAD", "/api/current_user/").send().await.status, 200);
    assert_eq!(acme.owner.request("PUT", "/api/current_user/").send().await.status, 405);
    assert_eq!(acme.owner.request("GET", &format!("/api/users/{USER}/")).send().await.status, 404);

    let before = Figures::at(metrics).await;
    let requests = |route: &str, method: &str, status: &str| {
        format!(r#"tenantry_http_requests_total{{route="{route}",method="{method}",status="{status}"}}"#)
    };
    for (route, method, status, count) in [
        ("/api/current_user/", "GET", "2xx", 3.0),
        ("/api/current_user/", "GET", "5xx", 0.0),
        ("/api/current_user/", "HEAD", "2xx", 1.0),
        ("/api/sign_up/tenant/", "POST", "2xx", 1.0),
        ("/api/users/{pk}/", "GET", "4xx", 1.0),
    ] {
        assert_eq!(before.get(&requests(route, method, status)), count, "{route} {method} {status}");
    }
    let me = r#"{route="/api/current_user/"}"#;
    assert_eq!(before.get(&format!("tenantry_http_request_duration_seconds_count{me}")), 5.0);
    let below_ten = r#"tenantry_http_request_duration_seconds_bucket{le="10.0",route="/api/current_user/"}"#;
    assert_eq!(before.get(below_ten), 5.0);
    let took = before.get(&format!("tenantry_http_request_duration_seconds_sum{me}"));
    assert!(took > 0.0 && took < 30.0, "{took}");
    assert_eq!(before.get(r#"tenantry_http_problems_total{code="not_found"}"#), 1.0);
    assert_eq!(before.get("tenantry_http_requests_in_flight"), 1.0, "the one that asks");

    // Once each, and then whatever else: no figure more.
    let strange = async |n: u32| {
        app.request("GET", &format!("/api/{n}/{USER}?token={n}")).send().await;
        app.request("GET", "/api/users/").host(&format!("nobody-{n}.localhost")).send().await;
        app.request("GET", "/api/users/").host(&format!("host{n}.example")).send().await;
        app.request(&format!("X{n}"), "/api/users/").header("x-request-id", &format!("id{n}")).send().await;
        acme.owner.request("GET", &format!("/api/users/{}/", uuid::Uuid::from_u128(n.into()))).send().await;
    };
    strange(0).await;
    let once = Figures::at(metrics).await;
    for n in 1..=30 {
        strange(n).await;
    }
    let after = Figures::at(metrics).await;
    let fixed = |figures: &Figures| {
        let names = figures.0.keys().filter(|name| !name.starts_with("tenantry_http_requests_total"));
        names.cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(fixed(&after), fixed(&once));
    // The page itself was asked for again.
    assert!(after.0.len() - once.0.len() <= 1, "{} after {}", after.0.len(), once.0.len());
    assert_eq!(after.get(&requests("none", "other", "4xx")), 31.0);
    assert_eq!(after.get(&requests("/api/users/", "other", "4xx")), 31.0);
    assert_eq!(after.get(r#"tenantry_http_problems_total{code="tenant_not_found"}"#), 62.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_does_is_told_by_pool() {
    let app = TestApp::start().await;
    let metrics = watch(&app, Face::Metrics);
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let before = Figures::at(metrics).await;
    for _ in 0..4 {
        assert_eq!(acme.owner.me().await.status, 200);
        assert_eq!(beta.owner.me().await.status, 200);
    }
    let after = Figures::at(metrics).await;
    let reads = r#"tenantry_database_held_seconds_count{pool="lanes",work="read"}"#;
    assert!(after.get(reads) >= before.get(reads) + 8.0, "{} {}", before.get(reads), after.get(reads));
    let of_owner = r#"tenantry_database_held_seconds_count{pool="owner",work="transaction"}"#;
    assert!(after.get(of_owner) >= 2.0, "sign-ups are transactions of the owner's");
    assert_eq!(after.get("tenantry_provisioning_duration_seconds_count"), 2.0);
    assert_eq!(after.get("tenantry_provisionings_given_up_total"), 0.0);
    let slug = SlugChoice::Exactly("gamma".parse().unwrap());
    let new = NewTenant { id: app.clock.uuid_v7(), slug, name: "Gamma".to_owned(), now: app.clock.now() };
    drop(app.app.tenancy.provision(new).await.unwrap());

    let end = Figures::at(metrics).await;
    assert_eq!(end.get("tenantry_provisionings_given_up_total"), 1.0);
    assert!(end.sum("tenantry_pool_bindings_total") >= 8.0);
    let touched = end.of("tenantry_pool_tenants_touched");
    let lanes: f64 =
        touched.iter().filter(|(pool, _)| pool.starts_with(r#"{pool="lane_"#)).map(|(_, count)| count).sum();
    assert!((2.0..=8.0).contains(&lanes), "both tenants, on each connection that had them: {lanes}");
    assert_eq!(end.get(r#"tenantry_pool_connections_max{pool="lane_0"}"#), 4.0);
    assert!(end.get(r#"tenantry_resolver_lookups_total{result="hit"}"#) >= 6.0);
    assert_eq!(end.get(r#"tenantry_resolver_entries{kind="tenants"}"#), 2.0);
    assert!(end.get(r#"tenantry_token_checks_total{result="remembered"}"#) >= 6.0);
    assert!(end.get("tenantry_hashing_duration_seconds_count") >= 2.0);
    assert_eq!((end.get("tenantry_hashing_running"), end.get("tenantry_hashing_waiting")), (0.0, 0.0));
    assert!(end.get("process_resident_memory_bytes") > 1e6 && end.get("process_cpu_seconds_total") > 0.0);
    assert!(end.get("tenantry_runtime_workers") >= 1.0);
    let build = format!(r#"tenantry_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(end.get(&build), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_told_by_what_became_of_them_and_how_long_they_wait() {
    let server = SmtpServer::start().await;
    let app = crate::mail::support::app_with(&server).await;
    let metrics = watch(&app, Face::Metrics);
    app.sign_up("acme").await;
    assert_eq!(jobs::run_due(&app.app).await.unwrap(), 1);
    server.go_away();
    let forgotten = json!({"email": "owner@acme.example"});
    app.request("POST", "/api/password/forget/").host("acme.localhost").json(&forgotten).expect(200).await;
    // To look whose it is, and to mail him; then one that nobody can do.
    assert_eq!(jobs::run_due(&app.app).await.unwrap(), 1);
    assert_eq!(jobs::run_due(&app.app).await.unwrap(), 1);
    let left = async |kind: &'static str| {
        let sql = "INSERT INTO tenantry.jobs (kind, payload, run_at, due_since) \
                   VALUES ($1, '{}', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')";
        sqlx::query(sql).bind(kind).execute(&mut app.superuser().await).await.unwrap();
    };
    left("pigeon").await;
    assert_eq!(jobs::run_due(&app.app).await.unwrap(), 1);
    left("digest").await;
    app.clock.advance(Duration::from_mins(10));

    let figures = Figures::at(metrics).await;
    let attempts = |kind: &str, outcome: &str| {
        figures.get(&format!(r#"tenantry_job_attempts_total{{kind="{kind}",outcome="{outcome}"}}"#))
    };
    assert_eq!((attempts("mail", "done"), attempts("mail", "retried")), (1.0, 1.0));
    assert_eq!((attempts("forgotten_password", "done"), attempts("other", "parked")), (1.0, 1.0));
    assert_eq!(figures.get(r#"tenantry_mail_attempts_total{outcome="sent"}"#), 1.0);
    assert_eq!(figures.get(r#"tenantry_mail_attempts_total{outcome="retried"}"#), 1.0);
    assert_eq!(figures.get("tenantry_mail_duration_seconds_count"), 2.0);
    assert_eq!(figures.get(r#"tenantry_job_duration_seconds_count{kind="mail"}"#), 2.0);
    assert_eq!(figures.get("tenantry_catalog_answers"), 1.0);
    assert_eq!(figures.get(r#"tenantry_jobs{kind="mail",status="queued"}"#), 1.0);
    assert_eq!(figures.get(r#"tenantry_jobs{kind="pigeon",status="parked"}"#), 1.0);
    let late = figures.get(r#"tenantry_jobs_oldest_due_seconds{kind="digest"}"#);
    assert!((late - (27.0 * 3600.0 + 14.0 * 60.0 + 5.678_901)).abs() < 1.0, "{late}");
    let mail = figures.get(r#"tenantry_jobs_oldest_due_seconds{kind="mail"}"#);
    assert!((570.0..=600.0).contains(&mail), "tried again within half a minute, and nobody did: {mail}");
    assert_eq!(figures.get(r#"tenantry_tenants{status="active"}"#), 1.0);
    assert_eq!(figures.get("tenantry_tenants_behind"), 0.0);

    // Whoever asks again within some seconds costs the database nothing.
    let queries = |figures: &Figures| figures.sum("tenantry_database_held_seconds_count");
    let again = Figures::at(metrics).await;
    let third = Figures::at(metrics).await;
    assert_eq!(queries(&again), queries(&third));
    assert_eq!(third.get(r#"tenantry_jobs{kind="mail",status="queued"}"#), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_one_too_many_is_told_by_reason_and_only_the_busiest_by_name() {
    let app = TestApp::start().await;
    let metrics = watch(&app, Face::Metrics);
    app.app.tenancy.keep_busiest(2);
    let slugs = ["acme", "beta", "gamma", "delta"];
    let mut organizations = Vec::new();
    for slug in slugs {
        organizations.push(app.sign_up(slug).await);
    }
    // Whoever comes first opens connections, which takes longer than what it is for.
    for organization in organizations.iter().cycle().take(12) {
        organization.owner.me().await;
    }
    usage::flush(&app.app).await.unwrap();
    app.app.tenancy.keep_busiest(2);
    let [acme, beta, gamma, delta] = organizations.try_into().ok().unwrap();
    let limits = r#"UPDATE tenantry.tenants SET limits = '{"requests_per_second": 1, "burst": 20}' WHERE slug = 'gamma'"#;
    sqlx::raw_sql(limits).execute(&mut app.superuser().await).await.unwrap();
    app.app.tenancy.resolver().changed(tenant_of(&gamma));
    for (organization, count) in [(&acme, 1), (&beta, 40), (&gamma, 30), (&delta, 0)] {
        for _ in 0..count {
            organization.owner.me().await;
        }
    }
    usage::flush(&app.app).await.unwrap();

    let figures = Figures::at(metrics).await;
    let refused =
        |reason: &str| figures.get(&format!(r#"tenantry_refused_requests_total{{reason="{reason}"}}"#));
    assert_eq!((refused("tenant_rate"), refused("tenant_concurrency"), refused("streams")), (10.0, 0.0, 0.0));
    assert_eq!(figures.get(r#"tenantry_http_problems_total{code="throttled"}"#), 10.0);
    let label = |organization: &Organization| format!(r#"{{tenant="{}"}}"#, organization.id);
    let (of_beta, of_gamma) = (label(&beta), label(&gamma));
    let told = figures.of("tenantry_busiest_requests");
    assert_eq!(told, BTreeMap::from([(of_beta.as_str(), 40.0), (of_gamma.as_str(), 30.0)]));
    assert_eq!(figures.get(&format!("tenantry_busiest_throttled{of_gamma}")), 10.0);
    assert_eq!(figures.get(&format!("tenantry_busiest_errors{of_beta}")), 0.0);
    assert!(figures.get(&format!("tenantry_busiest_database_seconds{of_beta}")) > 0.0);
    for slug in slugs {
        assert!(!figures.0.keys().any(|name| name.contains(slug)), "{slug} is a name that people gave");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_sees_them() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let domain = "INSERT INTO tenantry.domains (name, tenant_id, verified_at) SELECT 'acme.example', id, now() FROM tenantry.tenants WHERE slug = 'acme'";
    sqlx::raw_sql(domain).execute(&mut app.superuser().await).await.unwrap();
    let client = http_client();
    let status = async |face: Face, host: &str, path: &str| {
        let request = Request::new(&client, watch(&app, face), "GET", path);
        request.host(host).bearer(&acme.owner.token).send().await.status
    };
    for host in
        ["localhost", "127.0.0.1", "acme.localhost", "nobody.localhost", "acme.example", "else.example"]
    {
        for face in [Face::Whole, Face::Public] {
            assert_eq!(status(face, host, "/metrics").await, 404, "{host} {face:?}");
        }
        let of_tenant = ["acme.localhost", "nobody.localhost", "acme.example"].contains(&host);
        let expected = if of_tenant { 404 } else { 200 };
        assert_eq!(status(Face::Admin, host, "/metrics").await, expected, "{host} on the admin listener");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(Face::Metrics, "10.1.2.3:9464", path).await, 200, "{path}");
    }
    for path in ["/", "/docs", "/openapi.json", "/api/current_user/", "/api/admin/tenants/", "/metrics/"] {
        assert_eq!(status(Face::Metrics, "localhost", path).await, 404, "{path}");
    }
    assert_eq!(acme.owner.request("GET", "/metrics").send().await.said(), (404, "not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_they_are_there_without_what_only_it_knows() {
    let app = TestApp::start().await;
    let metrics = watch(&app, Face::Metrics);
    app.app.tenancy.close();
    let figures = Figures::at(metrics).await;
    assert_eq!(figures.get("tenantry_catalog_answers"), 0.0);
    assert!(figures.of("tenantry_tenants").is_empty());
    assert!(figures.get("process_open_fds") > 3.0);
}

/// What stands in backticks and begins like a figure.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    let words = text.split(|it: char| !is_part(it));
    words
        .filter(|word| word.starts_with("tenantry_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_is_documented_and_every_panel_and_alert_has_its_figures() {
    let app = TestApp::start().await;
    let there = families(watch(&app, Face::Metrics)).await;
    assert!(there.len() > 50, "{there:#?}");

    let page = include_str!("../deploy/observability.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter(|row| row.starts_with("tenantry_") || row.starts_with("process_"));
    let documented: BTreeSet<_> = rows.map(|row| row.split(['`', '{']).next().unwrap().to_owned()).collect();
    assert_eq!(documented, there);

    let dashboard = include_str!("../deploy/observability/dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 25, "{} queries", queries.len());
    queries.push(include_str!("../deploy/observability/rules.yaml"));
    for query in queries {
        for name in named(query) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let known = there.contains(&name) || base.is_some_and(|base| there.contains(base));
            assert!(known, "there is no {name}, of which {query} asks");
        }
    }
}

//! The organization itself, and who may change it.

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::Executor as _;
use tenantry::entity::users::Role;

use crate::support::{Answer, Person, TestApp, User, assert_not_valid};

const PATH: &str = "/api/tenant/";

async fn patch(user: &User, body: &Value) -> Answer {
    user.request("PATCH", PATH).json(body).send().await
}

/// What operators call an organization.
async fn name_in_catalog(app: &TestApp, slug: &str) -> String {
    let name = sqlx::query_scalar("SELECT name FROM tenantry.tenants WHERE slug = $1").bind(slug);
    name.fetch_one(&mut app.superuser().await).await.unwrap()
}

fn assert_denied(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 403, "{what}: {}", answer.text);
    assert_eq!(
        answer.problem(),
        json!({
            "type": "about:blank", "title": "Forbidden", "status": 403, "code": "permission_denied",
            "detail": "You do not have permission to perform this action.",
        }),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_shows_itself_to_its_people() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    assert_eq!(
        ann.get("/api/tenant/").await,
        json!({
            "id": acme.id, "slug": "acme", "name": "ACME", "sign_up_policy": "invite_only",
            "allowed_email_domains": [], "allow_impersonation": true, "created_at": "2026-01-02T03:04:05.678901Z",
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_changes_what_he_names_and_nothing_else() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let admin = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("admin") }).await;
    let mut expected = admin.get(PATH).await;
    let changes = [
        (&admin, json!({"name": "  Ácme & Söhne "}), json!({"name": "Ácme & Söhne"})),
        (&acme.owner, json!({"sign_up_policy": "open"}), json!({"sign_up_policy": "open"})),
        (&admin, json!({"allow_impersonation": false}), json!({"allow_impersonation": false})),
        (
            &admin,
            json!({"allowed_email_domains": ["Example.COM", "bücher.example", "example.com", "xn--bcher-kva.example"]}),
            json!({"allowed_email_domains": ["example.com", "xn--bcher-kva.example"]}),
        ),
        (&admin, json!({}), json!({})),
        (&admin, json!({"id": "x", "slug": "other", "created_at": null}), json!({})),
        (
            &acme.owner,
            json!({"name": "Acme", "sign_up_policy": "invite_only", "allowed_email_domains": []}),
            json!({"name": "Acme", "sign_up_policy": "invite_only", "allowed_email_domains": []}),
        ),
    ];
    for (who, body, changed) in changes {
        let answer = patch(who, &body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        for (name, value) in changed.as_object().unwrap() {
            expected[name] = value.clone();
        }
        assert_eq!(answer.json(), expected, "{body}");
        assert_eq!(acme.owner.get(PATH).await, expected, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_an_organization_by_its_new_name() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    app.sign_up("beta").await;
    assert_eq!(patch(&acme.owner, &json!({"name": "Zenith"})).await.status, 200);
    assert_eq!(name_in_catalog(&app, "acme").await, "Zenith");
    assert_eq!(name_in_catalog(&app, "beta").await, "BETA");
    assert_eq!(patch(&acme.owner, &json!({"allow_impersonation": false})).await.status, 200);
    assert_eq!(name_in_catalog(&app, "acme").await, "Zenith");

    let names: Vec<Value> = (0..10).map(|n| json!({"name": format!("Name {n}")})).collect();
    let answers = join_all(names.iter().map(|body| patch(&acme.owner, body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(json!(name_in_catalog(&app, "acme").await), acme.owner.get(PATH).await["name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_is_renamed_everywhere_or_nowhere() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    app.superuser().await.execute("DROP FUNCTION tenantry.rename_tenant(text)").await.unwrap();
    let answer = patch(&acme.owner, &json!({"name": "Zenith", "sign_up_policy": "open"})).await;
    assert_eq!(answer.said(), (500, "error".into()));
    let settings = acme.owner.get(PATH).await;
    assert_eq!((&settings["name"], &settings["sign_up_policy"]), (&json!("ACME"), &json!("invite_only")));
    assert_eq!(name_in_catalog(&app, "acme").await, "ACME");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_no_sense_are_refused_all_at_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let before = acme.owner.get(PATH).await;
    let domains = |n: usize| (0..n).map(|n| format!("d{n}.example")).collect::<Vec<_>>();
    for (body, errors) in [
        (
            json!({"name": " ", "sign_up_policy": "closed", "allowed_email_domains": "x", "allow_impersonation": "yes"}),
            json!({
                "name": ["This field may not be blank."],
                "sign_up_policy": ["\"closed\" is not a valid choice."],
                "allowed_email_domains": ["Expected a list of items but got type \"str\"."],
                "allow_impersonation": ["Must be a valid boolean."],
            }),
        ),
        (
            json!({"name": "x".repeat(101), "sign_up_policy": 1, "allowed_email_domains": ["a.example", "@b.example", null]}),
            json!({
                "name": ["Ensure this field has no more than 100 characters."],
                "sign_up_policy": ["\"1\" is not a valid choice."],
                "allowed_email_domains": [
                    "Item 2: Enter a valid domain name.", "Item 3: This field may not be null.",
                ],
            }),
        ),
        (
            json!({"name": null, "sign_up_policy": "o".repeat(1_000), "allowed_email_domains": domains(101)}),
            json!({
                "name": ["This field may not be null."],
                "sign_up_policy": [format!("\"{}…\" is not a valid choice.", "o".repeat(50))],
                "allowed_email_domains": ["Ensure this field has no more than 100 elements."],
            }),
        ),
    ] {
        let answer = patch(&acme.owner, &body).await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{body}");
        let mut problem = answer.problem();
        let members = problem.as_object_mut().unwrap();
        for name in ["type", "title", "status", "code", "detail"] {
            members.remove(name);
        }
        assert_eq!(problem, errors, "{body}");
    }
    assert_eq!(acme.owner.get(PATH).await, before);
    assert_eq!(patch(&acme.owner, &json!({"allowed_email_domains": domains(100)})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_admin_is_told_so_before_anything_is_said_about_the_body() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let before = acme.owner.get(PATH).await;
    assert_denied(&patch(&ann, &json!({"name": "Ann's"})).await, "a good body");
    assert_denied(&patch(&ann, &json!({"name": 1})).await, "a wrong field");
    assert_denied(&ann.request("PATCH", PATH).send().await, "no body");
    for (content_type, body) in [
        ("application/json", "{".to_owned()),
        ("text/plain", "name".to_owned()),
        ("application/json", format!("\"{}\"", "x".repeat(2 << 20))),
    ] {
        let answer = ann.request("PATCH", PATH).body(content_type, body).send().await;
        assert_denied(&answer, content_type);
    }
    let nobody = app.request("PATCH", PATH).host(&acme.host(&app)).body("text/plain", "name").send().await;
    assert_eq!(nobody.said(), (401, "not_authenticated".into()));
    assert_eq!(acme.owner.get(PATH).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_counts_at_the_next_request_whichever_process_answers() {
    let app = TestApp::start().await;
    let other_process = app.beside().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let everywhere = [ann.clone(), ann.at(&other_process)];
    let body = json!({"allow_impersonation": true});
    // Its token goes on saying what it said.
    for role in ["member", "admin", "member", "owner", "admin", "member"] {
        acme.change(&app, &ann, &format!("role = '{role}'")).await;
        for ann in &everywhere {
            let answer = patch(ann, &body).await;
            match role {
                "member" => assert_denied(&answer, role),
                _ => assert_eq!(answer.status, 200, "{role}: {}", answer.text),
            }
        }
    }
    acme.change(&app, &ann, "role = 'owner', is_active = false").await;
    for ann in &everywhere {
        assert_not_valid(&patch(ann, &body).await, "deactivated");
    }
}

//! Every operation of the document, tried across the border between two tenants.
//!
//! Nothing here names an endpoint: the operations, their paths and their bodies come from the OpenAPI document, the ids
//! and secrets from the tables. A new endpoint is walked like the others; a new table wants a row of the second tenant
//! in it, or there would be nothing of it to leak.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use tenantry::entity::users::Role;
use uuid::Uuid;

use crate::support::{
    Answer, Operation, Options, Organization, PASSWORD, Person, Request, TestApp, User, operations,
};

/// What stands in every text of the second tenant and nowhere else.
const MARK: &str = "zyxmark";
/// The id of nothing.
const NOBODY: &str = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";

/// Two tenants on one lane, where only the binding keeps them apart: one that looks, and one that must not be seen.
struct Border {
    app: TestApp,
    looks: Organization,
    hides: Organization,
    /// What the second one has and the first must never get to see.
    secrets: Vec<String>,
    /// The ids in each one's schema.
    own_ids: Vec<String>,
    foreign_ids: Vec<String>,
}

impl Border {
    async fn draw() -> Self {
        // Every operation is called many times.
        let app = TestApp::with(Options { rate_limits: false, ..Options::default() }).await;
        let looks = app.sign_up("looks").await;
        let hides = sign_up_beside(&app, &looks).await;
        let [username, first_name, last_name] = ["2", "first", "last"].map(|name| format!("{MARK}.{name}"));
        let email = format!("{MARK}.2@example.com");
        let person = Person {
            username: &username,
            email: &email,
            first_name: &first_name,
            last_name: &last_name,
            role: Role::Admin,
        };
        let second = hides.add_user(&app, person).await;
        let mut superuser = app.superuser().await;
        fill(&mut superuser, &looks, "looks").await;
        fill(&mut superuser, &hides, MARK).await;
        let own_ids = ids(&mut superuser, &looks).await;
        let foreign_ids = ids(&mut superuser, &hides).await;
        let mut secrets = vec![MARK.to_owned(), hides.schema().to_string(), "$argon2".to_owned()];
        secrets.extend([hides.owner.token.clone(), second.token]);
        secrets.extend(foreign_ids.iter().cloned());
        Self { app, looks, hides, secrets, own_ids, foreign_ids }
    }

    /// Sends what the first tenant, or nobody, sends, and looks for the second one's secrets in the answer.
    async fn send(&self, request: Request, what: &str) -> Answer {
        let answer = request.send().await;
        if let Some(secret) = self.secret_in(&answer) {
            panic!("{what}: {secret} in the answer {answer:?}");
        }
        assert!(answer.status < 500, "{what}: {answer:?}");
        answer
    }

    fn secret_in(&self, answer: &Answer) -> Option<&String> {
        let bytes = format!("{:?}{}", answer.headers, answer.text).to_lowercase();
        self.secrets.iter().find(|secret| bytes.contains(&secret.to_lowercase()))
    }

    /// The first tenant's owner; after whatever an operation did to the sessions before.
    async fn looker(&self) -> User {
        self.looks.sign_in(&self.app).await
    }

    async fn hidden_rows(&self) -> String {
        rows(&mut self.app.superuser().await, &self.hides).await
    }
}

/// An organization on the same lane, marked all over.
async fn sign_up_beside(app: &TestApp, other: &Organization) -> Organization {
    let lane = other.db(app).await.tenant().lane;
    for n in 1..64 {
        let body = json!({
            "organization": format!("{MARK} Ltd"), "slug": format!("{MARK}-{n}"), "username": format!("{MARK}.owner"),
            "email": format!("{MARK}@example.com"), "password": PASSWORD, "first_name": format!("First {MARK}"),
            "last_name": format!("Last {MARK}"),
        });
        let organization = Organization::sign_up_with(app, &body).await;
        if organization.db(app).await.tenant().lane == lane {
            return organization;
        }
    }
    panic!("63 tenants and none of them on lane {lane}");
}

/// Puts a row into each table that what was done so far has left empty.
async fn fill(superuser: &mut PgConnection, organization: &Organization, mark: &str) {
    let (schema, user, id) = (organization.schema(), &organization.owner.pk, Uuid::new_v4());
    let hash = format!("sha256('{mark}')");
    let soon = "'2026-01-02T04:00:00Z'";
    let nobody = Uuid::nil();
    let sql = format!(
        "SET search_path TO \"{schema}\";
         INSERT INTO tokens (hash, user_pk, purpose, email, created_at, expires_at)
         VALUES ({hash}, '{user}', 'change_email', '{mark}.new@example.com', {soon}, {soon});
         INSERT INTO sign_ups (email_key, email, username, password_hash, first_name, last_name, token_hash, \
             created_at, expires_at)
         VALUES ('{mark}.s@example.com', '{mark}.s@example.com', '{mark}.s', '$argon2', '{mark}', '{mark}', {hash}, \
             {soon}, {soon});
         INSERT INTO invitations (id, email, email_key, role, invited_by, token_hash, created_at, expires_at)
         VALUES ('{id}', '{mark}.i@example.com', '{mark}.i@example.com', 'member', '{user}', {hash}, {soon}, {soon});
         INSERT INTO devices (user_pk, network, user_agent, first_used_at, last_used_at)
         VALUES ('{user}', '192.0.2.1', '{mark}', {soon}, {soon});
         INSERT INTO throttles (key, hits) VALUES ({hash}, ARRAY[{soon}::timestamptz]);
         INSERT INTO lists (kind, owner, numbered, numbered_at)
         VALUES ('page', '{user}', 1, {soon}), ('activity', '{nobody}', 1000, {soon}), ('inbox', '{user}', 1000, {soon})
         ON CONFLICT ON CONSTRAINT lists_pkey DO UPDATE SET numbered = 1000;
         INSERT INTO list_blocks (kind, owner, block, total, unread)
         VALUES ('page', '{user}', 0, 1, 0), ('inbox', '{user}', 0, 1, 1)
         ON CONFLICT ON CONSTRAINT list_blocks_pkey DO NOTHING;
         UPDATE users SET comment_count = 1 WHERE pk = '{user}';
         INSERT INTO comments (id, user_pk, author_pk, number, body, created_at)
         VALUES ('{id}', '{user}', '{user}', 1, '{mark}', {soon});
         INSERT INTO activities (number, id, actor_pk, actor_number, verb, verb_number, actor_verb_number, object_type, \
             object_id, object_text, created_at)
         VALUES (1000, '{id}', '{user}', 1000, 'commented', 1000, 1000, 'comment', '{id}', '{mark}', {soon});
         INSERT INTO notifications (id, user_pk, number, event, kind, actor_pk, object_type, object_id, object_text, mail, \
             created_at)
         VALUES ('{id}', '{user}', 1000, '{id}', 'comment', '{user}', 'comment', '{id}', '{mark}', 'daily', {soon});
         INSERT INTO notification_preferences (user_pk, kind, in_app, email) VALUES ('{user}', 'comment', 'instant', 'daily');
         INSERT INTO digests (user_pk, mail, id, due_at) VALUES ('{user}', 'daily', '{id}', {soon});
         INSERT INTO idempotency_keys (user_pk, request, body_hash, created, created_at)
         VALUES ('{user}', {hash}, {hash}, '{id}', {soon});
         INSERT INTO audit (id, by_operator, actor_pk, action, detail, created_at)
         VALUES ('{id}', false, '{user}', 'settings.changed', '{{\"after\": {{\"name\": \"{mark}\"}}}}', {soon});
         RESET search_path"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(superuser).await.unwrap();
}

/// The tables of an organization, but for the migrations' own.
async fn tables(superuser: &mut PgConnection, organization: &Organization) -> Vec<String> {
    let sql = format!(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = '{}' AND tablename <> 'schema_migrations' ORDER BY 1",
        organization.schema()
    );
    superuser.fetch_all(AssertSqlSafe(sql)).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Every row of an organization as text.
async fn rows(superuser: &mut PgConnection, organization: &Organization) -> String {
    let mut all = String::new();
    for table in tables(superuser, organization).await {
        let sql = format!(
            r#"SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text), '[]')::text FROM "{}"."{table}" t"#,
            organization.schema()
        );
        let rows: String = superuser.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0);
        assert_ne!(rows, "[]", "nothing of the table {table} could leak: give the second tenant a row in it");
        all.push_str(&rows);
    }
    all
}

/// Every UUID in the tables of an organization, and its own.
async fn ids(superuser: &mut PgConnection, organization: &Organization) -> Vec<String> {
    let rows = rows(superuser, organization).await;
    let mut ids: Vec<String> =
        rows.split('"').filter(|text| Uuid::try_parse(text).is_ok()).map(str::to_owned).collect();
    ids.push(organization.id.clone());
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn secured() -> impl Iterator<Item = Operation> {
    operations().into_iter().filter(|operation| operation.secured)
}

#[test]
fn the_walk_has_something_to_walk() {
    assert!(operations().len() >= 13);
    assert!(secured().count() >= 6);
    assert!(secured().any(|operation| operation.takes_id()));
    assert!(operations().iter().any(|operation| !operation.secured && operation.tenanted));
    assert!(secured().any(|operation| !operation.is_safe()));
}

#[test]
fn the_document_says_of_every_operation_whether_it_runs_in_a_tenant() {
    // The contract's list of what does not.
    const PATHS: [&str; 3] = ["/healthz", "/readyz", "/api/tenants/find/"];
    const TREES: [&str; 3] = ["/.well-known/", "/api/sign_up/tenant/", "/api/admin/"];
    for operation in operations() {
        let path = operation.path.as_str();
        let public = PATHS.contains(&path) || TREES.iter().any(|tree| path.starts_with(tree));
        assert_eq!(operation.tenanted, !public, "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_own_tenant_only() {
    let border = Border::draw().await;
    let Border { app, looks, hides, .. } = &border;
    let (ours, theirs) = (looks.host(app), hides.host(app));
    let hidden = border.hidden_rows().await;
    for operation in secured().filter(|operation| operation.tenanted) {
        let request = || operation.request(app, NOBODY);
        let looker = border.looker().await;
        let missing = border.send(request().host(&ours), &format!("{operation} without a token")).await;
        assert_eq!(missing.said(), (401, "not_authenticated".into()), "{operation}");
        assert_eq!(missing.header("www-authenticate"), "Bearer", "{operation}");
        let expected = border.send(request().host(&ours).bearer("garbage"), "garbage").await;
        assert_eq!(expected.said(), (401, "token_not_valid".into()), "{operation}");
        for (what, refused) in [
            ("their token on our host", request().host(&ours).bearer(&hides.owner.token)),
            (
                "their token by our header",
                request().header("x-tenant", &looks.slug).bearer(&hides.owner.token),
            ),
            ("our token on their host", request().host(&theirs).bearer(&looker.token)),
            ("our token by their header", request().header("x-tenant", &hides.slug).bearer(&looker.token)),
        ] {
            let answer = border.send(refused, &format!("{operation} with {what}")).await;
            assert_eq!(answer.status, 401, "{operation} with {what}: {}", answer.text);
            assert_eq!(answer.problem(), expected.problem(), "{operation} with {what}");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{operation}");
        }
        // Each of the three ways in is open to whom it belongs to; else the above would prove nothing.
        for request in [request().host(&ours), request().header("x-tenant", &looks.slug), request()] {
            let looker = border.looker().await;
            let answer =
                border.send(request.bearer(&looker.token), &format!("{operation} with our token")).await;
            let let_in = answer.status < 400 || !matches!(answer.said().0, 401 | 403);
            assert!(let_in, "{operation}: {}", answer.text);
        }
    }
    assert_eq!(border.hidden_rows().await, hidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_not_open_a_copy_of_its_tenant() {
    let app = TestApp::start().await;
    let (copy, original) = (app.sign_up("copy").await, app.sign_up("original").await);
    // The same user with the same session in both, as after a restore: only the token tells them apart.
    for table in ["users", "sessions"] {
        let [to, from] = [copy.schema(), original.schema()];
        let sql = format!(r#"INSERT INTO "{to}".{table} SELECT * FROM "{from}".{table}"#);
        app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    for operation in secured().filter(|operation| operation.tenanted) {
        for refused in [
            operation.request(&app, NOBODY).host(&copy.host(&app)),
            operation.request(&app, NOBODY).header("x-tenant", &copy.slug),
        ] {
            let answer = refused.bearer(&original.owner.token).send().await;
            assert_eq!(answer.said(), (401, "token_not_valid".into()), "{operation}");
        }
    }
    let body = json!({"token": original.owner.token});
    let verify = app.request("POST", "/api/token/verify/").host(&copy.host(&app)).json(&body).send().await;
    assert_eq!(verify.said(), (401, "token_not_valid".into()));
    original.owner.get("/api/current_user/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_tenant_is_an_id_of_nothing() {
    let border = Border::draw().await;
    let hidden = border.hidden_rows().await;
    for operation in secured().filter(|operation| operation.tenanted && operation.takes_id()) {
        let looker = border.looker().await;
        let ask = async |id: &str| {
            let request = operation.request(&border.app, id).bearer(&looker.token);
            border.send(request, &format!("{operation} with {id}")).await
        };
        let nothing = ask(NOBODY).await;
        assert_eq!(nothing.said(), (404, "not_found".into()), "{operation}");
        for id in border.foreign_ids.iter().map(String::as_str).chain(["1", "none", "%00", "%ff", "0"]) {
            let answer = ask(id).await;
            assert_eq!((answer.status, answer.problem()), (404, nothing.problem()), "{operation} with {id}");
            let names = |answer: &Answer| answer.headers.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&answer), names(&nothing), "{operation} with {id}");
        }
        if operation.is_safe() {
            let mut found = false;
            for id in &border.own_ids {
                found |= ask(id).await.status == 200;
            }
            assert!(
                found,
                "{operation} finds nothing by an id of our own, so finding nothing proves nothing"
            );
        }
    }
    assert_eq!(border.hidden_rows().await, hidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_has_anything_of_another_tenant_in_it() {
    let border = Border::draw().await;
    let Border { app, looks, hides, .. } = &border;
    let hidden = border.hidden_rows().await;
    let mut shown = 0;
    for operation in operations() {
        let ids: Vec<&String> = border.own_ids.iter().chain(&border.foreign_ids).collect();
        let ids = if operation.takes_id() { ids } else { vec![&looks.id] };
        for id in ids {
            let looker = border.looker().await;
            let request = operation.request(app, id).host(&looks.host(app)).bearer(&looker.token);
            border.send(request, &format!("{operation} with {id}")).await;
        }
        if operation.is_safe() && operation.secured {
            // As much as there is, in case the list goes on.
            let path =
                format!("{}?page_size=100&is_active=true", operation.path_of(&border.looker().await.pk));
            border.send(border.looker().await.request("GET", &path), &path).await;
            // Whom it belongs to sees it: the marks would be found if they were there.
            let request = operation.request(app, &hides.owner.pk).bearer(&hides.owner.token);
            shown += usize::from(border.secret_in(&request.send().await).is_some());
        }
    }
    assert!(shown >= 4, "only {shown} operations show the marks to whom they belong");
    assert_eq!(border.hidden_rows().await, hidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_needs_no_credentials_does_not_look_at_them() {
    let border = Border::draw().await;
    let Border { app, looks, hides, .. } = &border;
    let open: Vec<_> = operations().into_iter().filter(|operation| !operation.secured).collect();
    for operation in &open {
        let request = || {
            let request = operation.request(app, NOBODY);
            if operation.tenanted { request.host(&looks.host(app)) } else { request }
        };
        // Whatever this makes is there for all that follow.
        request().send().await;
        let expected = shape(&border.send(request(), &operation.to_string()).await);
        for authorization in [
            format!("Bearer {}", looks.owner.token),
            format!("Bearer {}", hides.owner.token),
            "Bearer garbage".to_owned(),
            "Bearer".to_owned(),
            "Basic YTpi".to_owned(),
        ] {
            let what = format!("{operation} with {authorization}");
            let answer = border.send(request().header("authorization", &authorization), &what).await;
            assert_eq!(shape(&answer), expected, "{what}");
        }
        if operation.tenanted {
            // A token is no source of the tenant where none is taken.
            let request = operation.request(app, NOBODY).bearer(&looks.owner.token);
            let answer = border.send(request, &format!("{operation} with a token only")).await;
            assert_eq!(answer.said(), (400, "tenant_required".into()), "{operation}");
        }
    }
}

/// What does not differ from answer to answer.
fn shape(answer: &Answer) -> (u16, Value) {
    let mut body = answer.json();
    if let Some(members) = body.as_object_mut() {
        members.remove("request_id");
        assert!(
            !members.get("token").is_some_and(Value::is_string),
            "tokens differ every time: {}",
            answer.text
        );
    }
    (answer.status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_a_tenant_wants_exactly_one_that_is_open() {
    let border = Border::draw().await;
    let Border { app, looks, hides, .. } = &border;
    let suspended = app.sign_up("suspended").await;
    let deleting = app.sign_up("deleting").await;
    let unserved = app.sign_up("unserved").await;
    app.app.tenancy.set_suspended(&suspended.slug.parse().unwrap(), true).await.unwrap();
    let mut superuser = app.superuser().await;
    superuser
        .execute("UPDATE tenantry.tenants SET status = 'deleting' WHERE slug = 'deleting'")
        .await
        .unwrap();
    superuser
        .execute("UPDATE tenantry.tenants SET schema_version = 1000 WHERE slug = 'unserved'")
        .await
        .unwrap();
    // What this process remembers of them is from before.
    let app = &app.beside().await;
    let mut walked = 0;
    for operation in operations().into_iter().filter(|operation| operation.tenanted) {
        let request = || operation.request(app, NOBODY);
        let cases = [
            (400, "tenant_required", request()),
            (404, "tenant_not_found", request().host("nobody.localhost")),
            (404, "tenant_not_found", request().host("nobody.example.com")),
            (404, "tenant_not_found", request().header("x-tenant", "nobody")),
            (400, "tenant_mismatch", request().host(&looks.host(app)).header("x-tenant", &hides.slug)),
            (400, "tenant_mismatch", request().host(&looks.host(app)).header("x-tenant", "")),
            (403, "tenant_suspended", request().host(&suspended.host(app)).bearer(&suspended.owner.token)),
            (403, "tenant_suspended", request().header("x-tenant", "suspended")),
            (404, "tenant_not_found", request().host(&deleting.host(app)).bearer(&deleting.owner.token)),
            (404, "tenant_not_found", request().header("x-tenant", "deleting")),
            (503, "service_unavailable", request().host(&unserved.host(app)).bearer(&unserved.owner.token)),
            (503, "service_unavailable", request().header("x-tenant", "unserved")),
        ];
        for (n, (status, code, request)) in cases.into_iter().enumerate() {
            let answer = request.send().await;
            assert_eq!(answer.said(), (status, code.to_owned()), "{operation}, case {n}");
            assert_eq!(answer.header("retry-after").parse::<u32>().is_ok(), status == 503, "{operation}");
        }
        walked += 1;
    }
    assert!(walked >= 8, "only {walked}");
}

//! What comes out of an archive is what went in.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use tenants::{SchemaName, archive};

use super::support::{export, import, rows, schema_of};
use crate::{
    migrations::described,
    support::{Organization, PASSWORD, Person, TestApp, User},
};

/// An organization in which something happened.
pub(super) async fn lively(app: &TestApp) -> (Organization, User) {
    let acme = app.sign_up("acme").await;
    let grace = acme.add_user(app, Person::named("grace")).await;
    let page = format!("/api/users/{}/comments/", acme.owner.pk);
    // What has to be escaped in a line of text: tabs, line ends, backslashes, the end of a COPY, nothing.
    for body in ["Hello @grace", "a\tb\nc\\d \u{1f980}", "\\.", "\\N"] {
        let comment = grace.request("POST", &page).json(&json!({"body": body})).expect(201).await;
        let reply = json!({"body": "indeed", "parent": comment["id"]});
        acme.owner.request("POST", &page).json(&reply).expect(201).await;
    }
    acme.owner.request("PATCH", "/api/tenant/").json(&json!({"sign_up_policy": "open"})).expect(200).await;
    let invitation = json!({"email": "new@acme.example"});
    acme.owner.request("POST", "/api/invitations/").json(&invitation).expect(201).await;
    let off = json!({"mention": {"in_app": "instant", "email": "off"}});
    grace.request("PUT", "/api/notifications/preferences/").json(&off).expect(200).await;
    (acme, grace)
}

/// The rows of a table, as if they were the other tenant's.
pub(super) async fn as_of(app: &TestApp, schema: &SchemaName, table: &str, to: &SchemaName) -> Vec<String> {
    let id = |schema: &SchemaName| schema.tenant().unwrap().to_string();
    rows(app, schema, table).await.iter().map(|row| row.replace(&id(schema), &id(to))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_comes_back_as_it_was() {
    let app = TestApp::start().await;
    let (acme, _) = lively(&app).await;
    let (bytes, manifest) = export(&app, &acme.id).await;
    let copy = import(&app, &bytes, "copy", false).await;
    let (old, new) = (acme.schema(), copy.schema.clone());

    assert_eq!((manifest.tenant.slug.as_str(), manifest.tenant.name.as_str()), ("acme", "ACME"));
    for (table, _) in archive::contents_of(manifest.schema_version) {
        let mut before = as_of(&app, &old, table, &new).await;
        match table {
            "settings" => before[0] = before[0].replace("ACME", "\"The Copy\""),
            // No mail waits any more.
            "notifications" => before.iter_mut().for_each(|row| *row = row.replace(",instant,", ",,")),
            _ => {}
        }
        before.sort_unstable();
        let after = rows(&app, &new, table).await;
        assert_eq!(after, before, "{table}");
        let counted = manifest.tables.iter().find(|counted| counted.name == table).unwrap();
        assert_eq!(usize::try_from(counted.rows).unwrap(), after.len(), "{table}");
        assert!(!after.is_empty() || ["devices", "audit"].contains(&table), "nothing was tried with {table}");
    }
    for (table, _) in archive::left_out_of(manifest.schema_version) {
        // What is counted anew has a test of its own.
        if !["schema_migrations", "lists", "list_blocks"].contains(&table) {
            assert_eq!(rows(&app, &new, table).await, [""; 0], "{table}");
        }
    }
    assert_eq!(rows(&app, &old, "invitations").await.len(), 1);
    let mut superuser = app.superuser().await;
    let (made, loaded) =
        (described(&mut superuser, old.as_str()).await, described(&mut superuser, new.as_str()).await);
    assert_eq!(loaded, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_people_go_on_where_they_were() {
    let app = TestApp::start().await;
    let (acme, grace) = lively(&app).await;
    let before = acme.owner.get("/api/users/").await;
    let (bytes, _) = export(&app, &acme.id).await;
    let copy = import(&app, &bytes, "copy", false).await;
    let copy = Organization { id: copy.id.to_string(), slug: "copy".into(), owner: acme.owner.clone() };

    // Neither a session nor a token is of use there.
    let elsewhere =
        app.request("GET", "/api/users/").host(&copy.host(&app)).bearer(&grace.token).send().await;
    crate::support::assert_not_valid(&elsewhere, "a token of the tenant that was exported");
    assert_eq!(acme.owner.me().await.status, 200);
    let owner = copy.log_in(&app).await;
    let (results, users) = (|answer: &Value| answer["results"].clone(), owner.get("/api/users/").await);
    assert_eq!(results(&users), results(&before));

    // Lists go on with the next number.
    let page = format!("/api/users/{}/comments/", owner.pk);
    assert_eq!(owner.get(&page).await["count"], 4);
    owner.request("POST", &page).json(&json!({"body": "Here again"})).expect(201).await;
    let comments = owner.get(&page).await;
    assert_eq!((&comments["count"], &comments["results"][0]["body"]), (&json!(5), &json!("Here again")));
    assert_eq!(owner.get("/api/invitations/").await["count"], 0);
    let activity = owner.get("/api/activity/?verb=settings_updated").await;
    let about = &activity["results"][0]["object"];
    assert_eq!(*about, json!({"type": "organization", "id": copy.id, "display": "The Copy"}));
    assert_eq!(owner.get("/api/tenant/").await["name"], "The Copy");
    assert_eq!(acme.owner.get("/api/tenant/").await["name"], "ACME");

    // Both are among the organizations of their owner.
    let hash = tenantry::users::blind(&app.app, "owner@acme.example");
    let found = app.app.tenancy.tenants_with_email(&hash).await.unwrap();
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [acme.id, copy.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_many_rows_comes_in_pieces() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let schema = acme.schema();
    // A row that is longer than a piece, and enough of them for several pieces.
    let fill = format!(
        r#"INSERT INTO "{schema}".audit (id, by_operator, action, detail, created_at)
           SELECT gen_random_uuid(), false, 'filled', jsonb_build_object('n', n, 'text', repeat(md5(n::text), CASE WHEN n % 100 = 0 THEN 20000 ELSE 10 END)), now()
           FROM generate_series(1, 1000) AS n"#
    );
    app.superuser().await.execute(AssertSqlSafe(fill)).await.unwrap();
    let (bytes, manifest) = export(&app, &acme.id).await;
    assert!(
        manifest.bytes() > 6_000_000 && bytes.len() < 3_000_000,
        "{} in {}",
        manifest.bytes(),
        bytes.len()
    );
    let copy = import(&app, &bytes, "copy", false).await;
    assert_eq!(rows(&app, &copy.schema, "audit").await, rows(&app, &schema, "audit").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_an_older_schema_is_migrated() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    // As the schema was before it had a log.
    let sql = format!(
        r#"SET search_path TO "{}"; DROP TABLE audit; ALTER TABLE invitations DROP COLUMN by_operator;
           DELETE FROM schema_migrations WHERE version LIKE 'm0004%';
           UPDATE tenantry.tenants SET schema_version = 3 WHERE id = '{}'"#,
        acme.schema(),
        acme.id
    );
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
    let (bytes, manifest) = export(&app, &acme.id).await;
    assert_eq!(manifest.schema_version, 3);
    let copy = import(&app, &bytes, "copy", false).await;
    let newest = *tenants::served_versions().end();
    assert_eq!(copy.schema_version, newest);
    let other = app.sign_up("other").await;
    let mut superuser = app.superuser().await;
    let made = described(&mut superuser, other.schema().as_str()).await;
    assert_eq!(described(&mut superuser, copy.schema.as_str()).await, made);
    let login = json!({"username": "acme-owner", "password": PASSWORD});
    let host = format!("copy.localhost:{}", app.address.port());
    app.request("POST", "/api/login/").host(&host).json(&login).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_can_be_exported_and_one_that_is_gone_cannot() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    app.app.tenancy.set_suspended(&"acme".parse().unwrap(), true).await.unwrap();
    let (_, manifest) = export(&app, &acme.id).await;
    assert!(manifest.rows() > 3);
    let meter = std::sync::Arc::default();
    let nobody = app.clock.uuid_v7();
    let error = app.app.tenancy.export(nobody, Vec::new(), app.clock.now(), &meter).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no such tenant");
    assert_eq!(schema_of(&acme.id), acme.schema());
}

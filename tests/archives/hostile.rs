//! What is not as it should be is refused, and leaves nothing behind.

use super::{
    forgery::Forgery,
    support::{export, import, refusal, tamper},
};
use crate::support::{Person, TestApp};

/// An archive of a small organization.
async fn small(app: &TestApp) -> Vec<u8> {
    let acme = app.sign_up("acme").await;
    acme.add_account(app, Person::named("grace")).await;
    export(app, &acme.id).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let archive = small(&app).await;
    for at in (0..archive.len()).step_by(211) {
        let mut changed = archive.clone();
        changed[at] ^= 0x40;
        let refused = refusal(&app, &changed, true).await;
        assert!(refused.contains("archive"), "byte {at}: {refused}");
        refusal(&app, &archive[..at], true).await;
    }
    import(&app, &archive, "copy", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_installations_archive_wants_trust() {
    let app = TestApp::start().await;
    let archive = small(&app).await;
    let forged = Forgery::of(&archive).written();
    let refused = refusal(&app, &forged, false).await;
    assert!(refused.contains("another installation, bbbbbbbb"), "{refused}");
    let copy = import(&app, &forged, "copy", true).await;
    assert_eq!(copy.slug.as_str(), "copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_none_are_refused() {
    let app = TestApp::start().await;
    let genuine = Forgery::of(&small(&app).await);
    let refused = async |change: &dyn Fn(&mut Forgery)| {
        let mut forged = genuine.clone();
        change(&mut forged);
        refusal(&app, &forged.written(), true).await
    };
    let says = "PostgreSQL refuses what the archive holds: ";
    let broken = |what: &str| format!("{says}{what}");

    let row = refused(&|it| it.rows("users").extend(b"too\tshort\n")).await;
    assert_eq!(row, broken("invalid input syntax for type uuid: \"too\""));
    let row = refused(&|it| it.rows("settings").splice(0..0, *b"\t").fuse().for_each(drop)).await;
    assert!(row.starts_with(says), "{row}");
    let bytes = refused(&|it| it.rows("settings").extend(b"\xff\xfe\n")).await;
    assert!(bytes.contains("invalid byte sequence for encoding"), "{bytes}");
    let nul = refused(&|it| it.rows("settings").extend(b"2\t\0\n")).await;
    assert!(nul.starts_with(says), "{nul}");
    // A line `\.` ends a COPY, and PostgreSQL takes what follows for nothing at all, or for an error from version 18 on.
    let ended = refused(&|it| {
        let rows = it.rows("users").clone();
        it.rows("users").extend(b"\\.\nDROP SCHEMA tenantry CASCADE;\n");
        it.rows("users").extend(rows);
    })
    .await;
    assert!(ended.contains("PostgreSQL took 2") || ended.starts_with(says), "{ended}");
    let unended = refused(&|it| it.rows("audit").extend(b"no line end")).await;
    assert!(unended.starts_with(says), "{unended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_break_the_schemas_rules_are_refused() {
    let app = TestApp::start().await;
    let archive = small(&app).await;
    let genuine = Forgery::of(&archive);
    let refused = async |change: &dyn Fn(&mut Forgery)| {
        let mut forged = genuine.clone();
        change(&mut forged);
        refusal(&app, &forged.written(), true).await
    };
    let twice = refused(&|it| {
        let rows = it.rows("users").clone();
        it.rows("users").extend(rows);
    })
    .await;
    assert!(twice.contains("could not create unique index \"users_pkey\""), "{twice}");
    let nobodys = refused(&|it| it.rows("users").clear()).await;
    assert!(nobodys.contains("violates foreign key constraint"), "{nobodys}");
    let settings = refused(&|it| it.rows("settings").clear()).await;
    assert!(settings.contains("0 rows of settings instead of one"), "{settings}");
    let role = refused(&|it| {
        let text = String::from_utf8(it.rows("users").clone()).unwrap();
        *it.rows("users") = text.replace("\tmember\t", "\troot\t").into_bytes();
    })
    .await;
    assert!(role.contains("violates check constraint \"users_role_check\""), "{role}");
    // The tables of the catalog have no place in it.
    let elsewhere = refused(&|it| it.header["tables"][1][0] = "tenantry.operators".into()).await;
    assert!(elsewhere.contains("does not hold what a schema of its version has"), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_archive_of_a_broken_tenant_is_refused_too() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    tamper(&app, &acme.schema(), "ALTER TABLE settings DROP CONSTRAINT settings_sign_up_policy_check; UPDATE settings SET sign_up_policy = 'x'").await;
    let (archive, _) = export(&app, &acme.id).await;
    let refused = refusal(&app, &archive, false).await;
    assert!(refused.contains("settings_sign_up_policy_check"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_given_up_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let archive = small(&app).await;
    let importing = super::support::load(&app, &archive, false).await.unwrap();
    let schema = tenants::SchemaName::of(importing.id());
    drop(importing);
    let mut superuser = app.superuser().await;
    let gone =
        "SELECT FROM pg_namespace WHERE nspname = $1 UNION ALL SELECT FROM pg_roles WHERE rolname = $1";
    let left = sqlx::query(gone).bind(schema.as_str()).fetch_all(&mut superuser).await.unwrap();
    assert_eq!(left.len(), 0);
}

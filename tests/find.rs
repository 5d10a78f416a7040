//! The list of a person's organizations, by mail.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::mail::{Letter, Mail};

use crate::support::{Answer, Organization, Person, TestApp};

/// An organization whose first mail, to its owner, has gone out.
async fn sign_up(app: &TestApp, slug: &str) -> Organization {
    let organization = app.sign_up(slug).await;
    app.mails().await;
    organization
}

async fn find(app: &TestApp, email: &str) -> Answer {
    app.request("POST", "/api/tenants/find/").json(&json!({"email": email})).send().await
}

/// To whom which organizations were mailed.
async fn mailed(app: &TestApp) -> Vec<(String, Vec<(String, String)>)> {
    let read = |letter: Letter| {
        let Mail::Organizations { organizations } = letter.mail else { panic!("{letter:?}") };
        (letter.to.email, organizations.into_iter().map(|it| (it.name, it.url)).collect())
    };
    app.mails().await.into_iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_mailed_the_organizations_he_is_active_in() {
    let app = TestApp::start().await;
    let mut all = Vec::new();
    for slug in ["first", "second", "asleep", "closed", "without", "suspended"] {
        all.push(sign_up(&app, slug).await);
    }
    for organization in all.iter().filter(|organization| organization.slug != "without") {
        let email = "ann@bücher.example";
        let ann = organization.add_user(&app, Person { email, ..Person::named("ann") }).await;
        let db = organization.db(&app).await;
        let tx = db.begin().await.unwrap();
        tx.index_email(None, Some(&tenantry::users::blind(&app.app, email))).await.unwrap();
        tx.commit().await.unwrap();
        match organization.slug.as_str() {
            "asleep" => organization.change(&app, &ann, "is_active = false").await,
            "suspended" => app.app.tenancy.set_suspended(&"suspended".parse().unwrap(), true).await.unwrap(),
            "closed" => {
                let id = organization.id.parse().unwrap();
                app.app.tenancy.close_tenant(id, app.clock.now()).await.unwrap();
            }
            _ => {}
        }
    }
    find(&app, "ANN@xn--bcher-kva.example").await;
    let url = |slug: &str| format!("http://{slug}.localhost:{}", app.address.port());
    let organizations = vec![("FIRST".into(), url("first")), ("SECOND".into(), url("second"))];
    assert_eq!(mailed(&app).await, [("ann@bücher.example".to_owned(), organizations)]);

    // The address as it is kept, which may be another mailbox than the one that was typed.
    all[0].change(&app, &all[0].owner, "email = 'OWNER@first.example'").await;
    find(&app, "owner@FIRST.example").await;
    assert_eq!(mailed(&app).await[0].0, "OWNER@first.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_from_the_answer_who_is_known() {
    let app = TestApp::start().await;
    let acme = sign_up(&app, "acme").await;
    let (known, unknown) = (find(&app, "owner@acme.example").await, find(&app, "nobody@acme.example").await);
    assert_eq!((known.status, &known.text), (200, &unknown.text));
    let shape = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((unknown.status, shape(&unknown)), (200, shape(&known)));
    let sentence = "If there are organizations with this address, a list of them is on its way to it.";
    assert_eq!(known.json(), json!({"detail": sentence}));
    // Nothing was looked up for either when it was answered.
    let mut superuser = app.superuser().await;
    let row = superuser
        .fetch_one(
            "SELECT count(*), string_agg(payload::text, '') FROM tenantry.jobs WHERE status = 'queued'",
        )
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>(0), 2);
    assert!(!row.get::<String, _>(1).contains("acme.example"), "what waits is encrypted");
    assert_eq!(mailed(&app).await.len(), 1);

    let wrong = find(&app, "nonsense").await;
    assert_eq!(wrong.json()["email"], json!(["Enter a valid email address."]));
    // It belongs to no organization, whatever host it is asked on.
    let on_host = app.request("POST", "/api/tenants/find/").host(&acme.host(&app));
    assert_eq!(on_host.json(&json!({"email": "a@b.example"})).expect(200).await, known.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_holds_no_address_in_clear() {
    let app = TestApp::start().await;
    sign_up(&app, "acme").await;
    find(&app, "owner@acme.example").await;
    app.mails().await;
    let mut superuser = app.superuser().await;
    for table in ["email_index", "jobs", "tenants", "throttles"] {
        let sql = format!("SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]')::text FROM tenantry.{table} t");
        let rows: String = superuser.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0);
        assert!(!rows.contains("acme.example"), "{table}: {rows}");
    }
    let sql = "SELECT encode(email_hash, 'hex') AS hash FROM tenantry.email_index";
    let hash: String = superuser.fetch_one(sql).await.unwrap().get(0);
    let plain: Value = superuser
        .fetch_one("SELECT to_jsonb(encode(sha256('owner@acme.example'), 'hex'))")
        .await
        .unwrap()
        .get(0);
    assert_ne!(json!(hash), plain, "nor a hash that anybody could make");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_mailed_more_often_than_he_could_want() {
    let app = TestApp::start().await;
    sign_up(&app, "acme").await;
    let mut sent = 0;
    for _ in 0..6 {
        assert_eq!(find(&app, "owner@acme.example").await.status, 200);
        sent += mailed(&app).await.len();
    }
    assert_eq!(sent, 5);
    app.clock.advance(Duration::from_hours(1));
    assert_eq!(mailed(&app).await.len(), 1, "the sixth, an hour later");
    app.clock.advance(Duration::from_hours(1));
    for _ in 0..6 {
        assert_eq!(find(&app, "nobody@acme.example").await.status, 200);
    }
    let mut statuses = Vec::new();
    for _ in 6..21 {
        statuses.push(find(&app, "nobody@acme.example").await.status);
    }
    assert_eq!((&statuses[..14], statuses[14]), ([200; 14].as_slice(), 429));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_died_mails_nobody_twice() {
    let app = TestApp::start().await;
    sign_up(&app, "acme").await;
    find(&app, "owner@acme.example").await;
    let mut superuser = app.superuser().await;
    superuser
        .execute("CREATE TABLE kept AS SELECT id, payload FROM tenantry.jobs WHERE status = 'queued'")
        .await
        .unwrap();
    assert_eq!(mailed(&app).await.len(), 1);
    let again = "UPDATE tenantry.jobs SET status = 'queued', finished_at = NULL, payload = kept.payload FROM kept \
                 WHERE jobs.id = kept.id";
    assert_eq!(superuser.execute(again).await.unwrap().rows_affected(), 1);
    assert_eq!(mailed(&app).await, []);
    // Asked for once more, it is another one.
    find(&app, "owner@acme.example").await;
    assert_eq!(mailed(&app).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_is_broken_keeps_no_other_from_being_listed() {
    let app = TestApp::start().await;
    let mut all = Vec::new();
    for slug in ["first", "second", "third"] {
        let organization = sign_up(&app, slug).await;
        let email = "ann@people.example";
        organization.add_user(&app, Person { email, ..Person::named("ann") }).await;
        let tx = organization.db(&app).await.begin().await.unwrap();
        tx.index_email(None, Some(&tenantry::users::blind(&app.app, email))).await.unwrap();
        tx.commit().await.unwrap();
        all.push(organization);
    }
    let rename = |from: &str, to: &str| format!(r#"ALTER TABLE "{}".{from} RENAME TO {to}"#, all[1].schema());
    let mut superuser = app.superuser().await;
    superuser.execute(AssertSqlSafe(rename("settings", "gone"))).await.unwrap();
    find(&app, "ann@people.example").await;
    let names = |mails: Vec<(String, Vec<(String, String)>)>| -> Vec<Vec<String>> {
        mails.into_iter().map(|(_, list)| list.into_iter().map(|(name, _)| name).collect()).collect()
    };
    // It may be for a moment only.
    assert_eq!(names(mailed(&app).await), Vec::<Vec<String>>::new());
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(names(mailed(&app).await));
        app.clock.advance(Duration::from_mins(1));
    }
    assert_eq!(seen, [["FIRST", "THIRD"]]);

    find(&app, "ann@people.example").await;
    assert_eq!(names(mailed(&app).await), Vec::<Vec<String>>::new());
    superuser.execute(AssertSqlSafe(rename("gone", "settings"))).await.unwrap();
    app.clock.advance(Duration::from_mins(1));
    assert_eq!(names(mailed(&app).await), [["FIRST", "SECOND", "THIRD"]]);
}

//! Exports, imports, clones and restores, by operators.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use sqlx::Row as _;
use tenantry::{cleanup, operations};

use super::support::Operator;
use crate::support::{Organization, Person, Request, TestApp};

const ARCHIVES: &str = "/api/admin/archives/";
const IMPORT: &str = "/api/admin/tenants/import/";

/// What came of an operation that was left, once it was done.
pub(super) async fn outcome(app: &TestApp, ops: &Operator, left: Request) -> Value {
    let left = left.expect(202).await;
    while operations::run_queued(&app.app).await.unwrap() > 0 {}
    ops.get(app, &format!("/api/admin/operations/{}/", left["id"].as_str().unwrap())).await
}

pub(super) async fn succeeded(app: &TestApp, ops: &Operator, left: Request) -> Value {
    let done = outcome(app, ops, left).await;
    assert_eq!((&done["status"], &done["error"]), (&json!("succeeded"), &Value::Null), "{done}");
    assert_eq!(done["done"], done["total"], "{done}");
    done["result"].clone()
}

pub(super) fn of(tenant: &str, what: &str) -> String {
    format!("/api/admin/tenants/{tenant}/{what}/")
}

pub(super) async fn exported(app: &TestApp, ops: &Operator, tenant: &str) -> String {
    let result = succeeded(app, ops, ops.request(app, "POST", &of(tenant, "export"))).await;
    result["archive"].as_str().unwrap().to_owned()
}

pub(super) fn host(app: &TestApp, slug: &str) -> String {
    format!("{slug}.localhost:{}", app.address.port())
}

/// The files of the export store, drafts too.
fn files(app: &TestApp) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(app.store.path().join("exports")) else { return Vec::new() };
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    files
}

async fn bytes_of(app: &TestApp, name: &str) -> Vec<u8> {
    tokio::fs::read(app.store.path().join("exports").join(name)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_a_file_that_can_be_listed_fetched_put_back_and_deleted() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    assert_eq!(ops.get(&app, ARCHIVES).await["count"], 0);
    let name = exported(&app, &ops, &acme.id).await;
    assert_eq!(name, format!("acme-20260102T030405678Z-{}.tenantry", acme.schema()));
    assert_eq!(files(&app), [name.as_str()]);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let store = app.store.path().join("exports");
    assert_eq!((mode(&store), mode(&store.join(&name))), (0o700, 0o600));

    let bytes = bytes_of(&app, &name).await;
    let listed = ops.get(&app, ARCHIVES).await["results"][0].clone();
    let stored_at = listed["stored_at"].clone();
    let installation = app.app.tenancy.installation().to_string();
    let tenant = json!({"id": acme.id, "slug": "acme", "name": "ACME"});
    assert_eq!(
        listed,
        json!({
            "name": name, "size": bytes.len(), "installation": installation, "tenant": tenant,
            "created_at": "2026-01-02T03:04:05.678901Z", "stored_at": stored_at,
        })
    );

    let path = format!("{ARCHIVES}{name}/");
    let fetched = ops.request(&app, "GET", &path).send().await;
    assert_eq!((fetched.status, fetched.header("content-type")), (200, "application/zstd"));
    assert_eq!(fetched.header("content-length"), bytes.len().to_string());
    assert_eq!(fetched.header("content-disposition"), format!("attachment; filename=\"{name}\""));
    assert_eq!(fetched.header("cache-control"), "no-store");
    let tag = fetched.header("etag").to_owned();
    let head = ops.request(&app, "HEAD", &path).send().await;
    assert_eq!((head.header("content-length"), head.text.as_str()), (fetched.header("content-length"), ""));
    let known = ops.request(&app, "GET", &path).header("if-none-match", &tag).send().await;
    assert_eq!((known.status, known.text.as_str()), (304, ""));

    // A second copy, put there by hand.
    let put = |name: &str| ops.request(&app, "PUT", &format!("{ARCHIVES}{name}/"));
    let uploaded = put("copy.tenantry").body("application/zstd", bytes.clone()).expect(201).await;
    assert_eq!((&uploaded["name"], &uploaded["tenant"]), (&json!("copy.tenantry"), &tenant));
    assert_eq!(bytes_of(&app, "copy.tenantry").await, bytes);
    let again = put("copy.tenantry").body("application/zstd", "something else").send().await;
    assert_eq!(again.said(), (409, "archive_exists".into()));
    assert_eq!(bytes_of(&app, "copy.tenantry").await, bytes);

    let delete = |tag: &str| ops.request(&app, "DELETE", &path).header("if-match", tag);
    assert_eq!(delete("\"another\"").send().await.status, 412);
    delete(&tag).expect(204).await;
    assert_eq!(ops.request(&app, "GET", &path).send().await.status, 404);
    assert_eq!(ops.request(&app, "DELETE", &path).send().await.status, 404);
    let actions: Vec<Value> = ops.log(&app).await.iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(
        actions[..5],
        [
            "archive.deleted",
            "archive.uploaded",
            "archive.downloaded",
            "archive.downloaded",
            "archive.downloaded"
        ]
    );
    let own = acme.owner.get("/api/tenant/audit/").await["results"][0].clone();
    assert_eq!((&own["action"], &own["detail"]["archive"]), (&json!("tenant.exported"), &json!(name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_bounded_and_its_name_leads_nowhere() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let put = |name: &str| ops.request(&app, "PUT", &format!("{ARCHIVES}{name}/"));
    let mut zeros = b"\x89TENANTRY\r\n\x1a\n".to_vec();
    zeros.resize((8 << 20) + 1, 0);
    let large = put("a.tenantry").body("application/zstd", zeros.clone()).send().await;
    assert_eq!(large.status, 413, "{}", large.text);
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(zeros)]);
    let chunked = put("a.tenantry").body("application/zstd", reqwest::Body::wrap_stream(chunks)).send().await;
    assert_eq!(chunked.status, 413, "{}", chunked.text);
    assert_eq!(put("a.tenantry").json(&json!({})).send().await.status, 415);
    for name in
        ["..%2Fa.tenantry", "%2Fetc%2Fpasswd", ".a.tenantry", "a.tar", "a%00.tenantry", "..%5Ca.tenantry"]
    {
        let refused = put(name).body("application/zstd", "x").send().await;
        assert!([400, 404].contains(&refused.status), "{name}: {}", refused.text);
        let looked = ops.request(&app, "GET", &format!("{ARCHIVES}{name}/")).send().await;
        assert!([400, 404].contains(&looked.status), "{name}: {}", looked.text);
    }
    assert_eq!(files(&app), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_begin_as_an_archive_is_not_stored() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let put = |name: &str| ops.request(&app, "PUT", &format!("{ARCHIVES}{name}/"));
    let magic = b"\x89TENANTRY\r\n\x1a\n";
    for junk in [&b""[..], b"x", &magic[..12], b"\x89TENANTRY\n\x1a\n and so on", &[0; 1_000]] {
        let refused = put("a.tenantry").body("application/zstd", junk.to_vec()).send().await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert_eq!(refused.json()["archive"], json!(["this is no archive of a tenant"]));
    }
    // However it comes.
    let bytes = magic.iter().chain(b" and so on").map(|byte| Ok::<_, std::io::Error>(vec![*byte]));
    let one_by_one = reqwest::Body::wrap_stream(futures_util::stream::iter(bytes.collect::<Vec<_>>()));
    let taken = put("b.tenantry").body("application/zstd", one_by_one).expect(201).await;
    assert_eq!((&taken["name"], &taken["tenant"]), (&json!("b.tenantry"), &Value::Null));
    assert_eq!(files(&app), ["b.tenantry"]);
    // It has been looked at no further, and is nothing that could be imported.
    let body = json!({"archive": "b.tenantry", "slug": "acme", "name": "Acme"});
    let refused = ops.request(&app, "POST", IMPORT).json(&body).send().await;
    assert_eq!(refused.json()["archive"], json!(["this is no archive of a tenant"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_becomes_a_tenant_whose_mails_wait_until_it_is_resumed() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up_quietly("acme").await;
    let archive = exported(&app, &ops, &acme.id).await;
    app.clock.advance(std::time::Duration::from_hours(24));
    let body = json!({"archive": archive, "slug": "copy", "name": "The Copy"});
    let result = succeeded(&app, &ops, ops.request(&app, "POST", IMPORT).json(&body)).await;
    let id = result["tenant"]["id"].as_str().unwrap().to_owned();
    assert_eq!(result["tenant"], json!({"id": id, "slug": "copy", "name": "The Copy"}));

    let copy = Organization { id, slug: "copy".into(), owner: acme.owner.clone() };
    let owner = copy.log_in(&app).await;
    assert_eq!(owner.get("/api/tenant/").await["name"], "The Copy");
    // It was made when it was imported, for its people and for operators.
    let seen = ops.get(&app, &format!("/api/admin/tenants/{}/", copy.id)).await;
    assert_eq!(seen["created_at"], "2026-01-03T03:04:05.678901Z");
    assert_eq!(owner.get("/api/tenant/").await["created_at"], seen["created_at"]);
    let entry = owner.get("/api/tenant/audit/").await["results"][0].clone();
    assert_eq!(
        (&entry["action"], &entry["detail"]["from"]["archive"]),
        (&json!("tenant.imported"), &json!(archive))
    );

    let forget = |slug: &str| {
        let email = json!({"email": "owner@acme.example"});
        app.request("POST", "/api/password/forget/").host(&host(&app, slug)).json(&email)
    };
    app.mails().await;
    forget("copy").expect(200).await;
    forget("acme").expect(200).await;
    let to_resume = of(&copy.id, "resume");
    assert_eq!(ops.get(&app, &format!("/api/admin/tenants/{}/", copy.id)).await["mails_held"], true);
    let count = |letters: Vec<tenantry::mail::Letter>| letters.len();
    assert_eq!(count(app.mails().await), 1, "only the tenant that was not imported");
    let waiting = "SELECT count(*) FROM tenantry.jobs WHERE status = 'queued' AND attempts = 0";
    let waiting: i64 = sqlx::Executor::fetch_one(&mut app.superuser().await, waiting).await.unwrap().get(0);
    assert_eq!(waiting, 1, "the link of the one that was");
    let resumed = ops.request(&app, "POST", &to_resume).expect(200).await;
    assert_eq!((&resumed["status"], &resumed["mails_held"]), (&json!("active"), &json!(false)));
    assert_eq!(count(app.mails().await), 1);
    let newest = ops.log(&app).await.remove(0);
    assert_eq!(
        (&newest["action"], &newest["detail"]["after"]["mails_held"]),
        (&json!("tenant.resumed"), &json!(false))
    );

    let taken = ops.request(&app, "POST", IMPORT).json(&body).send().await;
    assert_eq!(taken.said(), (409, "slug_taken".into()));
    let unknown = json!({"archive": "none.tenantry", "slug": "other", "name": "Other"});
    let unknown = ops.request(&app, "POST", IMPORT).json(&unknown).send().await;
    assert_eq!(unknown.json()["archive"], json!(["There is no such archive."]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_like_the_other_and_nothing_of_it_stays_in_the_store() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    acme.add_account(&app, Person::named("grace")).await;
    let body = json!({"slug": "copy", "name": "The Copy"});
    let request = || ops.request(&app, "POST", &of(&acme.id, "clone")).json(&body);
    let result = succeeded(&app, &ops, request()).await;
    assert_eq!(files(&app), [""; 0]);
    let id = result["tenant"]["id"].as_str().unwrap().to_owned();
    let copy = Organization { id, slug: "copy".into(), owner: acme.owner.clone() };
    assert_eq!(copy.log_in(&app).await.get("/api/users/").await["count"], 2);
    assert_eq!(acme.owner.get("/api/users/").await["count"], 2);
    assert_eq!(request().send().await.said(), (409, "slug_taken".into()));
    let log = ops.log(&app).await;
    assert_eq!((&log[0]["action"], &log[0]["detail"]["source"]), (&json!("tenant.cloned"), &json!(acme.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_is_begun_anew_makes_no_second_tenant() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let body = json!({"slug": "copy", "name": "The Copy"});
    let request = ops.request(&app, "POST", &of(&acme.id, "clone")).json(&body);
    let left = request.expect(202).await;
    while operations::run_queued(&app.app).await.unwrap() > 0 {}
    // As if the process had died before it could say so.
    let again = "UPDATE tenantry.operations SET status = 'queued', result = NULL, finished_at = NULL";
    sqlx::Executor::execute(&mut app.superuser().await, again).await.unwrap();
    while operations::run_queued(&app.app).await.unwrap() > 0 {}
    let path = format!("/api/admin/operations/{}/", left["id"].as_str().unwrap());
    let done = ops.get(&app, &path).await;
    assert_eq!((&done["status"], &done["result"]["tenant"]["slug"]), (&json!("succeeded"), &json!("copy")));
    assert_eq!(ops.get(&app, "/api/admin/tenants/").await["count"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_fails_for_good_and_leaves_nothing() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let archive = exported(&app, &ops, &acme.id).await;
    let mut bytes = bytes_of(&app, &archive).await;
    let last = bytes.len() - 200;
    bytes[last] ^= 1;
    std::fs::write(app.store.path().join("exports").join(&archive), &bytes).unwrap();
    for trust in [false, true] {
        let body = json!({"archive": archive, "slug": "copy", "name": "The Copy", "trust": trust});
        let done = outcome(&app, &ops, ops.request(&app, "POST", IMPORT).json(&body)).await;
        assert_eq!(done["status"], "failed");
        assert!(done["error"].as_str().unwrap().starts_with("the archive is damaged: "), "{done}");
    }
    assert_eq!(ops.get(&app, "/api/admin/tenants/").await["count"], 1);
    assert_eq!(files(&app), [archive.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let acme = app.sign_up("acme").await;
    let archive = exported(&app, &ops, &acme.id).await;
    let path = format!("{ARCHIVES}{archive}/");
    for (method, path, scope) in [
        ("GET", ARCHIVES, "read"),
        ("GET", path.as_str(), "provision"),
        ("PUT", path.as_str(), "provision"),
        ("DELETE", path.as_str(), "destroy"),
        ("POST", &of(&acme.id, "export"), "provision"),
        ("POST", &of(&acme.id, "clone"), "provision"),
        ("POST", &of(&acme.id, "restore_from"), "destroy"),
        ("POST", IMPORT, "provision"),
        ("POST", "/api/admin/export_schedules/", "provision"),
    ] {
        for has in ["read", "provision", "destroy"].into_iter().filter(|has| *has != scope) {
            let key = ops.key_with(&app, &[has]).await;
            let refused = app.request(method, path).bearer(&key).send().await;
            assert_eq!(refused.status, 403, "{method} {path} with {has}: {}", refused.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_schedule_is_told_at_once() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let set = |body: Value| ops.request(&app, "POST", "/api/admin/export_schedules/").json(&body);
    let nobody = app.clock.uuid_v7();
    let wrong = set(json!({"tenant": nobody, "every_hours": 8785, "keep": 0})).send().await;
    assert_eq!(wrong.status, 400);
    let said = wrong.json();
    assert_eq!(said["tenant"], json!(["There is no such tenant."]));
    assert_eq!(said["every_hours"], json!(["Ensure this value is less than or equal to 8784."]));
    assert_eq!(said["keep"], json!(["Ensure this value is greater than or equal to 1."]));
    let wrong = set(json!({"every_hours": 1, "keep": 1001})).send().await;
    assert_eq!(wrong.json()["keep"], json!(["Ensure this value is less than or equal to 1000."]));
    assert_eq!(ops.get(&app, "/api/admin/export_schedules/").await["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_come_by_schedule_and_old_ones_go() {
    let app = TestApp::start().await;
    let ops = Operator::create(&app, "ops@example.com").await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let by_hand = exported(&app, &ops, &acme.id).await;
    let schedules = "/api/admin/export_schedules/";
    let set = |body: Value| ops.request(&app, "POST", schedules).json(&body);
    let all = set(json!({"every_hours": 24, "keep": 2})).expect(201).await;
    assert_eq!((&all["tenant"], &all["every_hours"], &all["keep"]), (&Value::Null, &json!(24), &json!(2)));
    set(json!({"tenant": beta.id, "every_hours": 0, "keep": 1})).expect(201).await;
    // Set again is another schedule in the same place.
    let same = set(json!({"every_hours": 12, "keep": 2})).expect(201).await;
    assert_eq!((&same["id"], &same["every_hours"]), (&all["id"], &json!(12)));
    assert_eq!(ops.get(&app, schedules).await["count"], 2);
    let wrong = set(json!({"tenant": app.clock.uuid_v7(), "every_hours": 1, "keep": 1})).send().await;
    assert_eq!(wrong.json()["tenant"], json!(["There is no such tenant."]));

    let pass = async || {
        let now = app.clock.now();
        cleanup::pass(&app.app, now).await.unwrap();
        let mut done = 0;
        loop {
            match operations::run_queued(&app.app).await.unwrap() {
                0 => return done,
                more => done += more,
            }
        }
    };
    let mut made = Vec::new();
    for _ in 0..4 {
        assert_eq!(pass().await, 1, "acme's, and beta's never");
        assert_eq!(pass().await, 0, "not twice");
        made.push(files(&app).into_iter().rfind(|name| name.ends_with(".scheduled.tenantry")).unwrap());
        app.clock.advance(std::time::Duration::from_hours(12));
    }
    let mut left = vec![by_hand];
    left.extend(made.split_off(2));
    left.sort();
    assert_eq!(files(&app), left, "two of the schedule's, and the one that somebody asked for");
    ops.request(&app, "DELETE", &format!("{schedules}{}/", all["id"].as_str().unwrap())).expect(204).await;
    assert_eq!(pass().await, 0);
    let gone =
        ops.request(&app, "DELETE", &format!("{schedules}{}/", all["id"].as_str().unwrap())).send().await;
    assert_eq!(gone.status, 404);
}

//! Organizations sign up.

use std::collections::HashSet;

use futures_util::{future::join_all, stream};
use serde_json::{Value, json};
use sqlx::{Executor as _, Row as _};
use tenants::{NewTenant, SchemaName, SlugChoice};

use crate::support::{Answer, Options, Organization, PASSWORD, Request, TestApp};

const PATH: &str = "/api/sign_up/tenant/";

fn body(slug: &str) -> Value {
    json!({"organization": "Acme", "slug": slug, "username": "ada", "email": "ada@acme.example", "password": PASSWORD})
}

fn sign_up(app: &TestApp, body: &Value) -> Request {
    app.request("POST", PATH).json(body)
}

/// The members of a problem that are about fields.
fn errors(answer: &Answer) -> Value {
    let mut problem = answer.problem();
    let members = problem.as_object_mut().unwrap();
    for name in ["type", "title", "status", "code", "detail"] {
        members.remove(name);
    }
    problem
}

/// How many there are of what a sign-up makes: tenants, addresses, schemas, roles of this database's tenants, and
/// tables that are made last.
async fn made(app: &TestApp) -> Vec<i64> {
    let mut superuser = app.superuser().await;
    let row = superuser
        .fetch_one(
            "SELECT (SELECT count(*) FROM tenantry.tenants), (SELECT count(*) FROM tenantry.email_index), \
             (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^t_'), \
             (SELECT count(*) FROM pg_roles r WHERE rolname ~ '^t_' AND EXISTS \
                (SELECT FROM pg_namespace n WHERE n.nspname = r.rolname)), \
             (SELECT count(*) FROM pg_tables WHERE schemaname ~ '^t_' AND tablename = 'schema_migrations')",
        )
        .await
        .unwrap();
    (0..row.len()).map(|column| row.get(column)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_signs_up_and_its_owner_is_signed_in() {
    let app = TestApp::start().await;
    let body = json!({
        "organization": "Acme Ltd", "username": "Ada", "email": "Ada@Acme.example", "password": PASSWORD,
        "first_name": "Ada", "last_name": "Lovelace",
    });
    let answer = sign_up(&app, &body).send().await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, "no-store"), "{}", answer.text);
    let answer = answer.json();
    assert_eq!(
        answer,
        json!({
            "token": answer["token"], "token_expiration": "2026-01-02T03:14:05Z", "refresh": answer["refresh"],
            "refresh_expiration": "2026-02-01T03:04:05.678901Z",
            "user": {
                "pk": answer["user"]["pk"], "username": "Ada", "email": "Ada@Acme.example", "first_name": "Ada",
                "last_name": "Lovelace",
            },
            "tenant": {
                "id": answer["tenant"]["id"], "slug": "acme-ltd", "name": "Acme Ltd",
                "url": format!("http://acme-ltd.localhost:{}", app.address.port()),
            },
        })
    );
    let me = app.request("GET", "/api/current_user/").bearer(answer["token"].as_str().unwrap());
    assert_eq!(
        me.expect(200).await,
        json!({
            "pk": answer["user"]["pk"], "username": "Ada", "email": "Ada@Acme.example", "first_name": "Ada",
            "last_name": "Lovelace", "role": "owner", "email_verified": false, "locale": "en", "timezone": "UTC",
            "date_joined": "2026-01-02T03:04:05.678901Z",
        })
    );
    // And can come back tomorrow.
    let login = json!({"email": "ada@acme.example", "password": PASSWORD});
    app.request("POST", "/api/login/").host("acme-ltd.localhost").json(&login).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_that_is_taken_is_a_conflict_and_a_derived_one_gets_a_number() {
    let app = TestApp::start().await;
    let mut slugs = Vec::new();
    for _ in 0..3 {
        let mut body = body("");
        body.as_object_mut().unwrap().remove("slug");
        slugs.push(Organization::sign_up_with(&app, &body).await.slug);
    }
    assert_eq!(slugs, ["acme", "acme-2", "acme-3"]);
    assert_eq!(Organization::sign_up_with(&app, &body("acme-9")).await.slug, "acme-9");

    let before = made(&app).await;
    // The same on a process that has never heard of the name.
    for app in [&app, &app.beside().await] {
        let answer = sign_up(app, &body("acme")).send().await;
        assert_eq!(
            answer.problem(),
            json!({
                "type": "about:blank", "title": "Conflict", "status": 409, "code": "slug_taken",
                "detail": "The slug acme is taken.",
            })
        );
    }
    assert_eq!(made(&app).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_is_refused_for_what_is_wrong_with_it() {
    let app = TestApp::start().await;
    let length = "Ensure this field has 3 to 40 characters.";
    let characters = "Use lower-case letters, digits and single hyphens; start with a letter and end with a letter or digit.";
    let long = "a".repeat(41);
    for (slug, sentence) in [
        ("", length),
        ("ab", length),
        (long.as_str(), length),
        ("Acme", characters),
        ("1acme", characters),
        ("acme-", characters),
        ("ac--me", characters),
        ("acme.ltd", characters),
        ("ac me", characters),
        ("acmé", characters),
        ("acme\n", characters),
        ("admin", "This name is reserved."),
        ("localhost", "This name is reserved."),
        ("pg-stat", "This name is reserved."),
    ] {
        let answer = sign_up(&app, &body(slug)).send().await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{slug}");
        assert_eq!(errors(&answer), json!({"slug": [sentence]}), "{slug}");
        let encoded: String = url::form_urlencoded::byte_serialize(slug.as_bytes()).collect();
        let check = app.request("GET", &format!("{PATH}check/?slug={encoded}")).expect(200).await;
        assert_eq!(check, json!({"slug": slug, "available": false, "reason": sentence}));
    }
    assert_eq!(made(&app).await, [0; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_slug_can_be_had_can_be_asked() {
    let app = TestApp::start().await;
    let check = async |slug: &str| app.request("GET", &format!("{PATH}check/?slug={slug}")).expect(200).await;
    assert_eq!(check("acme").await, json!({"slug": "acme", "available": true, "reason": null}));
    app.sign_up("acme").await;
    let taken = json!({"slug": "acme", "available": false, "reason": "This name is taken."});
    assert_eq!(check("acme").await, taken, "at once, although the answer before is remembered");
    assert_eq!(check("acme&x=y").await, taken);
    let answer = app.request("GET", &format!("{PATH}check/?slug=%00")).expect(200).await;
    assert_eq!(answer["available"], false);
    let missing = app.request("GET", &format!("{PATH}check/")).send().await;
    assert_eq!(missing.said(), (400, "invalid".into()));
    assert_eq!(errors(&missing), json!({"slug": ["This field is required."]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_is_said_at_once() {
    let app = TestApp::start().await;
    let required = json!(["This field is required."]);
    for nothing in [sign_up(&app, &json!({})), app.request("POST", PATH)] {
        let answer = nothing.send().await;
        assert_eq!(
            answer.problem(),
            json!({
                "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
                "detail": "Invalid input.",
                "organization": required, "username": required, "email": required, "password": required,
            })
        );
    }
    let wrong = json!({
        "organization": "   ", "slug": "admin", "username": "a b", "email": "nowhere", "password": "short",
        "first_name": null, "last_name": "x".repeat(151), "unknown": {"x": 1},
    });
    assert_eq!(
        errors(&sign_up(&app, &wrong).send().await),
        json!({
            "organization": ["This field may not be blank."], "slug": ["This name is reserved."],
            "username": [
                "Enter a valid username. This value may contain only letters, numbers, and ./_/- characters."
            ],
            "email": ["Enter a valid email address."],
            "password": ["This password is too short. It must contain at least 8 characters."],
            "first_name": ["This field may not be null."],
            "last_name": ["Ensure this field has no more than 150 characters."],
        })
    );
    let long = json!({
        "organization": "x".repeat(101), "slug": 1, "username": "x".repeat(151),
        "email": format!("{}@example.com", "x".repeat(250)), "password": "x".repeat(129), "first_name": ["x"],
    });
    assert_eq!(
        errors(&sign_up(&app, &long).send().await),
        json!({
            "organization": ["Ensure this field has no more than 100 characters."],
            "slug": ["Not a valid string."],
            "username": ["Ensure this field has no more than 150 characters."],
            "email": ["Ensure this field has no more than 254 characters."],
            "password": ["Ensure this field has no more than 128 characters."],
            "first_name": ["Not a valid string."],
        })
    );
    assert_eq!(made(&app).await, [0; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_signing_up_is_closed_nothing_is_said_about_the_body() {
    let app = TestApp::with(Options { tenant_sign_up: false, ..Options::default() }).await;
    for request in [
        sign_up(&app, &body("acme")),
        sign_up(&app, &json!({})),
        app.request("POST", PATH).body("text/plain", "{"),
        app.request("POST", PATH).body("application/json", vec![b' '; (1 << 20) + 1]),
    ] {
        let answer = request.send().await;
        assert_eq!(
            answer.problem(),
            json!({
                "type": "about:blank", "title": "Forbidden", "status": 403, "code": "sign_up_closed",
                "detail": "Organizations can't sign up here by themselves.",
            })
        );
    }
    assert_eq!(made(&app).await, [0; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_sign_up_at_once_and_all_succeed() {
    let app = TestApp::start().await;
    let bodies: Vec<_> = (0..16)
        .map(|n| {
            let mut body = body(&format!("org-{n}"));
            if n % 2 == 0 {
                // Half of them want the same name and get a number.
                body.as_object_mut().unwrap().remove("slug");
            }
            body
        })
        .collect();
    let answers = join_all(bodies.iter().map(|body| sign_up(&app, body).expect(201))).await;
    let slugs: HashSet<_> = answers.iter().map(|answer| answer["tenant"]["slug"].to_string()).collect();
    assert_eq!(slugs.len(), 16, "{slugs:?}");
    let users = answers.iter().map(async |answer| {
        let token = answer["token"].as_str().unwrap();
        let users = app.request("GET", "/api/users/").bearer(token).expect(200).await;
        (users["count"].clone(), users["results"][0]["pk"] == answer["user"]["pk"])
    });
    assert_eq!(join_all(users).await, vec![(json!(1), true); 16]);
    assert_eq!(made(&app).await, [16; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_race_for_a_slug_exactly_one_gets_it() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let body = body("acme");
    let racers = (0..8).map(|n| sign_up(if n % 2 == 0 { &app } else { &other }, &body).send());
    let mut answers: Vec<_> =
        join_all(racers).await.iter().map(|answer| answer.json()["code"].clone()).collect();
    answers.sort_by_key(ToString::to_string);
    let mut expected = vec![json!("slug_taken"); 7];
    expected.push(Value::Null);
    assert_eq!(answers, expected);
    assert_eq!(made(&app).await, [1; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_that_fails_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().await;
    // The last thing that a sign-up writes before it commits, and one in the middle.
    for (spoil, repair) in [
        (
            "ALTER TABLE tenantry.email_index ADD CONSTRAINT spoilt CHECK (false)",
            "ALTER TABLE tenantry.email_index DROP CONSTRAINT spoilt",
        ),
        (
            "CREATE FUNCTION public.spoil() RETURNS event_trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF tg_tag = 'CREATE INDEX' THEN RAISE 'spoilt'; END IF; END $$; \
             CREATE EVENT TRIGGER spoilt ON ddl_command_end EXECUTE FUNCTION public.spoil()",
            "DROP EVENT TRIGGER spoilt",
        ),
    ] {
        superuser.execute(spoil).await.unwrap();
        let answer = sign_up(&app, &body("acme")).send().await;
        assert_eq!(
            answer.problem(),
            json!({
                "type": "about:blank", "title": "Internal Server Error", "status": 500, "code": "error",
                "detail": "A server error occurred.",
            })
        );
        assert_eq!(made(&app).await, [0; 5]);
        superuser.execute(repair).await.unwrap();
    }
    app.sign_up("acme").await;
    assert_eq!(made(&app).await, [1; 5], "and the name is still to be had");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_or_a_role_that_is_in_the_way_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().await;
    let ids = [app.clock.uuid_v7(), app.clock.uuid_v7()];
    let [schema, role] = ids.map(SchemaName::of);
    superuser.execute(sqlx::AssertSqlSafe(format!(r#"CREATE SCHEMA "{schema}""#))).await.unwrap();
    superuser.execute(sqlx::AssertSqlSafe(format!(r#"CREATE ROLE "{role}""#))).await.unwrap();
    let before = made(&app).await;
    let roles = async |superuser: &mut sqlx::PgConnection| -> Vec<String> {
        let sql = format!("SELECT rolname::text FROM pg_roles WHERE rolname IN ('{schema}', '{role}')");
        let rows = superuser.fetch_all(sqlx::AssertSqlSafe(sql)).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    for id in ids {
        let slug = SlugChoice::Exactly("acme".parse().unwrap());
        let new = NewTenant { id, slug, name: "Acme".into(), now: app.clock.now() };
        assert!(app.app.tenancy.provision(new).await.is_err());
    }
    assert_eq!(made(&app).await, before);
    assert_eq!(roles(&mut superuser).await, [role.as_str()]);
    app.sign_up("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_that_is_given_up_half_way_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let slug = || SlugChoice::Exactly("acme".parse().unwrap());
    let new =
        || NewTenant { id: app.clock.uuid_v7(), slug: slug(), name: "Acme".into(), now: app.clock.now() };
    let half_way = app.app.tenancy.provision(new()).await.unwrap();
    drop(half_way);
    // Waits for the rollback, and finds the name free.
    app.app.tenancy.provision(new()).await.unwrap().commit().await.unwrap();
    assert_eq!(made(&app).await, [1, 0, 1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_of_ours_never_gets_as_far_as_the_database() {
    let app = TestApp::start().await;
    let post = |body: Vec<u8>| app.request("POST", PATH).body("application/json", body);
    let with = |name: &str, raw: &str| {
        let mut text = body("acme").to_string();
        text.truncate(text.len() - 1);
        format!(r#"{text},"{name}":{raw}}}"#).into_bytes()
    };
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    for (what, body) in [
        ("NUL", with("first_name", r#""a\u0000b""#)),
        ("NUL in a name", with(r"x\u0000", "1")),
        ("a bare NUL", with("first_name", "\"a\0b\"")),
        ("a lone leading surrogate", with("first_name", r#""\ud800""#)),
        ("a lone trailing surrogate", with("first_name", r#""\udc00x""#)),
        ("10,000 deep", with("x", &deep(10_000))),
        ("10,000 deep and no object", deep(10_000).into_bytes()),
        ("a member given twice", with("username", r#""eve""#)),
        ("a member given twice inside", with("x", r#"{"a":1,"a":2}"#)),
        ("invalid UTF-8", [with("first_name", "\"")[..].to_vec(), b"\xff\"}".to_vec()].concat()),
        ("half of it", with("first_name", "\"x")[..40].to_vec()),
        ("something behind it", [with("x", "1"), b"{}".to_vec()].concat()),
        ("a number out of range", with("x", "1e999")),
    ] {
        let answer = post(body).send().await;
        assert_eq!(answer.said(), (400, "parse_error".into()), "{what}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with("JSON parse error - ") && detail.len() < 200, "{what}: {detail}");
    }
    for (what, body) in [("a list", "[]"), ("a string", "\"x\""), ("null", "null")] {
        assert_eq!(post(body.into()).send().await.said(), (400, "invalid".into()), "{what}");
    }

    let mut large = body("acme").to_string().into_bytes();
    large.resize((1 << 20) + 1, b' ');
    let chunks: Vec<_> = large.chunks(60_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    let chunked = reqwest::Body::wrap_stream(stream::iter(chunks));
    let too_large = json!({
        "type": "about:blank", "title": "Payload Too Large", "status": 413, "code": "too_large",
        "detail": "The body may have at most 1048576 bytes.",
    });
    assert_eq!(post(large).send().await.problem(), too_large);
    let answer = app.request("POST", PATH).body("application/json", chunked).send().await;
    assert_eq!(answer.problem(), too_large);
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
    {
        let answer = app.request("POST", PATH).body(media_type, "{}").send().await;
        assert_eq!(answer.said(), (415, "unsupported_media_type".into()), "{media_type}");
    }
    assert_eq!(made(&app).await, [0; 5]);
    // In chunks and of the right length, it is as good as any.
    let whole = body("acme").to_string();
    let halves = [whole[..20].to_owned(), whole[20..].to_owned()].map(Ok::<_, std::io::Error>);
    let chunked = reqwest::Body::wrap_stream(stream::iter(halves));
    app.request("POST", PATH).body("application/json", chunked).expect(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_script_are_kept_as_they_are() {
    let app = TestApp::start().await;
    let name = "株式会社 \"O'Reilly\"; DROP TABLE users; -- \\ %s {} 🦀";
    let body = json!({
        "organization": name, "username": "józef", "email": "j@bücher.example", "password": "пароль-密码-🦀",
        "first_name": name, "last_name": "محمد",
    });
    let acme = Organization::sign_up_with(&app, &body).await;
    assert_eq!(acme.slug, "zhu-shi-hui-she-oreilly-drop-table-users");
    assert_eq!(acme.owner.get("/api/tenant/").await["name"], name);
    let me = acme.owner.get("/api/current_user/").await;
    assert_eq!((&me["first_name"], &me["email"]), (&json!(name), &json!("j@bücher.example")));
    // The password counts in either form of its letters, and the address as DNS has it.
    let login = json!({"email": "J@xn--bcher-kva.example", "password": "пароль-密码-🦀"});
    app.request("POST", "/api/login/").host(&acme.host(&app)).json(&login).expect(200).await;
}

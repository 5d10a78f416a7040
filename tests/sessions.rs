//! Signing in, staying signed in, and how that ends.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{
    auth::{Claims, Subject},
    entity::users::Role,
};
use tenants::DataKey;

use crate::support::{Options, Organization, PASSWORD, Person, Request, TestApp, assert_not_valid};

/// How long an access token lasts, in seconds.
const ACCESS: u64 = 10 * 60;
/// How long a session lasts that nobody uses, in seconds.
const SESSION: u64 = 30 * 24 * 60 * 60;

fn login(app: &TestApp, organization: &Organization, body: &Value) -> Request {
    app.request("POST", "/api/login/").host(&organization.host(app)).json(body)
}

fn verify(app: &TestApp, organization: &Organization, token: &str) -> Request {
    let host = organization.host(app);
    app.request("POST", "/api/token/verify/").host(&host).json(&json!({"token": token}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_answers_with_tokens_and_the_user() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    for body in [
        json!({"username": "acme-owner", "password": PASSWORD}),
        json!({"username": "ACME-Owner", "password": PASSWORD}),
        json!({"email": "owner@acme.example", "password": PASSWORD}),
        json!({"email": " Owner@ACME.Example ", "password": PASSWORD}),
    ] {
        let answer = login(&app, &acme, &body).send().await;
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, "no-store"),
            "{body}: {}",
            answer.text
        );
        let answer = answer.json();
        assert_eq!(
            answer,
            json!({
                "token": answer["token"], "token_expiration": "2026-01-02T03:14:05Z",
                "refresh": answer["refresh"], "refresh_expiration": "2026-02-01T03:04:05.678901Z",
                "user": {
                    "pk": acme.owner.pk, "username": "acme-owner", "email": "owner@acme.example",
                    "first_name": "", "last_name": "",
                },
            })
        );
        let refresh = BASE64URL_NOPAD.decode(answer["refresh"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(refresh.len(), 16 + 4 + 32, "session, generation, and 256 bits that nobody guesses");
        let token = answer["token"].as_str().unwrap();
        let request = app.request("GET", "/api/current_user/").bearer(token);
        assert_eq!(request.expect(200).await["pk"], json!(acme.owner.pk));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_what_the_contract_promises() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let mut parts = acme.owner.token.split('.').map(|part| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap());
    let header: Value = serde_json::from_slice(&parts.next().unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&parts.next().unwrap()).unwrap();
    let kid = &app.app.tokens.public_keys().await.unwrap()[0].kid;
    assert_eq!(header, json!({"typ": "JWT", "alg": "EdDSA", "kid": kid}));
    assert_eq!(
        claims,
        json!({
            "iss": format!("http://localhost:{}", app.address.port()), "aud": "tenantry", "sub": acme.owner.pk,
            "tenant": acme.id, "sid": claims["sid"], "role": "owner", "typ": "access", "iat": 1_767_323_045,
            "exp": 1_767_323_645, "jti": claims["jti"],
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_wrong_in_any_way_gives_the_same_bytes() {
    // More often than a minute allows.
    let app = TestApp::with(Options { rate_limits: false, ..Options::default() }).await;
    let acme = app.sign_up("acme").await;
    app.sign_up("beta").await;
    let gone = acme.add_user(&app, Person::named("gone")).await;
    acme.change(&app, &gone, "is_active = false").await;
    let long = |n: usize| "x".repeat(n);
    for body in [
        json!({"username": "acme-owner", "password": "wrong password"}),
        json!({"username": "acme-owner", "password": "x"}),
        json!({"username": "acme-owner", "password": format!("{PASSWORD} ")}),
        json!({"username": "acme-owner", "password": long(129)}),
        json!({"username": "acme-owner", "password": long(100_000)}),
        json!({"username": "acme-owner", "password": "\u{301}".repeat(2_000)}),
        json!({"username": "nobody", "password": PASSWORD}),
        json!({"username": "beta-owner", "password": PASSWORD}),
        json!({"username": "gone", "password": PASSWORD}),
        json!({"username": "no name at all", "password": PASSWORD}),
        json!({"username": "a@b@c", "password": PASSWORD}),
        json!({"username": long(151), "password": PASSWORD}),
        json!({"username": long(10_000), "password": PASSWORD}),
        json!({"email": "nobody@acme.example", "password": PASSWORD}),
        json!({"email": "owner@beta.example", "password": PASSWORD}),
        json!({"email": "no address", "password": PASSWORD}),
        json!({"email": format!("{}@acme.example", long(300)), "password": PASSWORD}),
        json!({"username": "' OR 1 = 1 --", "password": "' OR 1 = 1 --"}),
    ] {
        let answer = login(&app, &acme, &body).send().await;
        let shown = body.to_string().chars().take(80).collect::<String>();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text);
        assert_eq!(
            answer.problem(),
            json!({
                "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
                "detail": "Invalid input.",
                "non_field_errors": ["Unable to log in with provided credentials."],
            }),
            "{shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_its_parts_is_told_which() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let required = "This field is required.";
    for (body, errors) in [
        (json!({}), json!({"password": [required]})),
        (
            json!({"password": PASSWORD}),
            json!({"non_field_errors": ["Must include \"username\" or \"email\"."]}),
        ),
        (json!({"username": "acme-owner"}), json!({"password": [required]})),
        (
            json!({"username": "", "email": null, "password": ""}),
            json!({
                "username": ["This field may not be blank."], "email": ["This field may not be null."],
                "password": ["This field may not be blank."],
            }),
        ),
        (
            json!({"username": 1, "password": ["x"]}),
            json!({"username": ["Not a valid string."], "password": ["Not a valid string."]}),
        ),
    ] {
        let answer = login(&app, &acme, &body).send().await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{body}");
        let mut problem = answer.problem();
        let members = problem.as_object_mut().unwrap();
        for name in ["type", "title", "status", "code", "detail"] {
            members.remove(name);
        }
        assert_eq!(problem, errors, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_this_session_at_the_next_request() {
    let app = TestApp::start().await;
    let other_process = app.beside().await;
    let acme = app.sign_up("acme").await;
    let (one, other) = (acme.sign_in(&app).await, acme.sign_in(&app).await);
    assert_eq!(one.at(&other_process).me().await.status, 200);

    let answer = one.request("POST", "/api/logout/").expect(200).await;
    assert_eq!(answer, json!({"detail": "Successfully logged out."}));
    assert_not_valid(&one.me().await, "after the logout");
    assert_not_valid(&one.at(&other_process).me().await, "after the logout, at another process");
    assert_not_valid(&one.request("POST", "/api/logout/").send().await, "a second logout");
    assert_not_valid(&verify(&app, &acme, &one.token).send().await, "verified after the logout");
    for body in [json!({}), json!({"everywhere": false})] {
        let session = acme.sign_in(&app).await;
        session.request("POST", "/api/logout/").json(&body).expect(200).await;
        assert_not_valid(&session.me().await, "after the logout");
    }
    assert_eq!(other.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_everywhere_ends_all_sessions_of_this_user_and_of_nobody_else() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let (one, other) = (acme.sign_in(&app).await, acme.sign_in(&app).await);
    let answer = one.request("POST", "/api/logout/").json(&json!({"everywhere": true})).expect(200).await;
    assert_eq!(answer, json!({"detail": "Successfully logged out."}));
    for session in [&one, &other, &acme.owner] {
        assert_not_valid(&session.me().await, "after the logout");
    }
    assert_eq!(ann.me().await.status, 200);
    // And there is a way back in.
    assert_eq!(acme.log_in(&app).await.me().await.status, 200);

    let wrong = ann.request("POST", "/api/logout/").json(&json!({"everywhere": "yes"})).send().await;
    assert_eq!(wrong.json()["everywhere"], json!(["Must be a valid boolean."]));
    assert_eq!(ann.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_can_be_checked_here_and_now() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    let token = &acme.owner.token;
    assert_eq!(verify(&app, &acme, token).expect(200).await, json!({}));
    assert_eq!(verify(&app, &acme, &format!(" {token} ")).expect(200).await, json!({}));
    assert_not_valid(&verify(&app, &beta, token).send().await, "by another tenant");
    assert_not_valid(&verify(&app, &acme, "garbage").send().await, "garbage");
    let missing =
        app.request("POST", "/api/token/verify/").host(&acme.host(&app)).json(&json!({})).send().await;
    assert_eq!(missing.json()["token"], json!(["This field is required."]));
    app.clock.advance(Duration::from_secs(ACCESS));
    assert_not_valid(&verify(&app, &acme, token).send().await, "after its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_after_ten_minutes_and_a_session_after_thirty_days() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    app.clock.advance(Duration::from_secs(ACCESS - 1));
    assert_eq!(acme.owner.me().await.status, 200);
    app.clock.advance(Duration::from_secs(1));
    assert_not_valid(&acme.owner.me().await, "ten minutes later");
    // A process that has never seen it says the same.
    assert_not_valid(&acme.owner.at(&app.beside().await).me().await, "at another process");

    // A new token for the same session, as a refresh would give it.
    let claims: Claims = claims_of(&acme.owner.token);
    let subject = Subject { user: claims.sub, tenant: claims.tenant, session: claims.sid, role: Role::Owner };
    let with = |token: String| app.request("GET", "/api/current_user/").bearer(&token);
    app.clock.advance(Duration::from_secs(SESSION - ACCESS - 1));
    assert_eq!(with(app.app.tokens.issue(&subject).await.unwrap().0).send().await.status, 200);
    app.clock.advance(Duration::from_secs(1));
    let late = with(app.app.tokens.issue(&subject).await.unwrap().0).send().await;
    assert_not_valid(&late, "thirty days later");
}

fn claims_of(token: &str) -> Claims {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

/// The key the service signs with, out of its catalog.
async fn signing_key(app: &TestApp) -> (String, EncodingKey) {
    let mut superuser = app.superuser().await;
    let row = superuser.fetch_one("SELECT kid, wrapped_seed FROM tenantry.signing_keys").await.unwrap();
    let kid: String = row.get(0);
    let seed = app.app.tenancy.key(DataKey::Signing).open(&kid, &row.get::<Vec<u8>, _>(1)).unwrap();
    (kid, key_of(&seed))
}

/// An Ed25519 key of this seed, in PKCS #8.
fn key_of(seed: &[u8]) -> EncodingKey {
    let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    EncodingKey::from_ed_der(&[&prefix[..], seed].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_tampered_with_is_not_valid() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let token = &ann.token;
    let get = async |token: &str| {
        app.request("GET", "/api/current_user/").host(&acme.host(&app)).bearer(token).send().await
    };
    assert_eq!(get(token).await.status, 200);

    let parts: Vec<&str> = token.split('.').collect();
    for part in 0..3 {
        for at in [0, parts[part].len() / 2, parts[part].len() - 2] {
            let mut bytes = parts[part].as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let mut changed: Vec<&str> = parts.clone();
            changed[part] = std::str::from_utf8(&bytes).unwrap();
            assert_not_valid(&get(&changed.join(".")).await, &format!("part {part} at {at}"));
        }
        let mut without = parts.clone();
        without[part] = "";
        assert_not_valid(&get(&without.join(".")).await, &format!("without part {part}"));
    }
    let owner: Vec<&str> = acme.owner.token.split('.').collect();
    for (what, token) in [
        ("the owner's claims", format!("{}.{}.{}", parts[0], owner[1], parts[2])),
        ("the owner's signature", format!("{}.{}.{}", parts[0], parts[1], owner[2])),
        ("no signature", format!("{}.{}", parts[0], parts[1])),
        ("a fourth part", format!("{token}.x")),
        ("padding", format!("{token}==")),
        ("nothing at all", "..".to_owned()),
        ("5,000 characters", "a".repeat(5_000)),
    ] {
        assert_not_valid(&get(&token).await, what);
    }
    assert_eq!(get(token).await.status, 200, "which leaves the right one as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_believed_only_as_the_service_makes_it() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let (kid, key) = signing_key(&app).await;
    let claims = serde_json::to_value(claims_of(&acme.owner.token)).unwrap();
    let header = || Header { kid: Some(kid.clone()), ..Header::new(Algorithm::EdDSA) };
    let get = async |token: &str| {
        app.request("GET", "/api/current_user/").host(&acme.host(&app)).bearer(token).send().await
    };
    let signed = |header: &Header, claims: &Value| jsonwebtoken::encode(header, claims, &key).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    // Made by hand and right, it is taken: what follows is refused for what is wrong with it.
    assert_eq!(
        get(&signed(&header(), &with("jti", json!("0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41")))).await.status,
        200
    );

    for (name, value) in [
        ("iss", json!("http://localhost")),
        ("iss", json!(null)),
        ("aud", json!("another")),
        ("aud", json!(["tenantry", "another"])),
        ("typ", json!("refresh")),
        ("typ", json!(null)),
        ("sub", json!("nobody")),
        ("sub", json!("0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41")),
        ("tenant", json!("0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41")),
        ("tenant", json!(null)),
        ("sid", json!("0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41")),
        ("sid", json!(null)),
        ("role", json!("god")),
        ("exp", json!(1_767_323_045)),
        ("exp", json!(null)),
        ("exp", json!("tomorrow")),
    ] {
        let token = signed(&header(), &with(name, value.clone()));
        assert_not_valid(&get(&token).await, &format!("{name} {value}"));
    }
    for name in ["iss", "aud", "sub", "tenant", "sid", "typ", "exp"] {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        assert_not_valid(&get(&signed(&header(), &claims)).await, &format!("without {name}"));
    }

    let stranger = key_of(&[7; 32]);
    let stranger_kid = Jwk::from_encoding_key(&stranger, Algorithm::EdDSA)
        .unwrap()
        .thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)
        .unwrap();
    for (what, kid) in [("their key", stranger_kid.as_str()), ("our key's id", &kid), ("no known id", "x")] {
        let header = Header { kid: Some(kid.to_owned()), ..header() };
        assert_not_valid(&get(&jsonwebtoken::encode(&header, &claims, &stranger).unwrap()).await, what);
    }
    let mut brought = header();
    brought.jwk = Some(Jwk::from_encoding_key(&stranger, Algorithm::EdDSA).unwrap());
    assert_not_valid(
        &get(&jsonwebtoken::encode(&brought, &claims, &stranger).unwrap()).await,
        "a key it brings",
    );
    assert_not_valid(&get(&signed(&Header { kid: None, ..header() }, &claims)).await, "no key's id");
    let critical = Header { crit: Some(vec!["b64".into()]), ..header() };
    assert_not_valid(&get(&signed(&critical, &claims)).await, "an extension we do not know");

    // The two oldest tricks: no signature, and the public key as the secret of a MAC.
    let payload = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
    for alg in ["none", "None", "HS256"] {
        let header = BASE64URL_NOPAD.encode(json!({"alg": alg, "kid": kid}).to_string().as_bytes());
        assert_not_valid(&get(&format!("{header}.{payload}.")).await, alg);
    }
    let public = app.app.tokens.public_keys().await.unwrap().remove(0).bytes;
    let x = BASE64URL_NOPAD.encode(&public).into_bytes();
    for secret in [public, x] {
        let header = Header { kid: Some(kid.clone()), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
        assert_not_valid(&get(&token).await, "HS256 with the public key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_keys_verify_the_tokens() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let answer = app.request("GET", "/.well-known/jwks.json").send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    let keys = answer.json();
    let key = &keys["keys"][0];
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert_eq!(
        *key,
        json!({"kty": "OKP", "crv": "Ed25519", "x": key["x"], "kid": key["kid"], "alg": "EdDSA"})
    );
    // As somebody's gateway would do it, knowing nothing but this document.
    let set: JwkSet = serde_json::from_value(keys).unwrap();
    let kid = jsonwebtoken::decode_header(&acme.owner.token).unwrap().kid.unwrap();
    let key = DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["tenantry"]);
    validation.set_issuer(&[format!("http://localhost:{}", app.address.port())]);
    // The test's clock stands in the past.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Value>(&acme.owner.token, &key, &validation).unwrap().claims;
    assert_eq!(claims["sub"], json!(acme.owner.pk));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_about_a_user_counts_from_the_next_request() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    assert_eq!(ann.get("/api/current_user/").await["role"], "member");
    acme.change(&app, &ann, "role = 'admin'").await;
    assert_eq!(ann.get("/api/current_user/").await["role"], "admin");

    acme.change(&app, &ann, "is_active = false").await;
    assert_not_valid(&ann.me().await, "deactivated");
    assert_not_valid(&verify(&app, &acme, &ann.token).send().await, "deactivated");
    acme.change(&app, &ann, "is_active = true").await;
    assert_eq!(ann.me().await.status, 200);

    let sql = format!(r#"DELETE FROM "{}".users WHERE pk = '{}'"#, acme.schema(), ann.pk);
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
    assert_not_valid(&ann.me().await, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_from_its_header_only() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let token = &acme.owner.token;
    let get = |path: &str| app.request("GET", path).host(&acme.host(&app));
    for name in ["token", "access_token", "authorization", "Authorization", "bearer", "jwt"] {
        let answer = get(&format!("/api/current_user/?{name}={token}")).send().await;
        assert_eq!(answer.said(), (401, "not_authenticated".into()), "?{name}=");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.json()["detail"], "Authentication credentials were not provided.");
        let cookie = get("/api/current_user/").header("cookie", &format!("{name}={token}")).send().await;
        assert_eq!(cookie.said(), (401, "not_authenticated".into()), "cookie {name}");
    }
    let of = |value: &str| get("/api/current_user/").header("authorization", value);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(of(&format!("{scheme} {token}")).send().await.status, 200, "{scheme}");
    }
    for value in [format!("Token {token}"), format!("Basic {token}"), token.clone()] {
        assert_eq!(of(&value).send().await.said(), (401, "not_authenticated".into()));
    }
    for value in [format!("Bearer {token} x"), "Bearer".to_owned(), format!("Bearer {token}, Bearer {token}")]
    {
        assert_not_valid(&of(&value).send().await, &value);
    }
    let twice = of(&format!("Bearer {token}")).header("authorization", &format!("Bearer {token}"));
    assert_not_valid(&twice.send().await, "given twice");
}

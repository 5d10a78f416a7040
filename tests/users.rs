//! The people of a tenant, and oneself among them.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use tenantry::entity::users::Role;
use tenants::TenantDb;

use crate::support::{Organization, Person, TestApp, User};

/// What a list answers, and whom it shows.
struct List(Value);

impl List {
    async fn of(user: &User, query: &str) -> Self {
        Self(user.get(&format!("/api/users/?{query}")).await)
    }

    fn usernames(&self) -> Vec<&str> {
        self.0["results"].as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect()
    }

    fn count(&self) -> u64 {
        self.0["count"].as_u64().unwrap()
    }
}

/// The organization whose owner is called `acme-owner`, and these members, each a minute after the one before.
async fn acme_with(app: &TestApp, people: &[Person<'_>]) -> Organization {
    let acme = app.sign_up("acme").await;
    for person in people {
        // Longer than a token lives would end the owner's.
        app.clock.advance(Duration::from_secs(1));
        acme.add_account(app, *person).await;
    }
    acme
}

async fn sql(app: &TestApp, acme: &Organization, set: &str) {
    let sql = format!(r#"UPDATE "{}".users SET {set}"#, acme.schema());
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
}

fn crowd(n: usize) -> Vec<String> {
    (1..=n).map(|n| format!("user-{n:02}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_shown_to_colleagues() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = Person {
        username: "Ann",
        email: "Ann@Example.com",
        first_name: "Ann",
        last_name: "Lee",
        role: Role::Admin,
    };
    let pk = acme.add_account(&app, ann).await.pk;
    let expected = json!({
        "pk": pk, "username": "Ann", "email": "Ann@Example.com", "first_name": "Ann", "last_name": "Lee",
        "role": "admin", "is_active": true, "date_joined": "2026-01-02T03:04:05.678901Z", "comment_count": 0,
    });
    assert_eq!(acme.owner.get(&format!("/api/users/{pk}/")).await, expected);
    assert_eq!(acme.owner.get(&format!("/api/users/{pk}")).await, expected, "without the slash");
    let upper = pk.to_string().to_uppercase();
    assert_eq!(acme.owner.get(&format!("/api/users/{upper}/")).await, expected, "in upper case");
    assert_eq!(
        acme.owner.get("/api/users/?search=ann").await,
        json!({"count": 1, "next": null, "previous": null, "results": [expected]})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_nobody_is_not_found() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    for id in ["0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41", "1", "me", "%00", "%F0%9F%90%98", &acme.id] {
        let answer = acme.owner.request("GET", &format!("/api/users/{id}/")).send().await;
        assert_eq!(
            answer.problem(),
            json!({
                "type": "about:blank", "title": "Not Found", "status": 404, "code": "not_found",
                "detail": "Not found.",
            }),
            "{id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_comes_in_pages_with_links_that_lead_through_it() {
    let app = TestApp::start().await;
    let names = crowd(24);
    let people: Vec<_> = names.iter().map(|name| Person::named(name)).collect();
    let acme = acme_with(&app, &people).await;
    let origin = format!("http://acme.localhost:{}", app.address.port());

    // Newest first, 20 a page.
    let first = List::of(&acme.owner, "").await;
    let newest: Vec<_> = names.iter().rev().map(String::as_str).collect();
    assert_eq!((first.count(), first.usernames()), (25, newest[..20].to_vec()));
    assert_eq!(first.0["previous"], Value::Null);
    assert_eq!(first.0["next"], format!("{origin}/api/users/?page=2"));
    let second = List::of(&acme.owner, "page=2").await;
    assert_eq!(second.usernames(), [&newest[20..], &["acme-owner"]].concat());
    assert_eq!(second.0["next"], Value::Null);
    assert_eq!(second.0["previous"], format!("{origin}/api/users/"));

    // Every other parameter stays as it was written.
    let middle =
        List::of(&acme.owner, "page_size=7&search=us%65r&page=2&ordering=username&is_active=true&x=y").await;
    let keep = "page_size=7&search=us%65r&ordering=username&is_active=true&x=y";
    assert_eq!(middle.usernames(), names[7..14]);
    assert_eq!(middle.0["next"], format!("{origin}/api/users/?{keep}&page=3"));
    assert_eq!(middle.0["previous"], format!("{origin}/api/users/?{keep}"));

    let last = List::of(&acme.owner, "page=last&page_size=10").await;
    assert_eq!(last.usernames().len(), 5);
    assert_eq!(last.0["previous"], format!("{origin}/api/users/?page_size=10&page=2"));
    for (query, size) in [
        ("page_size=100", 25),
        ("page_size=1000", 25),
        ("page_size=99999999999999999999999", 25),
        ("page_size=3", 3),
        ("page_size=0", 20),
        ("page_size=-1", 20),
        ("page_size=x", 20),
        ("page_size=", 20),
        ("page=1", 20),
    ] {
        assert_eq!(List::of(&acme.owner, query).await.usernames().len(), size, "{query}");
    }
    // Where the host names no tenant, links lead to where the request came.
    let path = "/api/users/?page_size=1";
    let answer = app.request("GET", path).bearer(&acme.owner.token).expect(200).await;
    assert_eq!(answer["next"], format!("http://localhost:{}{path}&page=2", app.address.port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_not_there_is_not_found() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    for page in ["0", "2", "-1", "x", "1.5", "first", "99999999999999999999999", "%00", "1e1"] {
        let answer = acme.owner.request("GET", &format!("/api/users/?page={page}")).send().await;
        assert_eq!(answer.said(), (404, "not_found".into()), "{page}");
        assert_eq!(answer.json()["detail"], "Invalid page.", "{page}");
    }
    let nobody = List::of(&acme.owner, "search=nobody&page=1").await;
    assert_eq!(nobody.0, json!({"count": 0, "next": null, "previous": null, "results": []}));
    assert_eq!(List::of(&acme.owner, "search=nobody&page=last").await.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_wants_every_word_somewhere_whatever_its_case() {
    let app = TestApp::start().await;
    let person = |username, email, first_name, last_name| Person {
        username,
        email,
        first_name,
        last_name,
        role: Role::Member,
    };
    let people = [
        person("ada", "countess@example.com", "Ada", "Lovelace"),
        person("grace", "grace@navy.example", "Grace", "Hopper"),
        person("émile", "emile@example.org", "ÉMILE", "Müller"),
        person("percent", "p@example.net", "100%", "under_score"),
        person("slash", "s@example.net", "back\\slash", "Ελλάς"),
    ];
    let acme = acme_with(&app, &people).await;
    for (search, found) in [
        ("ada", &["ada"][..]),
        ("ADA", &["ada"]),
        ("love+ADA", &["ada"]),
        ("ada+hopper", &[]),
        ("countess", &["ada"]),
        ("navy.example+hop", &["grace"]),
        ("EXAMPLE.NET", &["slash", "percent"]),
        ("%C3%A9mile", &["émile"]),
        ("%C3%89MILE", &["émile"]),
        ("M%C3%9CLLER", &["émile"]),
        ("%CE%95%CE%9B%CE%9B%CE%86", &["slash"]),
        ("%25", &["percent"]),
        ("100%25", &["percent"]),
        ("_", &["percent"]),
        ("r_s", &["percent"]),
        ("%5C", &["slash"]),
        ("back%5Csl", &["slash"]),
        ("a%25a", &[]),
        ("'", &[]),
        ("%27%20OR%201%3D1", &[]),
        ("++", &["slash", "percent", "émile", "grace", "ada", "acme-owner"]),
    ] {
        let list = List::of(&acme.owner, &format!("search={search}")).await;
        assert_eq!(list.usernames(), found, "{search}");
        assert_eq!(list.count(), u64::try_from(found.len()).unwrap(), "{search}");
    }
    for (search, sentence) in [
        ("%00".to_owned(), "Null characters are not allowed."),
        ("x".repeat(201), "Ensure this field has no more than 200 characters."),
        ("x+".repeat(11), "Ensure this field has no more than 10 words."),
    ] {
        let answer = acme.owner.request("GET", &format!("/api/users/?search={search}")).send().await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{search}");
        assert_eq!(answer.json()["search"], json!([sentence]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_can_be_ordered_by_each_field_both_ways() {
    let app = TestApp::start().await;
    let person = |username, email, first_name, last_name| Person {
        username,
        email,
        first_name,
        last_name,
        role: Role::Member,
    };
    let people = [
        person("bob", "3@example.com", "B", "2"),
        person("Cid", "1@example.com", "C", "1"),
        person("ann", "2@example.com", "A", "3"),
    ];
    let acme = acme_with(&app, &people).await;
    sql(&app, &acme, "comment_count = CASE username WHEN 'Cid' THEN 2 WHEN 'ann' THEN 1 ELSE 0 END").await;
    for (field, ascending) in [
        ("username", ["ann", "bob", "Cid"]),
        ("email", ["Cid", "ann", "bob"]),
        ("first_name", ["ann", "bob", "Cid"]),
        ("last_name", ["Cid", "bob", "ann"]),
        ("date_joined", ["bob", "Cid", "ann"]),
        ("comment_count", ["bob", "ann", "Cid"]),
    ] {
        let up = List::of(&acme.owner, &format!("role=member&ordering={field}")).await;
        assert_eq!(up.usernames(), ascending, "{field}");
        let down = List::of(&acme.owner, &format!("role=member&ordering=-{field}")).await;
        assert_eq!(down.usernames().into_iter().rev().collect::<Vec<_>>(), ascending, "-{field}");
    }
    // What it cannot be ordered by is passed over.
    for ordering in ["", "password_hash", "pk", "--username", "role", "nonsense,-date_joined", "username_key"]
    {
        let list = List::of(&acme.owner, &format!("role=member&ordering={ordering}")).await;
        assert_eq!(list.usernames(), ["ann", "Cid", "bob"], "{ordering}");
    }
    sql(&app, &acme, "first_name = CASE username WHEN 'ann' THEN 'X' ELSE 'Y' END").await;
    let both = List::of(&acme.owner, "role=member&ordering=-first_name,last_name").await;
    assert_eq!(both.usernames(), ["Cid", "bob", "ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn walking_the_pages_meets_everybody_once_in_any_order() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let db: TenantDb = acme.db(&app).await;
    for name in crowd(22) {
        // All at the same moment, with the same names.
        acme.add_account(&app, Person { first_name: "Same", ..Person::named(&name) }).await;
    }
    assert_eq!(db.tenant().slug.as_str(), "acme");
    for ordering in
        ["", "-date_joined", "date_joined", "first_name", "-last_name", "comment_count", "-comment_count"]
    {
        let mut met = Vec::new();
        let mut query = format!("ordering={ordering}&page_size=5");
        loop {
            let page = List::of(&acme.owner, &query).await;
            met.extend(page.usernames().into_iter().map(str::to_owned));
            let Some(next) = page.0["next"].as_str() else { break };
            query = next.split_once('?').unwrap().1.to_owned();
        }
        assert_eq!(met.len(), 23, "{ordering}");
        assert_eq!(met.iter().collect::<HashSet<_>>().len(), 23, "{ordering}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_narrow_the_list_and_nonsense_is_refused() {
    let app = TestApp::start().await;
    let people =
        [Person::named("ann"), Person { role: Role::Admin, ..Person::named("bob") }, Person::named("cid")];
    let acme = acme_with(&app, &people).await;
    // Through the service, which counts them.
    let found = List::of(&acme.owner, "search=cid").await;
    let path = format!("/api/users/{}/", found.0["results"][0]["pk"].as_str().unwrap());
    acme.owner.request("PATCH", &path).json(&json!({"is_active": false})).expect(200).await;
    for (query, found) in [
        ("role=member", &["cid", "ann"][..]),
        ("role=admin", &["bob"]),
        ("role=owner", &["acme-owner"]),
        ("is_active=true", &["bob", "ann", "acme-owner"]),
        ("is_active=false", &["cid"]),
        ("is_active=false&role=admin", &[]),
        ("is_active=true&role=member&search=an", &["ann"]),
        ("unknown=1", &["cid", "bob", "ann", "acme-owner"]),
    ] {
        assert_eq!(List::of(&acme.owner, query).await.usernames(), found, "{query}");
    }
    for (name, value) in [("role", "god"), ("role", "Owner"), ("is_active", "maybe"), ("is_active", "2")] {
        let answer = acme.owner.request("GET", &format!("/api/users/?{name}={value}")).send().await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{name}={value}");
        assert_eq!(answer.json()[name], json!(["Enter a valid value."]), "{name}={value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_profile_can_be_changed_bit_by_bit() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person { email: "ann@example.com", ..Person::named("ann") }).await;
    let mut expected = json!({
        "pk": ann.pk, "username": "ann", "email": "ann@example.com", "first_name": "", "last_name": "",
        "role": "member", "email_verified": false, "locale": "en", "timezone": "UTC",
        "date_joined": "2026-01-02T03:04:05.678901Z",
    });
    assert_eq!(ann.get("/api/current_user/").await, expected);
    for (change, becomes) in [
        (json!({}), json!({})),
        (
            json!({"first_name": "Ann", "last_name": " Lee "}),
            json!({"first_name": "Ann", "last_name": "Lee"}),
        ),
        (json!({"first_name": ""}), json!({"first_name": ""})),
        (json!({"username": "Ann"}), json!({"username": "Ann"})),
        (json!({"username": "A\u{30a}nn-ﬁ"}), json!({"username": "Ånn-fi"})),
        (
            json!({"locale": "pt-BR", "timezone": "Europe/Berlin"}),
            json!({"locale": "pt-BR", "timezone": "Europe/Berlin"}),
        ),
        // What is not to be changed here, or unknown, is passed over.
        (
            json!({"email": "x@example.com", "role": "owner", "pk": acme.owner.pk, "is_active": false, "x": [1]}),
            json!({}),
        ),
    ] {
        for (name, value) in becomes.as_object().unwrap() {
            expected[name] = value.clone();
        }
        let answer = ann.request("PATCH", "/api/current_user/").json(&change).expect(200).await;
        assert_eq!(answer, expected, "{change}");
        assert_eq!(ann.get("/api/current_user/").await, expected, "{change}");
    }
    let others = acme.owner.get("/api/users/?role=owner").await;
    assert_eq!(
        (others["count"].as_u64(), &others["results"][0]["username"]),
        (Some(1), &json!("acme-owner"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_change_is_said_at_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let change =
        async |body: Value| acme.owner.request("PATCH", "/api/current_user/").json(&body).send().await;
    let answer = change(json!({
        "username": "with space", "first_name": "x".repeat(151), "last_name": null, "locale": "english",
        "timezone": "Mars/Olympus",
    }))
    .await;
    assert_eq!(
        answer.problem(),
        json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid",
            "detail": "Invalid input.",
            "username": [
                "Enter a valid username. This value may contain only letters, numbers, and ./_/- characters."
            ],
            "first_name": ["Ensure this field has no more than 150 characters."],
            "last_name": ["This field may not be null."],
            "locale": ["Enter a valid language tag, such as pt-BR."],
            "timezone": ["Enter a valid time zone, such as Europe/Berlin."],
        })
    );
    for (username, sentence) in [
        (json!(""), "This field may not be blank."),
        (json!("   "), "This field may not be blank."),
        (json!(null), "This field may not be null."),
        (json!(7), "Not a valid string."),
        (json!("x".repeat(151)), "Ensure this field has no more than 150 characters."),
        (
            json!("a@b"),
            "Enter a valid username. This value may contain only letters, numbers, and ./_/- characters.",
        ),
    ] {
        assert_eq!(
            change(json!({"username": username})).await.json()["username"],
            json!([sentence]),
            "{username}"
        );
    }
    assert_eq!(acme.owner.get("/api/current_user/").await["username"], "acme-owner", "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_username_is_taken_in_any_case_and_form() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    acme.add_account(&app, Person::named("Straße.fi")).await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let change = async |username: &str| {
        let body = json!({"username": username, "first_name": "Changed"});
        ann.request("PATCH", "/api/current_user/").json(&body).send().await
    };
    for taken in ["Straße.fi", "STRASSE.FI", "strasse.ﬁ", "ｓtraße.fi", "ACME-OWNER"] {
        let answer = change(taken).await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{taken}");
        assert_eq!(
            answer.json()["username"],
            json!(["A user with that username already exists."]),
            "{taken}"
        );
    }
    assert_eq!(ann.get("/api/current_user/").await["first_name"], "", "nothing was changed");
    // One's own in another dress is not taken, and another tenant's is nobody's business.
    let beta = app.sign_up("beta").await;
    assert_eq!(change("ANN").await.json()["username"], "ANN");
    assert_eq!(change(&beta.owner.username).await.json()["username"], "beta-owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_known_already_is_not_sent_again() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let get = async |user: &User, path: &str, known: &str| {
        user.request("GET", path).header("if-none-match", known).send().await
    };
    for path in ["/api/current_user/", "/api/users/", "/api/tenant/", &format!("/api/users/{}/", ann.pk)] {
        let answer = acme.owner.request("GET", path).send().await;
        let tag = answer.header("etag");
        assert!(tag.len() > 20 && tag.starts_with('"'), "{path}: a strong tag, not {tag}");
        assert_eq!(answer.header("cache-control"), "private, no-cache", "{path}");
        for known in [tag, "*", &format!("W/{tag}"), &format!("\"x\", {tag}")] {
            let short = get(&acme.owner, path, known).await;
            assert_eq!(
                (short.status, short.text.as_str(), short.header("etag")),
                (304, "", tag),
                "{path} {known}"
            );
        }
        assert_eq!(get(&acme.owner, path, "\"x\"").await.text, answer.text, "{path}");
        // The same bytes for another user are another answer.
        assert_eq!(get(&ann, path, tag).await.status, 200, "{path}");
        let head = acme.owner.request("HEAD", path).send().await;
        assert_eq!((head.status, head.text.as_str(), head.header("etag")), (200, "", tag), "HEAD {path}");
        assert_eq!(head.header("content-length"), answer.text.len().to_string(), "HEAD {path}");
    }
    let before = ann.request("GET", "/api/current_user/").send().await;
    ann.request("PATCH", "/api/current_user/").json(&json!({"first_name": "Ann"})).expect(200).await;
    let after = get(&ann, "/api/current_user/", before.header("etag")).await;
    assert_eq!((after.status, &after.json()["first_name"]), (200, &json!("Ann")));
}

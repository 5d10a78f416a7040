//! What happened, and who may know of it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{
    cleanup::{self, BATCH},
    entity::users::Role,
    mail::Mail,
    tenant,
};

use crate::support::{Organization, PASSWORD, Person, TestApp, fill_activity, mail_to, token_to};

const DAY: Duration = Duration::from_hours(24);

/// What happened, newest first: who, what, to what and about what, as people would read it.
fn told(page: &Value) -> Vec<String> {
    let shown = |reference: &Value| match reference {
        Value::Null => String::new(),
        reference => {
            format!(" {}:{}", reference["type"].as_str().unwrap(), reference["display"].as_str().unwrap())
        }
    };
    let results = page["results"].as_array().unwrap().iter();
    results
        .map(|entry| {
            let actor = entry["actor"]["username"].as_str().unwrap_or("nobody");
            let verb = entry["verb"].as_str().unwrap();
            format!("{actor} {verb}{}{}", shown(&entry["object"]), shown(&entry["target"]))
        })
        .collect()
}

async fn happened(organization: &Organization) -> Vec<String> {
    told(&organization.owner.get("/api/activity/").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_tells_how_it_came_to_be() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let page = acme.owner.get("/api/activity/").await;
    let entry = &page["results"][0];
    assert_eq!(
        page,
        json!({"count": 1, "next": null, "previous": null, "results": [{
            "id": entry["id"],
            "actor": {"pk": acme.owner.pk, "username": "acme-owner", "first_name": "", "last_name": ""},
            "verb": "signed_up",
            "object": {"type": "organization", "id": acme.id, "display": "ACME"},
            "target": null,
            "created_at": "2026-01-02T03:04:05.678901Z",
        }]})
    );
    assert!(entry["id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
    let own = acme.owner.get(&format!("/api/users/{}/activity/", acme.owner.pk)).await;
    assert_eq!(own["results"], page["results"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_invited_and_joins_is_told_of_without_the_address() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let body = json!({"email": "secret@b.example", "role": "admin"});
    acme.owner.request("POST", "/api/invitations/").json(&body).expect(201).await;
    let refused = json!({"email": "owner@acme.example"});
    acme.owner.request("POST", "/api/invitations/").json(&refused).expect(409).await;
    let token = token_to(&app.mails().await, "secret@b.example");
    let body = json!({"token": token, "username": "bob", "password": PASSWORD});
    let accept = || app.request("POST", "/api/invitations/accept/").host(&acme.host(&app)).json(&body);
    accept().expect(201).await;
    accept().expect(400).await;
    let page = acme.owner.get("/api/activity/").await;
    assert_eq!(
        told(&page),
        [
            "bob joined organization:ACME",
            "acme-owner invited invitation:admin",
            "acme-owner signed_up organization:ACME"
        ]
    );
    assert!(!page.to_string().contains("secret"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_up_by_himself_joins_once_his_address_is_proven() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    acme.owner.request("PATCH", "/api/tenant/").json(&json!({"sign_up_policy": "open"})).expect(200).await;
    let body = json!({"username": "eve", "email": "eve@b.example", "password": PASSWORD});
    app.request("POST", "/api/sign_up/").host(&acme.host(&app)).json(&body).expect(201).await;
    let mails = app.mails().await;
    let expected =
        ["acme-owner settings_updated organization:ACME", "acme-owner signed_up organization:ACME"];
    assert_eq!(happened(&acme).await, expected);
    let verify = |token: String| {
        let body = json!({"token": token, "password": PASSWORD});
        app.request("POST", "/api/sign_up/verify_email/").host(&acme.host(&app)).json(&body)
    };
    verify(token_to(&mails, "eve@b.example")).expect(200).await;
    assert_eq!(happened(&acme).await[0], "eve joined organization:ACME");
    // An owner who proves his address has joined long ago.
    verify(token_to(&mails, "owner@acme.example")).expect(200).await;
    assert_eq!(happened(&acme).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_admins_do_to_people_is_told() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("ann") }).await;
    let bob = acme.add_user(&app, Person::named("bob")).await;
    let path = format!("/api/users/{}/", bob.pk);
    let change = |body: Value| ann.request("PATCH", &path).json(&body);
    change(json!({"role": "admin", "is_active": false})).expect(200).await;
    change(json!({"is_active": true})).expect(200).await;
    // Nothing changes; and nothing may.
    change(json!({"role": "admin", "is_active": true})).expect(200).await;
    change(json!({})).expect(200).await;
    change(json!({"role": "owner"})).expect(403).await;
    let page = acme.owner.get(&format!("/api/users/{}/activity/", ann.pk)).await;
    assert_eq!(
        told(&page),
        ["ann reactivated user:bob", "ann deactivated user:bob", "ann role_changed user:bob role:admin"]
    );
    assert_eq!(page["results"][2]["target"], json!({"type": "role", "id": null, "display": "admin"}));
    ann.request("DELETE", &path).expect(204).await;
    let page = acme.owner.get("/api/activity/").await;
    assert_eq!(told(&page)[0], "ann removed user:");
    assert_eq!(page["results"][0]["object"]["id"], json!(bob.pk));
    // What he was in is there, without his name.
    assert_eq!(told(&page)[1], "ann reactivated user:");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_did_what_he_did_as_nobody() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    ann.request("PATCH", "/api/current_user/").json(&json!({"first_name": "Ann"})).expect(200).await;
    assert_eq!(happened(&acme).await[0], "ann profile_updated user:ann");
    ann.request("DELETE", "/api/current_user/").json(&json!({"password": PASSWORD})).expect(204).await;
    let page = acme.owner.get("/api/activity/").await;
    assert_eq!(told(&page), ["nobody profile_updated user:", "acme-owner signed_up organization:ACME"]);
    assert_eq!(page["results"][0]["actor"], Value::Null);
    let path = format!("/api/users/{}/activity/", ann.pk);
    let gone = acme.owner.request("GET", &path).send().await;
    assert_eq!(gone.said(), (404, "not_found".into()));
    // An admin who removes himself, too, leaves no trace.
    let bob = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("bob") }).await;
    bob.request("DELETE", &format!("/api/users/{}/", bob.pk)).expect(204).await;
    assert_eq!(acme.owner.get("/api/activity/").await["count"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_real_change_of_profile_or_settings_is_told() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let patch = |path: &'static str, body: Value| acme.owner.request("PATCH", path).json(&body);
    for body in [json!({}), json!({"first_name": "", "username": "acme-owner"})] {
        patch("/api/current_user/", body).expect(200).await;
    }
    for body in [json!({}), json!({"name": "ACME", "allowed_email_domains": []})] {
        patch("/api/tenant/", body).expect(200).await;
    }
    assert_eq!(happened(&acme).await, ["acme-owner signed_up organization:ACME"]);
    patch("/api/current_user/", json!({"timezone": "Europe/Berlin"})).expect(200).await;
    patch("/api/tenant/", json!({"name": "Acme Ltd"})).expect(200).await;
    let stale = acme.owner.request("PATCH", "/api/tenant/").header("if-match", "\"stale\"");
    stale.json(&json!({"name": "Other"})).expect(412).await;
    let expected = [
        "acme-owner settings_updated organization:Acme Ltd",
        "acme-owner profile_updated user:acme-owner",
        "acme-owner signed_up organization:Acme Ltd",
    ];
    assert_eq!(happened(&acme).await, expected);
    let body = json!({"email": "new@acme.example", "password": PASSWORD});
    acme.owner.request("POST", "/api/current_user/email/").json(&body).expect(200).await;
    assert_eq!(happened(&acme).await.len(), 3);
    let mails = app.mails().await;
    let Mail::ConfirmEmail { link, .. } = &mail_to(&mails, "new@acme.example").mail else {
        panic!("{mails:?}")
    };
    let token = link.split_once("?token=").unwrap().1;
    let verify = app.request("POST", "/api/current_user/email/verify/").host(&acme.host(&app));
    verify.json(&json!({"token": token})).expect(200).await;
    assert_eq!(happened(&acme).await[0], "acme-owner profile_updated user:acme-owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_makes_no_sense_is_refused() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let own = format!("/api/users/{}/activity/", acme.owner.pk);
    for path in ["/api/activity/", &own] {
        for (filter, field) in [
            ("verb=sang", "verb"),
            ("verb=Joined", "verb"),
            ("since=yesterday", "since"),
            ("since=2026-01-02", "since"),
            ("until=2026-13-02T00:00:00Z", "until"),
            ("until=1767323045", "until"),
        ] {
            let answer = acme.owner.request("GET", &format!("{path}?{filter}")).send().await;
            assert_eq!(answer.said(), (400, "invalid".into()), "{path} {filter}");
            assert!(answer.json()[field].is_array(), "{filter}: {}", answer.text);
        }
    }
    let nobody = format!("/api/users/{}/activity/?verb=sang", uuid::Uuid::new_v4());
    assert_eq!(acme.owner.request("GET", &nobody).send().await.status, 400);
    for path in [format!("/api/users/{}/activity/", uuid::Uuid::new_v4()), "/api/users/x/activity/".into()] {
        assert_eq!(acme.owner.request("GET", &path).send().await.said(), (404, "not_found".into()), "{path}");
    }
}

/// The ids that a query of ours finds, newest first.
async fn ids(app: &TestApp, organization: &Organization, condition: &str) -> Vec<String> {
    let sql = format!(
        r#"SELECT id::text FROM "{}".activities WHERE {condition} ORDER BY number DESC"#,
        organization.schema()
    );
    let rows = app.superuser().await.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_begins_with_its_first_moment_and_ends_before_its_last() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    acme.add_account(&app, Person::named("ann")).await;
    fill_activity(&app, &acme, 3_000).await;
    let own = format!("/api/users/{}/activity/", acme.owner.pk);
    let by_owner = format!("actor_pk = '{}'", acme.owner.pk);
    let periods = [
        ("2025-12-01T00:01:00Z", "2025-12-01T00:02:00Z"),
        ("2025-12-01T00:01:00.000001Z", "2025-12-01T00:03:00.000001Z"),
        ("2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        ("2025-12-01T23:17:30Z", "2025-12-02T05:00:00Z"),
        ("2025-12-02T01:00:00%2B02:00", "2025-12-03T00:00:00-01:00"),
        ("2025-12-03T02:00:00Z", "2030-01-01T00:00:00Z"),
        ("2025-12-03T02:00:00.1Z", "2030-01-01T00:00:00Z"),
        ("2025-12-02T00:00:00Z", "2025-12-02T00:00:00Z"),
        ("2025-12-02T00:00:00Z", "2025-12-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    ];
    for (path, actor) in [("/api/activity/", "true"), (own.as_str(), by_owner.as_str())] {
        for verb in ["", "replied"] {
            let of_verb = if verb.is_empty() { "true".to_owned() } else { format!("verb = '{verb}'") };
            for (since, until) in periods {
                let [from, to] = [since, until].map(|time| time.replace("%2B", "+"));
                for (filter, period) in [
                    (format!("since={since}"), format!("created_at >= '{from}'")),
                    (format!("until={until}"), format!("created_at < '{to}'")),
                    (
                        format!("since={since}&until={until}"),
                        format!("created_at >= '{from}' AND created_at < '{to}'"),
                    ),
                ] {
                    let verb_filter = if verb.is_empty() { String::new() } else { format!("&verb={verb}") };
                    let url = format!("{path}?page_size=7&{filter}{verb_filter}");
                    let expected = ids(&app, &acme, &format!("{actor} AND {of_verb} AND {period}")).await;
                    let page = acme.owner.get(&url).await;
                    assert_eq!(page["count"], expected.len(), "{url}");
                    let shown: Vec<_> =
                        page["results"].as_array().unwrap().iter().map(|entry| &entry["id"]).collect();
                    assert_eq!(shown, expected.iter().take(7).collect::<Vec<_>>(), "{url}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn walking_the_pages_shows_each_entry_once_in_either_direction() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    fill_activity(&app, &acme, 103).await;
    let all = ids(&app, &acme, "true").await;
    for (ordering, reversed) in [("", false), ("&ordering=created_at", true), ("&ordering=id", false)] {
        let mut seen = Vec::new();
        let mut next = Some(format!("/api/activity/?page_size=10{ordering}"));
        while let Some(path) = next {
            let page = acme.owner.get(&path).await;
            assert_eq!(page["count"], 103);
            seen.extend(
                page["results"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()),
            );
            next = page["next"].as_str().map(|url| format!("/api{}", url.split_once("/api").unwrap().1));
        }
        if reversed {
            seen.reverse();
        }
        assert_eq!(seen, all, "{ordering}");
    }
    assert_eq!(acme.owner.request("GET", "/api/activity/?page=7").send().await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_at_once_is_in_order_everywhere() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let mut users = vec![acme.owner.clone()];
    for n in 0..5 {
        users
            .push(acme.add_user(&app, Person { role: Role::Admin, ..Person::named(&format!("u{n}")) }).await);
    }
    let work = (0..60).map(|n| {
        let user = &users[n % users.len()];
        async move {
            let name = format!("name {n}");
            match n % 3 {
                0 => user.request("PATCH", "/api/current_user/").json(&json!({"first_name": name})),
                1 => user.request("PATCH", "/api/tenant/").json(&json!({"name": name})),
                _ => {
                    let body = json!({"email": format!("g{}@b.example", n % 4)});
                    user.request("POST", "/api/invitations/").json(&body)
                }
            }
            .send()
            .await
            .status
        }
    });
    let statuses = join_all(work).await;
    assert!(statuses.iter().all(|status| [200, 201, 403, 429].contains(status)), "{statuses:?}");
    let done = statuses.iter().filter(|status| **status < 300).count();
    assert_eq!(acme.owner.get("/api/activity/").await["count"], done + 1);
    assert_consistent(&app, &acme).await;
}

/// Every list has the numbers of its rows, without a gap, and times that grow.
async fn assert_consistent(app: &TestApp, organization: &Organization) {
    let sql = format!(
        r#"SELECT kind, owner::text, l.numbered, l.removed, r.first, r.last, r.count, r.grows FROM (
            SELECT 'activity' || coalesce(' ' || verb, '') AS kind,
                CASE WHEN of_actor THEN actor_pk ELSE '00000000-0000-0000-0000-000000000000' END AS owner,
                min(n) AS first, max(n) AS last, count(DISTINCT n) AS count,
                array_agg(created_at ORDER BY n) = array_agg(created_at ORDER BY created_at) AS grows
            FROM (
                SELECT NULL AS verb, actor_pk, false AS of_actor, number AS n, created_at FROM "{0}".activities
                UNION ALL SELECT verb, actor_pk, false, verb_number, created_at FROM "{0}".activities
                UNION ALL SELECT NULL, actor_pk, true, actor_number, created_at FROM "{0}".activities WHERE actor_pk IS NOT NULL
                UNION ALL SELECT verb, actor_pk, true, actor_verb_number, created_at FROM "{0}".activities
                    WHERE actor_pk IS NOT NULL) AS numbers
            GROUP BY 1, 2) AS r FULL JOIN (SELECT * FROM "{0}".lists WHERE kind LIKE 'activity%' AND numbered > removed) AS l
            USING (kind, owner)"#,
        organization.schema()
    );
    let rows = app.superuser().await.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let name = format!("{:?} of {:?}", row.get::<Option<String>, _>(0), row.get::<Option<String>, _>(1));
        let [numbered, removed, first, last, count] = [2, 3, 4, 5, 6]
            .map(|n| row.get::<Option<i64>, _>(n).unwrap_or_else(|| panic!("{name} is not both")));
        assert_eq!((removed + 1, numbered, numbered - removed), (first, last, count), "{name}");
        assert!(row.get::<bool, _>(7), "{name}");
    }
}

async fn set_retention(app: &TestApp, organization: &Organization, days: u16) {
    tenant::set_activity_retention(&organization.db(app).await, days).await.unwrap();
}

async fn clean(app: &TestApp) {
    cleanup::pass(&app.app, app.clock.now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_a_year_goes_and_numbers_go_on() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    acme.change(&app, &acme.owner, "email_verified_at = now()").await;
    app.clock.advance(365 * DAY);
    clean(&app).await;
    assert_eq!(ids(&app, &acme, "true").await.len(), 1, "not before a year is over");
    app.clock.advance(Duration::from_micros(1));
    clean(&app).await;
    assert_eq!(ids(&app, &acme, "true").await, [""; 0]);
    let owner = acme.sign_in(&app).await;
    assert_eq!(owner.get("/api/activity/").await["count"], 0);
    owner.request("PATCH", "/api/current_user/").json(&json!({"first_name": "Ann"})).expect(200).await;
    assert_eq!(told(&owner.get("/api/activity/").await), ["acme-owner profile_updated user:acme-owner"]);
    assert_consistent(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_removed_in_batches_and_lists_stay_right() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    for n in 0..4 {
        acme.add_account(&app, Person::named(&format!("user{n}"))).await;
    }
    let many = 2 * BATCH + 500;
    fill_activity(&app, &acme, many).await;
    // Somebody who is gone.
    let sql = format!(
        r#"WITH gone AS (DELETE FROM "{0}".users WHERE username = 'user1' RETURNING pk)
           DELETE FROM "{0}".lists WHERE owner IN (SELECT pk FROM gone)"#,
        acme.schema()
    );
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
    // The last eleven stay; the first of those is exactly a day old.
    set_retention(&app, &acme, 1).await;
    let end: chrono::DateTime<chrono::Utc> = "2025-12-02T00:00:00Z".parse().unwrap();
    let end = end + chrono::TimeDelta::minutes(i64::from(many) - 10);
    let removed = cleanup_at(&app, &acme, end).await;
    assert_eq!(removed, u64::from(many) - 11);
    assert_eq!(ids(&app, &acme, "true").await.len(), 11);
    let page = acme.owner.get("/api/activity/?page_size=100").await;
    assert_eq!((&page["count"], page["results"].as_array().unwrap().len()), (&json!(11), 11));
    assert_consistent(&app, &acme).await;
    // And again there is nothing to do.
    assert_eq!(cleanup_at(&app, &acme, end).await, 0);
}

/// Removes batch after batch, as if this were the time; how many went.
async fn cleanup_at(app: &TestApp, organization: &Organization, now: chrono::DateTime<chrono::Utc>) -> u64 {
    let db = organization.db(app).await;
    let mut removed = 0;
    loop {
        let batch = tenantry::activity::remove_old(&db, now, BATCH).await.unwrap();
        assert!(batch <= u64::from(BATCH));
        removed += batch;
        if batch < u64::from(BATCH) {
            return removed;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_somebody_works_on_keeps_those_behind_it() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    fill_activity(&app, &acme, 100).await;
    set_retention(&app, &acme, 1).await;
    let mut busy = app.superuser().await;
    let lock = format!(r#"SELECT 1 FROM "{}".activities WHERE number = 31 FOR UPDATE"#, acme.schema());
    busy.execute("BEGIN").await.unwrap();
    busy.execute(AssertSqlSafe(lock)).await.unwrap();
    assert_eq!(cleanup_at(&app, &acme, app.clock.now()).await, 30);
    assert_consistent(&app, &acme).await;
    busy.execute("ROLLBACK").await.unwrap();
    assert_eq!(cleanup_at(&app, &acme, app.clock.now()).await, 70);
    assert_eq!(acme.owner.get("/api/activity/").await["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_while_others_write_is_removed_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    fill_activity(&app, &acme, 3 * BATCH).await;
    set_retention(&app, &acme, 1).await;
    let writes = (0..30).map(|n| {
        let user = if n % 2 == 0 { &acme.owner } else { &ann };
        let body = json!({"first_name": format!("n{n}")});
        async move { user.request("PATCH", "/api/current_user/").json(&body).expect(200).await }
    });
    let cleanups = join_all((0..2).map(|_| cleanup_at(&app, &acme, app.clock.now())));
    let (_, removed) = tokio::join!(join_all(writes), cleanups);
    let left = cleanup_at(&app, &acme, app.clock.now()).await;
    assert_eq!(removed.iter().sum::<u64>() + left, u64::from(3 * BATCH), "{removed:?}");
    assert_eq!(acme.owner.get("/api/activity/").await["count"], 30);
    assert_consistent(&app, &acme).await;
}

//! Numbered lists, and counts that are right whatever happens at once.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{cleanup, entity::users::Role};
use tenants::lists::{self, Extent, List, Place};
use uuid::Uuid;

use crate::migrations::migrate;
use crate::support::{Organization, Person, TestApp, User};

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_given_once_and_without_gaps_to_whoever_draws_at_once() {
    let app = TestApp::start().await;
    let db = app.sign_up("acme").await.db(&app).await;
    let (one, other) = (List::of("test", Uuid::from_u128(1)), List::the("test"));
    let draw = async |round: i64| {
        let tx = db.begin().await.unwrap();
        // In the one order and in the other.
        let mut wanted = vec![(one.clone(), 2), (other.clone(), round % 3)];
        if round % 2 == 0 {
            wanted.reverse();
        }
        let mut drawn = lists::draw(&tx, &wanted, app.clock.now()).await.unwrap();
        // Some change their mind.
        if round % 5 == 0 {
            return Vec::new();
        }
        tx.commit().await.unwrap();
        if round % 2 == 0 {
            drawn.reverse();
        }
        drawn.swap_remove(0)
    };
    let drawn = join_all((0..40).map(draw)).await;
    let mut places: Vec<Place> = drawn.into_iter().flatten().collect();
    places.sort_unstable_by_key(|place| place.number);
    let numbers: Vec<i64> = places.iter().map(|place| place.number).collect();
    assert_eq!(numbers, (1..=64).collect::<Vec<_>>());
    assert!(places.windows(2).all(|pair| pair[0].at < pair[1].at), "{places:?}");
    let expected: i64 = (0..40).filter(|round| round % 5 != 0).map(|round| round % 3).sum();
    let extent = lists::extent(&db, &other).await.unwrap();
    assert_eq!(extent, Extent { numbered: expected, removed: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn times_grow_even_where_a_clock_goes_back() {
    let app = TestApp::start().await;
    let db = app.sign_up("acme").await.db(&app).await;
    let list = [(List::the("test"), 3)];
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let first = lists::draw(&db, &list, at("2026-01-01T00:00:10Z")).await.unwrap().remove(0);
    let second = lists::draw(&db, &list, at("2026-01-01T00:00:05Z")).await.unwrap().remove(0);
    let third = lists::draw(&db, &list, at("2026-01-01T00:00:20Z")).await.unwrap().remove(0);
    let all: Vec<Place> = [first, second, third].concat();
    assert_eq!(all.iter().map(|place| place.number).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    assert!(all.windows(2).all(|pair| pair[0].at < pair[1].at), "{all:?}");
    assert_eq!(all[2].at, at("2026-01-01T00:00:10Z"));
    assert_eq!(all[3].at, at("2026-01-01T00:00:10.000001Z"));
    assert_eq!(all[8].at, at("2026-01-01T00:00:20Z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_counted_is_never_fewer_than_none() {
    let app = TestApp::start().await;
    let db = app.sign_up("acme").await.db(&app).await;
    let (one, other) = (List::the("one"), List::the("other"));
    assert_eq!(lists::count(&db, &[one.clone(), other.clone()]).await.unwrap(), 0);
    assert_eq!(lists::count(&db, &[]).await.unwrap(), 0);
    // Each step changes both lists; what they count then.
    for (of_one, of_other, counted) in
        [(3, -1, [3, 0]), (-2, 5, [1, 5]), (0, -1, [1, 4]), (-7, -4, [0, 0]), (2, 1, [2, 1])]
    {
        lists::adjust(&db, &[(one.clone(), of_one), (other.clone(), of_other)], app.clock.now())
            .await
            .unwrap();
        for (list, expected) in [&one, &other].into_iter().zip(counted) {
            assert_eq!(lists::count(&db, std::slice::from_ref(list)).await.unwrap(), expected, "{list:?}");
        }
        let both = lists::count(&db, &[other.clone(), one.clone()]).await.unwrap();
        assert_eq!(both, counted.iter().sum::<u64>());
    }
}

/// What is counted, and what there is.
async fn counted_and_there(app: &TestApp, organization: &Organization) -> [BTreeMap<String, i64>; 2] {
    let mut superuser = app.superuser().await;
    let schema = organization.schema();
    let counted = format!(
        r#"SELECT kind, numbered - removed FROM "{schema}".lists
           WHERE (kind LIKE 'users %' OR kind = 'invitations') AND numbered > removed"#
    );
    let there = format!(
        r#"SELECT 'users ' || role || ' ' || is_active::text, count(*) FROM "{schema}".users GROUP BY 1
           UNION ALL SELECT 'invitations', count(*) FROM "{schema}".invitations HAVING count(*) > 0"#
    );
    let mut maps = Vec::new();
    for sql in [counted, there] {
        let rows = superuser.fetch_all(AssertSqlSafe(sql)).await.unwrap();
        maps.push(rows.iter().map(|row| (row.get(0), row.get(1))).collect());
    }
    maps.try_into().unwrap()
}

async fn assert_counts(app: &TestApp, organization: &Organization) {
    let [counted, there] = counted_and_there(app, organization).await;
    assert_eq!(counted, there);
    for (filter, prefix, suffix) in [
        ("", "users ", ""),
        ("role=admin", "users admin ", ""),
        ("is_active=false", "users ", " false"),
        ("role=member&is_active=true", "users member ", " true"),
    ] {
        let matching = there.iter().filter(|(kind, _)| kind.starts_with(prefix) && kind.ends_with(suffix));
        let expected: i64 = matching.map(|(_, count)| count).sum();
        let page = organization.owner.get(&format!("/api/users/?{filter}")).await;
        assert_eq!(page["count"], expected, "{filter}");
    }
    let invitations = organization.owner.get("/api/invitations/").await;
    assert_eq!(invitations["count"], there.get("invitations").copied().unwrap_or_default());
}

/// One of many things that change how many there are. Which of two that meet wins is none of this test's business.
async fn change(app: &TestApp, organization: &Organization, users: &[User], step: usize) {
    let owner = &organization.owner;
    let user = &users[step * 7 % users.len()];
    let path = format!("/api/users/{}/", user.pk);
    let set = |body| owner.request("PATCH", &path).json(&body);
    let status = match step % 8 {
        0 => set(json!({"role": "admin"})).send().await.status,
        1 => set(json!({"role": "member", "is_active": step.is_multiple_of(3)})).send().await.status,
        2 => set(json!({"is_active": step % 3 == 1})).send().await.status,
        3 => owner.request("DELETE", &path).send().await.status,
        4 => {
            organization.add_account(app, Person::named(&format!("new{step}"))).await;
            201
        }
        5 | 6 => {
            let body = json!({"email": format!("guest{}@a.example", step % 5)});
            owner.request("POST", "/api/invitations/").json(&body).send().await.status
        }
        _ => {
            let page = owner.get("/api/invitations/").await;
            let Some(id) = page["results"][0]["id"].as_str() else { return };
            owner.request("DELETE", &format!("/api/invitations/{id}/")).send().await.status
        }
    };
    assert!([200, 201, 204, 404].contains(&status), "{step}: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_right_after_all_that_happens_at_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let mut users = Vec::new();
    for n in 0..20 {
        let name = format!("user{n}");
        let role = if n % 4 == 0 { Role::Admin } else { Role::Member };
        users.push(acme.add_user(&app, Person { role, ..Person::named(&name) }).await);
    }
    assert_counts(&app, &acme).await;
    join_all((0..80).map(|step| change(&app, &acme, &users, step))).await;
    assert_counts(&app, &acme).await;
    // Invitations end by themselves; and people go by themselves.
    app.clock.advance(std::time::Duration::from_hours(24 * 8));
    cleanup::pass(&app.app, app.clock.now()).await.unwrap();
    let leaves = acme.add_user(&app, Person::named("leaves")).await;
    let body = json!({"password": crate::support::PASSWORD});
    leaves.request("DELETE", "/api/current_user/").json(&body).expect(204).await;
    let owner = acme.sign_in(&app).await;
    assert_counts(&app, &Organization { id: acme.id.clone(), slug: acme.slug.clone(), owner }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_there_before_users_were_counted_is_counted() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    acme.change(&app, &ann, "is_active = false").await;
    acme.owner.request("POST", "/api/invitations/").json(&json!({"email": "a@b.example"})).expect(201).await;
    // Back to the version before, and up again.
    let sql = format!(
        r#"SET search_path TO "{schema}";
        DROP TABLE audit;
        ALTER TABLE invitations DROP COLUMN by_operator;
        DELETE FROM {versions} WHERE version = 'm0004_audit';
        DROP TABLE lists, list_blocks, comments, activities, notifications, notification_preferences, digests, idempotency_keys;
        DROP INDEX users_first_name, users_last_name, users_comment_count, users_role, users_inactive;
        ALTER TABLE settings DROP COLUMN activity_retention_days;
        ALTER TABLE sign_ups DROP COLUMN is_mailed;
        ALTER TABLE sign_ups ADD CONSTRAINT sign_ups_pkey PRIMARY KEY (email_key);
        DELETE FROM {versions} WHERE version = 'm0003_conversations';
        UPDATE tenantry.tenants SET schema_version = 2;
        RESET search_path"#,
        schema = acme.schema(),
        versions = migration::VERSION_TABLE,
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
    assert_eq!(migrate(app.settings()).await.unwrap().tenants, 1);
    let beside = app.beside().await;
    let owner = acme.owner.at(&beside);
    assert_counts(&beside, &Organization { id: acme.id.clone(), slug: acme.slug.clone(), owner }).await;
}

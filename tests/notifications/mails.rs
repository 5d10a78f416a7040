//! What is mailed, and when.

use std::time::Duration;

use serde_json::json;
use tenantry::{
    jobs::{self, Task},
    mail::{Happening, Letter, Mail},
    notifications::{self, Kind},
};
use uuid::Uuid;

use super::{INBOX, PREFERENCES, counts, number, path, pk, results, run, tell};
use crate::support::{Options, Organization, Person, TestApp, User};

const MINUTE: Duration = Duration::from_mins(1);

/// An organization and somebody whose address is proven to be his.
async fn start() -> (TestApp, Organization, User) {
    start_with(Options::default()).await
}

async fn start_with(options: Options) -> (TestApp, Organization, User) {
    let app = TestApp::with(options).await;
    let acme = app.sign_up_quietly("acme").await;
    let person = Person { email: "ann@acme.example", first_name: "Ann", ..Person::named("ann") };
    let ann = acme.add_user(&app, person).await;
    acme.change(&app, &ann, "email_verified_at = now()").await;
    (app, acme, ann)
}

fn happening(kind: Kind) -> Happening {
    Happening { kind, actor: Some("acme-owner".into()), about: "acme-owner".into() }
}

fn url(app: &TestApp) -> String {
    format!("http://acme.localhost:{}", app.address.port())
}

#[track_caller]
fn only(letters: Vec<Letter>) -> Letter {
    let [letter] = <[Letter; 1]>::try_from(letters).unwrap();
    letter
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_within_a_minute_goes_into_one_mail() {
    let (app, acme, ann) = start().await;
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
    assert_eq!(app.mails().await, [], "not yet");
    app.clock.advance(Duration::from_micros(59_999_999));
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Reply)]).await;
    assert_eq!(app.mails().await, [], "not yet either");
    app.clock.advance(Duration::from_micros(1));
    let letter = only(app.mails().await);
    assert_eq!((letter.to.email.as_str(), letter.to.name.as_str()), ("ann@acme.example", "Ann"));
    assert_eq!(
        letter.mail,
        Mail::Notifications {
            organization: "ACME".into(),
            happenings: vec![happening(Kind::Mention), happening(Kind::Reply)],
            more: 0,
            url: url(&app),
        }
    );
    app.clock.advance(MINUTE);
    assert_eq!(app.mails().await, [], "once");
    assert_eq!(counts(&app, &acme, &ann).await, (2, 2), "mailed is not read");

    tell(&app, &acme, &acme.owner, &[(&ann, Kind::RoleChanged)]).await;
    app.clock.advance(MINUTE);
    let Mail::Notifications { happenings, .. } = only(app.mails().await).mail else { panic!("another mail") };
    assert_eq!(happenings, [happening(Kind::RoleChanged)]);
    let left = "SELECT count(*) FROM digests";
    assert_eq!(number(&app, &acme, left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_comes_in_the_morning_of_the_reader() {
    let frontend_url = Some("https://app.example.com/".parse().unwrap());
    let (app, acme, ann) = start_with(Options { frontend_url, ..Options::default() }).await;
    acme.change(&app, &ann, "timezone = 'Asia/Kathmandu'").await;
    // 03:04 in UTC is 08:49 there: the next morning is at 02:15.
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Comment)]).await;
    app.clock.advance(Duration::from_hours(23));
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Comment)]).await;
    assert_eq!(app.mails().await, []);
    // From 02:04:05.678901 to 02:15:00.
    app.clock.advance(Duration::from_micros(654_321_099 - 1));
    assert_eq!(app.mails().await, []);
    app.clock.advance(Duration::from_micros(1));
    assert_eq!(
        only(app.mails().await).mail,
        Mail::DailyDigest {
            organization: "ACME".into(),
            happenings: vec![happening(Kind::Comment), happening(Kind::Comment)],
            more: 0,
            url: "https://app.example.com/?tenant=acme".into(),
        }
    );
    app.clock.advance(Duration::from_hours(48));
    assert_eq!(app.mails().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_or_deleted_meanwhile_is_not_mailed() {
    let (app, acme, ann) = start().await;
    for kind in [Kind::Mention, Kind::Reply, Kind::RoleChanged] {
        tell(&app, &acme, &acme.owner, &[(&ann, kind)]).await;
    }
    let shown = results(&ann, "").await;
    ann.request("PATCH", &path(&shown[2])).json(&json!({"read": true})).expect(200).await;
    ann.request("DELETE", &path(&shown[1])).expect(204).await;
    app.clock.advance(MINUTE);
    let Mail::Notifications { happenings, .. } = only(app.mails().await).mail else { panic!("another mail") };
    assert_eq!(happenings, [happening(Kind::RoleChanged)]);

    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
    ann.request("POST", super::ALL_READ).expect(200).await;
    app.clock.advance(MINUTE);
    assert_eq!(app.mails().await, [], "nothing is left to tell");
    // That one is not mailed later either, and the next has a mail of its own.
    let first = path(&results(&ann, "").await[0]);
    ann.request("PATCH", &first).json(&json!({"read": false})).expect(200).await;
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Reply)]).await;
    app.clock.advance(MINUTE);
    let Mail::Notifications { happenings, .. } = only(app.mails().await).mail else { panic!("another mail") };
    assert_eq!(happenings, [happening(Kind::Reply)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_or_will_not_be_mailed_is_not() {
    let (app, acme, ann) = start().await;
    let stranger = acme.add_user(&app, Person::named("stranger")).await;
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention), (&stranger, Kind::Mention)]).await;
    let waiting = "SELECT count(*) FROM notifications WHERE mail IS NOT NULL";
    assert_eq!(number(&app, &acme, waiting).await, 1, "nothing for an address that nobody has proven");
    // Chosen since then.
    ann.request("PUT", PREFERENCES).json(&json!({"mention": {"email": "off"}})).expect(200).await;
    app.clock.advance(MINUTE);
    assert_eq!(app.mails().await, []);
    assert_eq!(number(&app, &acme, waiting).await, 0);

    let only_mail = json!({"mention": {"in_app": "off", "email": "instant"}});
    ann.request("PUT", PREFERENCES).json(&only_mail).expect(200).await;
    for set in ["email_verified_at = NULL", "is_active = false"] {
        acme.change(&app, &ann, "email_verified_at = now(), is_active = true").await;
        tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
        assert_eq!(number(&app, &acme, waiting).await, 1);
        acme.change(&app, &ann, set).await;
        app.clock.advance(MINUTE);
        assert_eq!(app.mails().await, [], "{set}");
        assert_eq!(number(&app, &acme, waiting).await, 0, "{set}");
    }
    acme.change(&app, &ann, "email_verified_at = now(), is_active = true").await;
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
    assert_eq!(ann.get(INBOX).await["count"], 1, "but for the first, only mails");
    app.clock.advance(MINUTE);
    assert_eq!(only(app.mails().await).to.email, "ann@acme.example");
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
    acme.owner.request("DELETE", &format!("/api/users/{}/", ann.pk)).expect(204).await;
    app.clock.advance(MINUTE);
    assert_eq!(app.mails().await, [], "gone");
    assert_eq!(app.app.tenancy.jobs(None, 10).await.unwrap().len(), 0, "and the job is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_done_twice_sends_one_mail() {
    let (app, acme, ann) = start().await;
    let digest = async || -> Uuid {
        let sql = format!(r#"SELECT id FROM "{}".digests"#, acme.schema());
        let mut superuser = app.superuser().await;
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut superuser).await.unwrap()
    };
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
    let first = digest().await;
    let db = acme.db(&app).await;
    let send = || notifications::send(&app.app, &db, pk(&ann), first);
    let (one, two) = futures_util::future::join(send(), send()).await;
    one.and(two).unwrap();
    assert_eq!(app.mails().await.len(), 1);
    // Nor does it send what waits for the next.
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Reply)]).await;
    send().await.unwrap();
    assert_ne!(digest().await, first);
    assert_eq!(app.mails().await, []);
    app.clock.advance(MINUTE);
    assert_eq!(app.mails().await.len(), 1);

    // Left by somebody who knows nothing of this tenant's rows.
    let tx = db.begin().await.unwrap();
    let task = Task::Digest { user: Uuid::nil(), digest: first };
    jobs::leave(&app.app, &tx, &task, None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(app.mails().await, []);
    assert_eq!(app.app.tenancy.jobs(None, 10).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_job_was_lost_is_left_anew() {
    let (app, acme, ann) = start().await;
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
    sqlx::raw_sql("DELETE FROM tenantry.jobs").execute(&mut app.superuser().await).await.unwrap();
    app.clock.advance(Duration::from_hours(72) + MINUTE);
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Reply)]).await;
    app.clock.advance(MINUTE);
    assert_eq!(app.mails().await, [], "it may be tried again until then");
    app.clock.advance(Duration::from_micros(1));
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Reply)]).await;
    app.clock.advance(MINUTE);
    let Mail::Notifications { happenings, .. } = only(app.mails().await).mail else { panic!("another mail") };
    assert_eq!(happenings.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_tells_of_fifty_things_and_counts_the_others() {
    let (app, acme, ann) = start().await;
    tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
    let sql = format!(
        "INSERT INTO notifications (id, user_pk, event, kind, object_type, mail, created_at) \
         SELECT gen_random_uuid(), '{}', gen_random_uuid(), 'reply', 'role', 'instant', '2026-01-02T03:05Z' \
         FROM generate_series(1, 52)",
        ann.pk
    );
    run(&app, &acme, &sql).await;
    app.clock.advance(MINUTE);
    let Mail::Notifications { happenings, more, .. } = only(app.mails().await).mail else {
        panic!("another mail")
    };
    assert_eq!((happenings.len(), more), (50, 3));
    assert_eq!(happenings[0].kind, Kind::Mention, "the oldest first");
    let waiting = "SELECT count(*) FROM notifications WHERE mail IS NOT NULL";
    assert_eq!(number(&app, &acme, waiting).await, 0, "the others are told by their number");
    app.clock.advance(MINUTE);
    assert_eq!(app.mails().await, []);
}

//! Much at once: counts stay those of the rows, and no mail is lost.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::json;
use tenantry::{mail::Mail, notifications::Kind};

use super::{ALL_READ, counts, number, path, results, tell};
use crate::support::{Person, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_right_whatever_happens_at_once() {
    let app = TestApp::start().await;
    let other = app.beside().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let bob = acme.add_user(&app, Person::named("bob")).await;
    let there = ann.at(&other);
    for round in 0..6 {
        for _ in 0..6 {
            tell(&app, &acme, &acme.owner, &[(&bob, Kind::Comment), (&ann, Kind::Comment)]).await;
        }
        let shown = results(&ann, "").await;
        let telling = async {
            for number in 0..8 {
                let both = [(&ann, Kind::Comment), (&bob, Kind::Comment)];
                let to = if number % 2 == 0 { both } else { [both[1], both[0]] };
                tell(&app, &acme, &acme.owner, &to).await;
            }
        };
        let marking = join_all((0..4).map(|number| {
            let user = if number % 2 == 0 { &ann } else { &there };
            user.request("POST", ALL_READ).expect(200)
        }));
        let touching = join_all(shown.iter().take(5).enumerate().map(|(number, one)| {
            let (user, path) = (if number % 2 == 0 { &ann } else { &there }, path(one));
            async move {
                let change = |read: bool| user.request("PATCH", &path).json(&json!({"read": read}));
                change(true).expect(200).await;
                change(false).expect(200).await;
                if number < 2 {
                    // Two at once: one is too late.
                    let delete = || user.request("DELETE", &path).send();
                    let (one, two) = join(delete(), delete()).await;
                    let mut statuses = [one.status, two.status];
                    statuses.sort_unstable();
                    assert_eq!(statuses, [204, 404]);
                }
            }
        }));
        join(telling, join(marking, touching)).await;
        let (count, _) = counts(&app, &acme, &ann).await;
        assert_eq!(count, (round + 1) * 12);
        assert_eq!(counts(&app, &acme, &bob).await, ((round + 1) * 14, (round + 1) * 14));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_request_stays_unread() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let (mut told, to) = (0, [(&ann, Kind::Comment)]);
    for _ in 0..10 {
        tell(&app, &acme, &acme.owner, &[(&ann, Kind::Comment)]).await;
        let telling = join_all((0..3).map(|_| tell(&app, &acme, &acme.owner, &to)));
        let (marked, _) = join(ann.request("POST", ALL_READ).expect(200), telling).await;
        told += 4;
        let updated = marked["updated"].as_i64().unwrap();
        assert!(updated >= 1, "what was there before is read: {marked}");
        let (count, unread) = counts(&app, &acme, &ann).await;
        assert_eq!((count, unread), (told, 4 - updated), "and what was not is not");
        // What is unread is the newest.
        let newest = results(&ann, "").await;
        let unread = usize::try_from(unread).unwrap();
        assert!(newest.iter().take(unread).all(|row| row["read_at"].is_null()));
        ann.request("POST", ALL_READ).expect(200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_waiting_for_a_mail_that_was_sent() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    acme.change(&app, &ann, "email_verified_at = now()").await;
    let (mut told, mut mailed) = (0, 0);
    let to = [(&ann, Kind::Mention)];
    for _ in 0..10 {
        told += 4;
        tell(&app, &acme, &acme.owner, &[(&ann, Kind::Mention)]).await;
        app.clock.advance(Duration::from_mins(1));
        let telling = join_all((0..3).map(|_| tell(&app, &acme, &acme.owner, &to)));
        let (mut letters, _) = join(app.mails(), telling).await;
        app.clock.advance(Duration::from_mins(1));
        letters.extend(app.mails().await);
        mailed += letters
            .iter()
            .map(|letter| match &letter.mail {
                Mail::Notifications { happenings, .. } => happenings.len(),
                mail => panic!("{mail:?}"),
            })
            .sum::<usize>();
        assert_eq!(mailed, told, "each once");
        let waiting = "SELECT count(*) FROM notifications WHERE mail IS NOT NULL";
        assert_eq!(number(&app, &acme, waiting).await, 0);
    }
}

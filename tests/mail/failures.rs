//! What becomes of a mail that does not go out.

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use tenantry::{
    audit::Actor,
    jobs::{self, retry_failed},
};
use tenants::{JobStatus, Kinds, Outcome};

use super::support::{SECRET, app_with, jobs_with, letter, mailer, payloads, post, rows, run_due};
use crate::support::{Act, Options, SmtpServer, SmtpSetup, Step, TestApp, eventually};

const LEASE: Duration = Duration::from_secs(121);

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_mails_wait_and_none_is_lost() {
    let mut server = SmtpServer::start().await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    server.go_away();
    post(&app, &acme, letter("ada@acme.example")).await;

    for attempt in 1..=3 {
        assert_eq!(run_due(&app).await, 1);
        let [job] = jobs_with(&app, JobStatus::Queued).await.try_into().unwrap();
        assert_eq!((job.kind.as_str(), job.tenant.as_deref(), job.attempts), ("mail", Some("acme"), attempt));
        let error = job.error.unwrap();
        assert!(error.starts_with("the connection: ") && error.contains("refused"), "{error}");
        let pause = job.run_at - app.clock.now();
        let longest = TimeDelta::seconds(30 << (attempt - 1));
        assert!((TimeDelta::zero()..=longest).contains(&pause), "attempt {attempt}: {pause}");
        // Not before its time.
        if pause > TimeDelta::zero() {
            assert_eq!(run_due(&app).await, 0);
        }
        app.clock.advance(pause.to_std().unwrap());
    }
    server.come_back().await;
    assert_eq!(run_due(&app).await, 1);
    assert_eq!(server.recipients(), ["ada@acme.example"]);
    assert_eq!(jobs_with(&app, JobStatus::Done).await.len(), 1);
    app.clock.advance(Duration::from_hours(100));
    assert_eq!(run_due(&app).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_two_days_of_failures_a_mail_is_parked_and_an_operator_can_retry_it() {
    let mut server = SmtpServer::start().await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    server.go_away();
    post(&app, &acme, letter("ada@acme.example")).await;
    let began = app.clock.now();

    let mut attempts = 0;
    loop {
        assert_eq!(run_due(&app).await, 1);
        attempts += 1;
        let Some(job) = jobs_with(&app, JobStatus::Queued).await.pop() else { break };
        app.clock.advance((job.run_at - app.clock.now()).to_std().unwrap());
        assert!(attempts < 200, "it goes on for ever");
    }
    assert_eq!(app.clock.now() - began, TimeDelta::days(2));
    // With pauses of an hour and a half on average there are some thirty; with none of three hours, at least these.
    assert!(attempts >= 16, "{attempts}");
    let [job] = jobs_with(&app, JobStatus::Parked).await.try_into().unwrap();
    assert_eq!(job.attempts, attempts);
    assert!(job.error.unwrap().starts_with("given up after 2 days: the connection: "));

    let by = Actor::command_line();
    let retry = |id| retry_failed(&app.app, id, &by);
    assert_eq!(retry(Some(app.clock.uuid_v7())).await.unwrap(), 0);
    assert_eq!(retry(Some(job.id)).await.unwrap(), 1);
    assert_eq!(run_due(&app).await, 1);
    let [job] = jobs_with(&app, JobStatus::Queued).await.try_into().unwrap();
    assert_eq!(job.attempts, attempts + 1, "it is tried for as long as a new one");
    server.come_back().await;
    app.clock.advance((job.run_at - app.clock.now()).to_std().unwrap());
    assert_eq!(run_due(&app).await, 1);
    assert_eq!(server.recipients(), ["ada@acme.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_address_is_parked_and_keeps_nobody_waiting() {
    let setup = SmtpSetup::default().script(|step, to| match (step, to) {
        (Step::Rcpt, "nobody@acme.example") => Act::Say("550 5.1.1 <nobody@acme.example>: no such user"),
        _ => Act::Accept,
    });
    let server = SmtpServer::with(setup).await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    for to in ["nobody@acme.example", "ada@acme.example", "bob@acme.example"] {
        post(&app, &acme, letter(to)).await;
    }
    assert_eq!(run_due(&app).await, 3);
    assert_eq!(server.recipients(), ["ada@acme.example", "bob@acme.example"]);
    let [job] = jobs_with(&app, JobStatus::Parked).await.try_into().unwrap();
    let said = "the recipient: the mail server said 550 5.1.1 <nobody@acme.example>: no such user";
    assert_eq!(job.error.as_deref(), Some(said));
    app.clock.advance(Duration::from_hours(100));
    assert_eq!(run_due(&app).await, 0);
    assert_eq!(retry_failed(&app.app, None, &Actor::command_line()).await.unwrap(), 1);
    assert_eq!(run_due(&app).await, 1);
    assert_eq!(jobs_with(&app, JobStatus::Parked).await[0].attempts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_has_expired_is_not_sent() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    app.mails().await;
    let hour = TimeDelta::hours(1);
    let mut letter = letter("ada@acme.example");
    letter.expires_at = Some(app.clock.now() + hour);
    post(&app, &acme, letter.clone()).await;
    app.clock.advance((hour - TimeDelta::microseconds(1)).to_std().unwrap());
    assert_eq!(app.mails().await, [letter.clone()]);

    letter.expires_at = Some(app.clock.now() + hour);
    post(&app, &acme, letter).await;
    app.clock.advance(hour.to_std().unwrap());
    assert_eq!(app.mails().await, []);
    let [job] = jobs_with(&app, JobStatus::Parked).await.try_into().unwrap();
    assert_eq!(job.error.unwrap(), "what it says expired at 2026-01-02 05:04 UTC, before it could be sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_it_notes_a_mail_costs_no_second_message_id() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let setup = SmtpSetup::default().script(move |step, _| match step {
        Step::Message if first.swap(false, std::sync::atomic::Ordering::Relaxed) => Act::TakeAndStall,
        _ => Act::Accept,
    });
    let server = SmtpServer::with(setup).await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    post(&app, &acme, letter("ada@acme.example")).await;

    let service = app.app.clone();
    let dies = tokio::spawn(async move { jobs::run_due(&service).await });
    eventually("the server has the mail", async || server.received().len() == 1).await;
    dies.abort();
    assert!(dies.await.unwrap_err().is_cancelled());

    let mailer = Some(mailer(&server.url("", ""), &server));
    let other = app.beside_with(Options { mailer, ..Options::default() }).await;
    assert_eq!(run_due(&other).await, 0, "the lease still stands");
    app.clock.advance(LEASE);
    assert_eq!(run_due(&other).await, 1);
    let [one, two] = server.received().try_into().unwrap();
    assert_eq!(one.id(), two.id());
    assert_eq!(one, two, "the very same message");
    let [job] = jobs_with(&app, JobStatus::Done).await.try_into().unwrap();
    assert_eq!(one.id(), format!("{}@mail.example", job.id));
    assert_eq!(job.attempts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_asked_for_with_the_same_message() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let setup = SmtpSetup::default().script(move |step, _| match step {
        Step::Message if first.swap(false, std::sync::atomic::Ordering::Relaxed) => Act::TakeAndClose,
        _ => Act::Accept,
    });
    let server = SmtpServer::with(setup).await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    for to in ["ada@acme.example", "bob@acme.example"] {
        post(&app, &acme, letter(to)).await;
    }
    assert_eq!(run_due(&app).await, 2);
    app.clock.advance(Duration::from_secs(30));
    assert_eq!(run_due(&app).await, 1);
    let received = server.received();
    let ids: BTreeSet<_> = received.iter().map(crate::support::Received::id).collect();
    assert_eq!((received.len(), ids.len()), (3, 2));
    assert_eq!(received[0], received[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_a_worker_that_lost_its_lease_does_not_count() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    app.mails().await;
    post(&app, &acme, letter("ada@acme.example")).await;
    let tenancy = &app.app.tenancy;
    let lease = Duration::from_secs(10);
    let take = async || tenancy.take_jobs(Kinds::All, 10, lease, app.clock.now()).await.unwrap();
    let [stale] = take().await.try_into().unwrap();
    assert_eq!(take().await.len(), 0);
    app.clock.advance(lease);
    let [current] = take().await.try_into().unwrap();
    assert_eq!((current.id, current.attempts), (stale.id, 2));

    let parked = Outcome::Park { error: "stale".to_owned() };
    assert!(!tenancy.finish_job(&stale, &parked, app.clock.now()).await.unwrap());
    assert_eq!(jobs_with(&app, JobStatus::Running).await[0].error, None);
    assert!(tenancy.finish_job(&current, &Outcome::Done, app.clock.now()).await.unwrap());
    assert!(!tenancy.finish_job(&current, &parked, app.clock.now()).await.unwrap());
    assert_eq!(jobs_with(&app, JobStatus::Parked).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_nowhere_in_clear_and_gone_once_sent() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    app.mails().await;
    post(&app, &acme, letter("ada.lovelace@acme.example")).await;
    let before = rows(&app).await.join("\n");
    for clear in [SECRET, "ada.lovelace", "account/verify", "Söhne"] {
        assert!(!before.contains(clear), "{before}");
        let encoded = data_encoding::BASE64.encode(clear.as_bytes());
        assert!(!before.contains(encoded.trim_end_matches('=')), "{before}");
    }
    assert_eq!(app.mails().await.len(), 1);
    let [message] = app.app.mailer.take_messages().try_into().unwrap_or_else(|_| panic!("one message"));
    assert!(String::from_utf8(message).unwrap().contains(SECRET));
    assert!(payloads(&app).await.iter().all(|payload| payload == "{}"), "{:?}", payloads(&app).await);
}

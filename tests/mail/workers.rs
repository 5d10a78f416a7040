//! Workers side by side, and how they stop.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tenantry::{jobs, mail::Mailer};
use tenants::JobStatus;

use super::support::{app_with, jobs_with, letter, mailer, post};
use crate::support::{Act, Options, Received, SmtpServer, SmtpSetup, Step, eventually};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_send_every_mail_once() {
    const MAILS: usize = 40;
    let server = SmtpServer::start().await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    for n in 0..MAILS {
        post(&app, &acme, letter(&format!("{n}@acme.example"))).await;
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        let mailer = Some(mailer(&server.url("", ""), &server));
        others.push(app.beside_with(Options { mailer, ..Options::default() }).await);
    }
    let workers: Vec<_> = others.iter().chain([&app]).map(|app| jobs::start(&app.app)).collect();
    eventually("all are sent", async || jobs_with(&app, JobStatus::Done).await.len() >= MAILS).await;
    for workers in workers {
        workers.stop(soon());
        workers.finish().await;
    }
    let received = server.received();
    let ids: BTreeSet<_> = received.iter().map(Received::id).collect();
    assert_eq!((received.len(), ids.len()), (MAILS, MAILS));
    assert!(jobs_with(&app, JobStatus::Done).await.iter().all(|job| job.attempts == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_hangs_keeps_no_other_waiting_and_is_handed_back_at_the_stop() {
    let setup = SmtpSetup::default().script(|step, to| match (step, to) {
        (Step::Rcpt, "slow@acme.example") => Act::Stall,
        _ => Act::Accept,
    });
    let server = SmtpServer::with(setup).await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    let workers = jobs::start(&app.app);
    for to in ["slow@acme.example", "ada@acme.example", "bob@acme.example"] {
        post(&app, &acme, letter(to)).await;
    }
    eventually("the others have theirs", async || server.received().len() == 2).await;
    assert_eq!(server.recipients(), ["ada@acme.example", "bob@acme.example"]);
    eventually("the slow one is under way", async || jobs_with(&app, JobStatus::Running).await.len() == 1)
        .await;

    workers.stop(Instant::now());
    workers.finish().await;
    let [job] = jobs_with(&app, JobStatus::Queued).await.try_into().unwrap();
    assert_eq!((job.attempts, job.run_at), (0, app.clock.now()), "nobody else's failure");
    assert_eq!(job.error.as_deref(), Some("the server was stopped before it was done"));
    // Another process has it at once: no lease has to run out first.
    let beside = app.beside_with(Options { mailer: Some(Mailer::memory()), ..Options::default() }).await;
    assert_eq!(jobs::run_due(&beside.app).await.unwrap(), 1);
    assert_eq!(beside.app.mailer.take().len(), 1);
    let done = jobs_with(&app, JobStatus::Done).await.into_iter().find(|done| done.id == job.id).unwrap();
    assert_eq!(done.attempts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_mail_that_is_under_way_and_begins_no_other() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let setup = SmtpSetup::default().script(move |step, _| {
        if step == Step::Message {
            // Held by another thread than the one that waits: this test has several.
            tokio::task::block_in_place(|| gone.lock().unwrap().recv().ok());
        }
        Act::Accept
    });
    let server = SmtpServer::with(setup).await;
    let app = app_with(&server).await;
    let acme = app.sign_up_quietly("acme").await;
    let workers = jobs::start(&app.app);
    post(&app, &acme, letter("ada@acme.example")).await;
    eventually("it is under way", async || jobs_with(&app, JobStatus::Running).await.len() == 1).await;

    workers.stop(soon());
    let finished = tokio::spawn(workers.finish());
    post(&app, &acme, letter("bob@acme.example")).await;
    go.send(()).unwrap();
    finished.await.unwrap();
    assert_eq!(server.recipients(), ["ada@acme.example"]);
    assert_eq!(jobs_with(&app, JobStatus::Done).await.len(), 1);
    let [job] = jobs_with(&app, JobStatus::Queued).await.try_into().unwrap();
    assert_eq!(job.attempts, 0);
}

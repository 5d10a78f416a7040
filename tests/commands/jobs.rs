//! Mails of a real `serve`, and the operator's look at those that fail.

use std::{
    ffi::OsString,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use sqlx::Executor as _;
use tenantry::{
    backend::{Backend, Use},
    clock::Clock,
    config::Config,
    embedded::{Cluster, Options},
    mail::{self, Letter, Mail, Recipient},
};

use super::support::Workplace;
use crate::support::{Act, SmtpServer, SmtpSetup, Step, eventually, superuser_of};

const FROM: &str = "Tenantry <no-reply@mail.example>";

fn place(server: &SmtpServer) -> Workplace {
    Workplace::new().with("TENANTRY_SMTP_URL", server.url("", "")).with("TENANTRY_MAIL_FROM", FROM)
}

/// Leaves letters, as another process on the same database does.
async fn post(place: &Workplace, server: &SmtpServer, to: &[&str]) {
    let environment = [
        ("TENANTRY_DATA_DIR", place.data_dir().into_os_string()),
        ("TENANTRY_SMTP_URL", server.url("", "").into()),
        ("TENANTRY_MAIL_FROM", FROM.into()),
    ];
    let environment = environment.map(|(name, value)| (OsString::from(name), value));
    let config = Config::parse(None, environment.into_iter()).unwrap();
    let backend = Backend::open(&config, Use::Shared).await.unwrap();
    let app = backend.app(&config, Clock::system()).await.unwrap();
    for to in to {
        let mail = Mail::Organizations { organizations: Vec::new() };
        let letter = Letter { to: Recipient::stranger(to), mail, expires_at: None };
        mail::post(&app, app.tenancy.catalog(), letter).await.unwrap();
    }
    app.tenancy.close();
    drop(app);
    backend.close().await.unwrap();
}

fn jobs(place: &Workplace, status: &str) -> Vec<Value> {
    place.run(&format!("jobs list --status {status} --json")).json().as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_although_the_service_is_killed_while_it_sends() {
    let first = AtomicBool::new(true);
    let setup = SmtpSetup::default().script(move |step, _| match step {
        Step::Message if first.swap(false, Ordering::Relaxed) => Act::TakeAndStall,
        _ => Act::Accept,
    });
    let server = SmtpServer::with(setup).await;
    let place = place(&server);
    let serve = place.serve();
    post(&place, &server, &["ada@acme.example"]).await;
    eventually("the server has the mail", async || server.received().len() == 1).await;
    // SIGKILL.
    drop(serve);

    let serve = place.serve();
    let [job] = jobs(&place, "running").try_into().unwrap();
    assert_eq!(job["attempts"], 1);
    // The two minutes of its lease pass.
    let cluster = Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    superuser.execute("UPDATE tenantry.jobs SET leased_until = now()").await.unwrap();
    eventually("it is done", async || jobs(&place, "done").len() == 1).await;
    let [one, two] = server.received().try_into().unwrap();
    assert_eq!(one, two, "a server can tell that it has it already");
    assert_eq!(one.id(), format!("{}@mail.example", job["id"].as_str().unwrap()));
    drop(superuser);
    cluster.stop().await.unwrap();
    assert_eq!(serve.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_is_parked_and_retries_it() {
    let refuses = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&refuses);
    let setup = SmtpSetup::default().script(move |step, to| {
        if step == Step::Rcpt && to.starts_with("new") && script.load(Ordering::Relaxed) {
            Act::Say("550 5.1.1 no such user")
        } else {
            Act::Accept
        }
    });
    let server = SmtpServer::with(setup).await;
    let place = place(&server);
    let serve = place.serve();
    assert_eq!(place.run("jobs list").ok(), "All jobs are done.\n");
    assert_eq!(place.run("jobs list --status parked").ok(), "No such jobs.\n");
    assert_eq!(place.run("jobs retry --all-failed").ok(), "No job has failed.\n");
    let report = place.run("doctor --json").json();
    assert!(findings(&report).contains(&("ok", "none is stuck")), "{report:#}");

    post(&place, &server, &["new.one@acme.example", "ada@acme.example", "new.two@acme.example"]).await;
    eventually("two are parked", async || jobs(&place, "parked").len() == 2).await;
    eventually("one is sent", async || server.recipients() == ["ada@acme.example"]).await;
    let table = place.run("jobs list").ok();
    let mut lines = table.lines();
    let headings: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(headings, ["JOB", "KIND", "TENANT", "STATUS", "ATTEMPTS", "DUE", "LAST", "ERROR"]);
    let line: Vec<_> = lines.next().unwrap().split_whitespace().skip(1).collect();
    assert_eq!(
        line.join(" "),
        "mail - parked 1 - the recipient: the mail server said 550 5.1.1 no such user"
    );
    let report = place.run("doctor --json").json();
    assert!(findings(&report).contains(&("warning", "2 failed for good and wait for you")), "{report:#}");
    assert_eq!(report["problems"], 0);

    refuses.store(false, Ordering::Relaxed);
    let unknown = "0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41";
    assert_eq!(
        place.run(&format!("jobs retry {unknown}")).failure(1),
        format!("error: no job {unknown} that failed; `tenantry jobs list` shows which there are\n")
    );
    let id = jobs(&place, "parked")[0]["id"].as_str().unwrap().to_owned();
    let retried = place.run(&format!("jobs retry {id}")).ok();
    assert_eq!(retried, "Queued 1 job: a running `tenantry serve` does it now.\n");
    assert_eq!(place.run("jobs retry --all-failed --json").json()["retried"], 1);
    eventually("all are sent", async || server.received().len() == 3).await;
    eventually("and noted", async || jobs(&place, "done").len() == 3).await;
    assert_eq!(serve.terminate(), Some(0));
}

fn findings(report: &Value) -> Vec<(&str, &str)> {
    let findings = report["findings"].as_array().unwrap().iter();
    let jobs = findings.filter(|it| it["check"] == "jobs");
    jobs.map(|it| (it["level"].as_str().unwrap(), it["found"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_of_jobs_that_nobody_does_and_of_those_that_keep_failing() {
    let server = SmtpServer::start().await;
    let place = place(&server);
    place.run("migrate").ok();
    post(&place, &server, &["ada@acme.example", "bob@acme.example"]).await;
    let cluster = Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    superuser
        .execute(
            "UPDATE tenantry.jobs SET run_at = now() - interval '11 min', due_since = now() - interval '61 min', \
             error = 'the connection: refused'",
        )
        .await
        .unwrap();
    drop(superuser);
    cluster.stop().await.unwrap();
    let report = place.run("doctor --json").json();
    assert_eq!(
        findings(&report),
        [
            ("warning", "2 are due for more than 10 minutes, and nobody does them"),
            ("warning", "2 keep failing for more than an hour"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_development_the_start_says_where_the_mails_are() {
    let place = Workplace::new();
    let serve = place.serve();
    let page = serve.request("acme", "GET", "/dev/mail").send().await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(serve.started()["mails"], format!("http://localhost:{}/dev/mail", serve.port()));
    assert_eq!(serve.terminate(), Some(0));
}

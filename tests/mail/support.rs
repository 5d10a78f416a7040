//! What the tests of mails share.

use std::{ffi::OsString, time::Duration};

use lettre::transport::smtp::client::Certificate;
use sqlx::{Executor as _, Row as _};
use tenantry::{
    config::{self, Config},
    jobs,
    mail::{self, Deadlines, Letter, Mail, Mailer, Recipient, SmtpOptions},
};
use tenants::{JobStatus, JobSummary};

use crate::support::{Options, Organization, SmtpServer, TestApp};

/// What must be nowhere in clear until it is in the mail.
pub(super) const SECRET: &str = "vDqQn0yfHnSgIXg2rVpqEw";

/// The mailer of an installation with this mail server. It trusts the server's own certificate.
pub(super) fn mailer(url: &str, server: &SmtpServer) -> Mailer {
    let trusted = vec![Certificate::from_der(server.certificate.clone()).unwrap()];
    mailer_with(url, SmtpOptions { trusted, ..patient() })
}

/// With deadlines that no test waits for, unless it is about them.
pub(super) fn patient() -> SmtpOptions {
    let long = Duration::from_secs(25);
    let deadlines = Deadlines { connect: long, command: long, message: long };
    SmtpOptions { deadlines, ..SmtpOptions::default() }
}

pub(super) fn mailer_with(url: &str, options: SmtpOptions) -> Mailer {
    let environment =
        [("TENANTRY_SMTP_URL", url), ("TENANTRY_MAIL_FROM", "Acme Söhne <no-reply@mail.example>")];
    let config = Config::parse(
        None,
        environment.map(|(name, value)| (name.into(), OsString::from(value))).into_iter(),
    );
    let config = config.unwrap();
    let config::Mail::Smtp(url) = config.mail() else { panic!("there is a mail server") };
    Mailer::smtp(config.mail_from(), url, options).unwrap()
}

/// A service whose mails go to this server.
pub(crate) async fn app_with(server: &SmtpServer) -> TestApp {
    let mailer = Some(mailer(&server.url("", ""), server));
    TestApp::with(Options { mailer, ..Options::default() }).await
}

pub(super) fn letter(to: &str) -> Letter {
    let link = format!("http://acme.localhost/account/verify?token={SECRET}");
    let mail = Mail::VerifyEmail { organization: "Acme Söhne".to_owned(), link };
    Letter { to: Recipient::stranger(to), mail, expires_at: None }
}

/// Leaves a letter, in a transaction of the organization.
pub(super) async fn post(app: &TestApp, organization: &Organization, letter: Letter) {
    let tx = organization.db(app).await.begin().await.unwrap();
    mail::post(&app.app, &tx, letter).await.unwrap();
    tx.commit().await.unwrap();
}

/// Does what is due now, once each. How many jobs that were.
pub(super) async fn run_due(app: &TestApp) -> usize {
    let mut done = 0;
    loop {
        match jobs::run_due(&app.app).await.unwrap() {
            0 => return done,
            more => done += more,
        }
    }
}

/// The jobs with this status.
pub(super) async fn jobs_with(app: &TestApp, status: JobStatus) -> Vec<JobSummary> {
    app.app.tenancy.jobs(Some(status), 1_000).await.unwrap()
}

/// All that the catalog holds of jobs, as text.
pub(super) async fn rows(app: &TestApp) -> Vec<String> {
    let rows = app.superuser().await.fetch_all("SELECT j::text AS row FROM tenantry.jobs j").await.unwrap();
    rows.iter().map(|row| row.get("row")).collect()
}

/// What the catalog holds to do the jobs with.
pub(super) async fn payloads(app: &TestApp) -> Vec<String> {
    let rows =
        app.superuser().await.fetch_all("SELECT payload::text AS payload FROM tenantry.jobs").await.unwrap();
    rows.iter().map(|row| row.get("payload")).collect()
}

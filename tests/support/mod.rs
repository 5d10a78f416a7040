//! What tests have in common: a private cluster a run, a database and a server a test, and users as clients.

use std::time::{Duration, Instant};

mod app;
mod client;
mod counts;
mod database;
mod document;
mod events;
mod fleet;
mod mails;
mod pgbouncer;
mod proxy;
mod scripts;
mod smtp;
mod statements;

pub(crate) use app::{Options, TestApp};
pub(crate) use client::{Answer, Organization, Person, Request, User, assert_not_valid, http_client};
pub(crate) use counts::{assert_counts, wrong_counts};
pub(crate) use database::{Database, superuser_of};
pub(crate) use document::{Operation, operations};
pub(crate) use events::{EventStream, Frame};
pub(crate) use fleet::{Fleet, hasty, work};
pub(crate) use mails::{link, mail_to, text_of, token_to};
pub(crate) use pgbouncer::PgBouncer;
pub(crate) use proxy::{Proxy, Weather};
pub(crate) use scripts::{assert_quiet, psql, psql_with};
pub(crate) use smtp::{Act, Encryption, Received, SmtpServer, SmtpSetup, Step};
pub(crate) use statements::{Statements, fill_activity};

/// A password that is good enough for everybody here.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Tells what a test found, or why it could not look; seen with `--nocapture`.
#[expect(clippy::print_stdout, reason = "for whoever runs the tests")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Tries until it holds, for half a minute.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut interval = tokio::time::interval(Duration::from_millis(50));
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        interval.tick().await;
    }
}

//! How a mail is handed to a mail server.

use std::time::{Duration, Instant};

use tenantry::mail::{Deadlines, Failure, Mailer, SmtpOptions, Stamp};
use uuid::Uuid;

use super::support::{SECRET, letter, mailer, mailer_with, patient};
use crate::support::{Act, Encryption, SmtpServer, SmtpSetup, Step};

fn stamp() -> Stamp {
    Stamp {
        id: "0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41".parse::<Uuid>().unwrap(),
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
    }
}

async fn send(mailer: &Mailer) -> Result<(), Failure> {
    mailer.deliver(letter("ada@acme.example"), stamp()).await
}

fn retried(result: Result<(), Failure>) -> String {
    match result {
        Err(Failure::Retry(error)) => error,
        other => panic!("it is to be tried again: {other:?}"),
    }
}

fn refused(result: Result<(), Failure>) -> String {
    match result {
        Err(Failure::Refused(error)) => error,
        other => panic!("it is refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let server = SmtpServer::start().await;
    send(&mailer(&server.url("", ""), &server)).await.unwrap();

    let received = server.received();
    let [mail] = received.as_slice() else { panic!("one mail: {received:?}") };
    assert_eq!((mail.from.as_str(), mail.to.as_str()), ("no-reply@mail.example", "ada@acme.example"));
    let message = mail.message();
    assert_eq!(message.subject(), Some("Confirm your e-mail address for Acme Söhne"));
    let from = message.from().and_then(|from| from.first()).unwrap();
    assert_eq!((from.name(), from.address()), (Some("Acme Söhne"), Some("no-reply@mail.example")));
    assert_eq!(message.to().and_then(|to| to.first()).unwrap().address(), Some("ada@acme.example"));
    assert_eq!(message.message_id(), Some("0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41@mail.example"));
    assert_eq!(message.date().unwrap().to_rfc3339(), "2026-01-02T03:04:05Z");
    assert_eq!(message.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
    let link = format!("http://acme.localhost/account/verify?token={SECRET}");
    assert!(message.body_text(0).unwrap().contains(&format!("\n{link}\r\n")), "{:?}", message.body_text(0));
    assert!(
        message.body_html(0).unwrap().contains(&format!("<a href=\"{link}\"")),
        "{:?}",
        message.body_html(0)
    );
    assert!(mail.bytes.is_ascii(), "no server has to know more than ASCII");
}

#[tokio::test]
async fn it_is_encrypted_and_signed_in_where_the_url_says_so() {
    for (encryption, query) in [(Encryption::StartTls, "?tls=required"), (Encryption::Implicit, "")] {
        for login_only in [false, true] {
            let credentials = Some(("mailer@mail.example", "s3cr/t p@ss"));
            let server =
                SmtpServer::with(SmtpSetup { encryption, credentials, login_only, ..SmtpSetup::default() })
                    .await;
            let url = server.url("mailer%40mail.example:s3cr%2Ft%20p%40ss@", query);
            send(&mailer(&url, &server)).await.unwrap();
            assert_eq!(server.recipients(), ["ada@acme.example"]);
            let commands = server.commands();
            let auth = if login_only { "AUTH LOGIN" } else { "AUTH PLAIN" };
            assert!(commands.iter().any(|it| it == auth), "{commands:?}");
            assert_eq!(commands.iter().any(|it| it == "STARTTLS"), encryption == Encryption::StartTls);
        }
    }
}

#[tokio::test]
async fn nothing_goes_to_a_server_that_is_not_the_one_it_says_it_is() {
    for (encryption, query) in [(Encryption::StartTls, "?tls=required"), (Encryption::Implicit, "")] {
        let server = SmtpServer::with(SmtpSetup { encryption, ..SmtpSetup::default() }).await;
        let url = server.url("", query);
        let error = retried(send(&mailer_with(&url, patient())).await);
        assert!(error.contains("certificate"), "{error}");
        // Trusted, but under another name.
        let url = url.replace("localhost", "127.0.0.1");
        let error = retried(send(&mailer(&url, &server)).await);
        assert!(error.contains("certificate"), "{error}");
        assert_eq!(server.received(), []);
    }
}

#[tokio::test]
async fn encryption_that_is_required_is_not_gone_without() {
    let server = SmtpServer::start().await;
    let error = retried(send(&mailer(&server.url("", "?tls=required"), &server)).await);
    assert!(error.contains("STARTTLS is not supported"), "{error}");
    assert_eq!(server.received(), []);
}

#[tokio::test]
async fn wrong_credentials_are_for_the_operator_and_not_for_the_mail() {
    let setup = SmtpSetup {
        encryption: Encryption::Implicit,
        credentials: Some(("mailer", "right")),
        ..SmtpSetup::default()
    };
    let server = SmtpServer::with(setup).await;
    let error = retried(send(&mailer(&server.url("mailer:wr0ng@", ""), &server)).await);
    assert_eq!(error, "the login: the mail server said 535 5.7.8 wrong credentials");
    let error = retried(send(&mailer(&server.url("", ""), &server)).await);
    assert_eq!(error, "the sender: the mail server said 530 5.7.0 Authentication required");
}

#[tokio::test]
async fn a_5xx_about_the_mail_is_the_last_word_and_no_other_failure_is() {
    let says = |at: Step, act: Act| {
        let setup = SmtpSetup::default().script(move |step, _| if step == at { act } else { Act::Accept });
        async move {
            let server = SmtpServer::with(setup).await;
            send(&mailer(&server.url("", ""), &server)).await
        }
    };
    assert_eq!(
        refused(says(Step::Rcpt, Act::Say("550 5.1.1 no such user")).await),
        "the recipient: the mail server said 550 5.1.1 no such user"
    );
    let long = "554-no\r\n554 way";
    assert!(
        refused(says(Step::Message, Act::Say(long)).await)
            .starts_with("the message: the mail server said 554 no")
    );
    for (at, act, error) in [
        (Step::Greeting, Act::Say("554 not today"), "the connection: the mail server said 554 not today"),
        (Step::Greeting, Act::Close, "the connection: "),
        (Step::Mail, Act::Say("550 not from you"), "the sender: the mail server said 550 not from you"),
        (
            Step::Rcpt,
            Act::Say("450 4.2.1 greylisted"),
            "the recipient: the mail server said 450 4.2.1 greylisted",
        ),
        (Step::Rcpt, Act::Say("530 sign in"), "the recipient: the mail server said 530 sign in"),
        (Step::Message, Act::Say("451 later"), "the message: the mail server said 451 later"),
        (Step::Message, Act::Close, "the message: "),
    ] {
        let said = retried(says(at, act).await);
        assert!(said.starts_with(error), "{said}");
        assert!(!said.contains("ada@") && !said.contains(SECRET), "{said}");
    }
}

#[tokio::test]
async fn no_step_is_waited_for_for_ever() {
    let short = Duration::from_millis(50);
    let deadlines = Deadlines { connect: short, command: short, message: short };
    for at in [Step::Greeting, Step::Mail, Step::Rcpt, Step::Message] {
        let setup =
            SmtpSetup::default().script(move |step, _| if step == at { Act::Stall } else { Act::Accept });
        let server = SmtpServer::with(setup).await;
        let options = SmtpOptions { deadlines, ..SmtpOptions::default() };
        let error = retried(send(&mailer_with(&server.url("", ""), options)).await);
        assert!(error.ends_with(": the mail server did not answer in time"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_until_something_went_wrong_on_it() {
    let setup = SmtpSetup::default().script(|step, to| match (step, to) {
        (Step::Rcpt, "nobody@acme.example") => Act::Say("550 no such user"),
        _ => Act::Accept,
    });
    let server = SmtpServer::with(setup).await;
    let mailer = mailer(&server.url("", ""), &server);
    for _ in 0..3 {
        send(&mailer).await.unwrap();
    }
    assert_eq!((server.received().len(), server.connections()), (3, 1));

    refused(mailer.deliver(letter("nobody@acme.example"), stamp()).await);
    send(&mailer).await.unwrap();
    assert_eq!((server.received().len(), server.connections()), (4, 2));
    mailer.close().await;
    assert_eq!(server.commands().last().unwrap(), "QUIT");
}

#[tokio::test]
async fn a_server_that_does_not_take_leave_is_left() {
    let setup =
        SmtpSetup::default().script(|step, _| if step == Step::Quit { Act::Stall } else { Act::Accept });
    let server = SmtpServer::with(setup).await;
    let mailer = mailer(&server.url("", ""), &server);
    send(&mailer).await.unwrap();
    let begun = Instant::now();
    mailer.close().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(server.commands().last().unwrap(), "QUIT");
}

#[tokio::test]
async fn a_connection_that_the_server_has_left_is_not_used_again() {
    let mut server = SmtpServer::start().await;
    let mailer = mailer(&server.url("", ""), &server);
    send(&mailer).await.unwrap();
    server.go_away();
    server.come_back().await;
    send(&mailer).await.unwrap();
    assert_eq!(server.received().len(), 2);
}

//! What is secret is nowhere to be read: not in what the program prints, logs and answers, not in its command line, and not in
//! the rows that operators look at. And what a stranger writes goes into the log as one line, without control characters.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::embedded::{Cluster, Options};

use super::support::{Ended, Workplace};
use crate::support::superuser_of;

const PASSWORD: &str = "seventeen purple accordions";
const WRONG_PASSWORD: &str = "eleven yellow accordions";
const DATABASE_PASSWORD: &str = "paSSwordOfADatabase";
const SMTP_PASSWORD: &str = "paSSwordOfAMailServer";
const MASTER_KEY: &str = "c2V2ZW50ZWVuIHB1cnBsZSBhY2NvcmRpb25zIHJvbGw=";

#[track_caller]
fn assert_none_in(secrets: &[String], text: &str, what: &str) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{what} tells {secret:?}: {text}");
    }
}

/// The programs fails for a reason that has a secret near it.
#[test]
fn no_failure_tells_a_secret() {
    let secrets = [DATABASE_PASSWORD, SMTP_PASSWORD, MASTER_KEY].map(str::to_owned);
    let url = |rest: &str| format!("postgres://ann:{DATABASE_PASSWORD}@{rest}");
    let settings: [&[(&'static str, String)]; 9] = [
        // Nobody listens on port 1; and then there are URLs that are none.
        &[("TENANTRY_DATABASE_URL", url("127.0.0.1:1/tenantry"))],
        &[("TENANTRY_DATABASE_URL", url("127.0.0.1:99999/tenantry"))],
        &[("TENANTRY_DATABASE_URL", url("127.0.0.1:1/tenantry?sslmode=unheard"))],
        &[("TENANTRY_DATABASE_URL", format!("postgres://ann:{DATABASE_PASSWORD}"))],
        &[("TENANTRY_DATABASE_URL", format!("mysql://ann:{DATABASE_PASSWORD}@127.0.0.1/x"))],
        &[("TENANTRY_SMTP_URL", format!("smtp://ann:{SMTP_PASSWORD}@mail.example?tls=unheard"))],
        &[("TENANTRY_SMTP_URL", format!("imap://ann:{SMTP_PASSWORD}@mail.example"))],
        &[("TENANTRY_MASTER_KEY", format!("{MASTER_KEY}{MASTER_KEY}"))],
        &[("TENANTRY_MASTER_KEY", format!("!{MASTER_KEY}"))],
    ];
    for given in settings {
        let place = Workplace::new().with("TENANTRY_MASTER_KEY", MASTER_KEY);
        let place = given.iter().fold(place, |place, (name, value)| place.with(name, value.clone()));
        for line in ["serve", "doctor --json", "tenant list"] {
            let Ended { stdout, stderr, .. } = place.run(line);
            assert_none_in(&secrets, &format!("{stdout}{stderr}"), &format!("{line} with {}", given[0].0));
            if given[0].0 != "TENANTRY_SMTP_URL" {
                assert!(!stdout.is_empty() || !stderr.is_empty(), "{line} says why");
            }
        }
    }
    // The parser of the file repeats the line that is wrong.
    let place = Workplace::new();
    for text in [
        format!("database_url = \"{}\" x", url("127.0.0.1/x")),
        format!("smtp_url = \"smtp://ann:{SMTP_PASSWORD}@mail.example"),
        format!("master_key = {{ key = \"{MASTER_KEY}\" }}"),
        format!("master_key = \"{MASTER_KEY}\"\nmaster_key = \"{MASTER_KEY}\""),
    ] {
        fs::write(place.path("tenantry.toml"), &text).unwrap();
        let said = place.run("tenant list").failure(1);
        assert!(said.contains("tenantry.toml"), "{said}");
        assert_none_in(&secrets, &said, &text);
    }
}

#[tokio::test]
async fn no_secret_is_logged_answered_or_kept_where_operators_look() {
    let place = Workplace::new()
        .with("TENANTRY_MAIL", "file")
        .with("TENANTRY_MASTER_KEY", MASTER_KEY)
        .with("TENANTRY_LOG", "debug");
    let (serve, log) = place.serve_with_log();
    let sign_up = json!({
        "organization": "Acme", "slug": "acme", "username": "ann", "email": "ann@acme.example", "password": PASSWORD,
    });
    let mut answers = String::new();
    let answer = serve.service("POST", "/api/sign_up/tenant/").json(&sign_up).send().await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let tokens = answer.json();
    let mut secrets = vec![PASSWORD.to_owned(), WRONG_PASSWORD.to_owned(), MASTER_KEY.to_owned()];
    for name in ["token", "refresh"] {
        secrets.push(tokens[name].as_str().unwrap().to_owned());
    }
    for (path, body) in [
        ("/api/login/", json!({"username": "ann", "password": WRONG_PASSWORD})),
        ("/api/login/", json!({"username": WRONG_PASSWORD, "password": WRONG_PASSWORD, "more": [PASSWORD]})),
        ("/api/password/forget/", json!({"email": "ann@acme.example"})),
        ("/api/password/reset/", json!({"token": secrets[3], "password": WRONG_PASSWORD})),
        ("/api/sign_up/verify_email/", json!({"token": secrets[3], "password": WRONG_PASSWORD})),
        ("/api/token/refresh/", json!({"refresh": format!("{}x", secrets[4])})),
    ] {
        let answer = serve.request("acme", "POST", path).json(&body).send().await;
        assert!(answer.status < 500, "{path}: {}", answer.text);
        answers.push_str(&answer.text);
    }
    let answer = serve.request("acme", "GET", "/api/current_user/").bearer(&secrets[3]).send().await;
    assert_eq!(answer.status, 200);
    answers.push_str(&answer.text);
    // A key of an operator, whose mark is all that may be seen of it.
    let operator = place.run_with("operator create ops@example.com --json", PASSWORD);
    let key: Value = serde_json::from_str(&operator.stdout).unwrap();
    let key = key["api_key"].as_str().unwrap().to_owned();
    let used = serve.service("GET", "/api/admin/tenants/").bearer(&key).send().await;
    assert_eq!(used.status, 200, "{}", used.text);
    answers.push_str(&used.text);
    secrets.push(key);
    // It is shown once, to who made it, and is in no log of that command's.
    assert_none_in(&secrets, &operator.stderr, "operator create");

    hostile(serve.port());
    let listed = place.run("tenant list").stdout;
    assert!(!listed.chars().any(|it| it.is_control() && it != '\n'), "{listed:?}");

    let line = fs::read_to_string(format!("/proc/{}/cmdline", serve.pid())).unwrap();
    assert_none_in(&secrets, &line, "its command line");
    assert_none_in(&secrets, &answers, "an answer");
    for command in ["audit --json", "jobs list --json", "doctor --json", "keys list --json"] {
        let Ended { stdout, stderr, .. } = place.run(command);
        assert_none_in(&secrets, &format!("{stdout}{stderr}"), command);
    }
    let cluster = Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname ~ '^(tenantry|t_.*)$'",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    for table in tables {
        let all = format!("SELECT coalesce(string_agg(it::text, E'\\n'), '') FROM {table} AS it");
        let rows: String = superuser.fetch_one(AssertSqlSafe(all)).await.unwrap().get(0);
        assert_none_in(&secrets, &rows, &table);
    }
    assert_eq!(serve.terminate(), Some(0));

    let log: Vec<String> = log.collect();
    assert!(log.len() > 3, "{log:?}");
    for line in &log {
        assert_none_in(&secrets, line, "the log");
        assert!(!line.contains("ann@acme.example"), "an address in the log: {line}");
        assert!(!line.contains(char::is_control), "a control character in the log: {line:?}");
        assert!(!line.starts_with("FORGED"), "a line that somebody else wrote: {line}");
    }
}

/// Requests whose path, host and headers try to write into the log.
fn hostile(port: u16) {
    for request in [
        "GET /api/%0aFORGED%1b[2J%e2%80%ae/ HTTP/1.1\r\nHost: localhost\r\n",
        "GET /api/current_user/?x=%0aFORGED%1b HTTP/1.1\r\nHost: acme.localhost\r\nUser-Agent: \u{1b}[2J\u{202e}FORGED\r\n",
        "GET /api/tenant/ HTTP/1.1\r\nHost: \u{1b}[2J\r\nX-Tenant: \u{202e}\r\n",
        "GET /api/tenant/ HTTP/1.1\r\nHost: localhost\r\nX-Tenant: acme\u{1b}[2J\r\nX-Request-Id: \tFORGED\u{1b}\r\n",
        "FORGED\u{1b} / HTTP/1.1\r\nHost: localhost\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "{request}Connection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // Reset or answered: it is done with.
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}

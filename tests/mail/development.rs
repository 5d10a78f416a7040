//! `/dev/mail`: the mails of a developer's own machine, in the browser.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;
use tenantry::{
    config::Config,
    mail::{Letter, Mail, Mailer},
};

use super::support::{SECRET, letter, post, run_due};
use crate::support::{Answer, Options, TestApp};

async fn app(directory: &TempDir, is_shown: bool) -> TestApp {
    let from = Config::parse(None, std::iter::empty()).unwrap().mail_from();
    let mailer = Mailer::files(from, directory.path().join("mail"), is_shown).unwrap();
    TestApp::with(Options { mailer: Some(mailer), ..Options::default() }).await
}

async fn get(app: &TestApp, path: &str) -> Answer {
    app.request("GET", path).send().await
}

/// What stands between these two.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_listed_the_newest_first_and_their_links_can_be_followed() {
    let directory = TempDir::new().unwrap();
    let app = app(&directory, true).await;
    let empty = get(&app, "/dev/mail").await;
    assert_eq!(empty.status, 200);
    assert!(empty.text.contains("None yet."), "{}", empty.text);

    let acme = app.sign_up_quietly("acme").await;
    run_due(&app).await;
    let organization = "<b>Evil</b> & Söhne".to_owned();
    let url = "http://acme.localhost".to_owned();
    let second = Letter { mail: Mail::AccountExists { organization, url }, ..letter("bob@acme.example") };
    for letter in [letter("ada@acme.example"), second] {
        post(&app, &acme, letter).await;
        run_due(&app).await;
    }
    let list = get(&app, "/dev/mail").await;
    assert_eq!((list.status, list.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(list.header("cache-control"), "no-store");
    let (newer, older) =
        (list.text.find("bob@acme.example").unwrap(), list.text.find("ada@acme.example").unwrap());
    assert!(newer < older, "{}", list.text);
    assert!(list.text.contains("&lt;b&gt;Evil&lt;/b&gt; &amp; Söhne"), "{}", list.text);
    let policy = list.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");

    let mail_path = format!("/dev/mail/{}", between(&list.text[older..], "href=\"/dev/mail/", "\""));
    let mail = get(&app, &mail_path).await;
    assert_eq!(mail.status, 200);
    assert!(mail.text.contains("<h1>Confirm your e-mail address for Acme Söhne</h1>"), "{}", mail.text);
    assert!(mail.text.contains("<td>Tenantry &lt;no-reply@localhost&gt;</td>"), "{}", mail.text);
    let link = format!("http://acme.localhost/account/verify?token={SECRET}");
    assert!(mail.text.contains(&format!("<a href=\"{link}\" target=\"_blank\" rel=\"noopener\">{link}</a>")));
    let frame = between(&mail.text, "<iframe", ">");
    assert!(frame.contains("sandbox=\"allow-popups allow-popups-to-escape-sandbox\""), "{frame}");

    let html = get(&app, between(frame, "src=\"", "\"")).await;
    assert!(
        html.text.contains(&format!("<a href=\"{link}\"")) && html.text.contains("<base target=\"_blank\">")
    );
    let policy = html.header("content-security-policy");
    assert!(policy.contains("sandbox allow-popups") && policy.contains("frame-ancestors 'self'"), "{policy}");
    assert!(!policy.contains("allow-scripts") && !policy.contains("allow-same-origin"), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_nobody_elses() {
    let directory = TempDir::new().unwrap();
    let app = app(&directory, true).await;
    let acme = app.sign_up_quietly("acme").await;
    post(&app, &acme, letter("ada@acme.example")).await;
    run_due(&app).await;
    let mails = directory.path().join("mail");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&mails), 0o700);
    let files: Vec<_> = mails.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    assert!(
        files.iter().all(|file| mode(file) == 0o600 && file.extension().is_some_and(|it| it == "eml")),
        "{files:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_sees_them() {
    let directory = TempDir::new().unwrap();
    let app = app(&directory, true).await;
    for host in ["localhost", "acme.localhost", "127.0.0.1", "[::1]"] {
        let answer = app.request("GET", "/dev/mail").host(host).send().await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.text);
    }
    let not_found = get(&app, "/nowhere").await.problem();
    for host in ["example.com", "acme.example.com", "localhost.example.com", "192.168.1.7", "notlocalhost"] {
        let answer = app.request("GET", "/dev/mail").host(host).send().await;
        assert_eq!(answer.problem(), not_found, "{host}");
    }
    for header in ["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "Via"] {
        let answer = app.request("GET", "/dev/mail").header(header, "203.0.113.7").send().await;
        assert_eq!(answer.problem(), not_found, "{header}");
    }
    std::fs::create_dir_all(directory.path().join("mail")).unwrap();
    std::fs::write(directory.path().join("secret.eml"), "Subject: secret\r\n\r\n").unwrap();
    std::fs::write(directory.path().join("mail/notes.eml"), "Subject: secret\r\n\r\n").unwrap();
    for name in ["notes", "..%2Fsecret", "%2e%2e%2fsecret", "..", "x", "20260102T030405Z-x"] {
        let answer = get(&app, &format!("/dev/mail/{name}")).await;
        assert_eq!(answer.status, 404, "{name}");
    }
    assert!(!get(&app, "/dev/mail").await.text.contains("notes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_than_in_development_there_is_no_such_page() {
    let directory = TempDir::new().unwrap();
    for app in [app(&directory, false).await, TestApp::start().await] {
        let not_found = get(&app, "/nowhere").await.problem();
        for path in ["/dev/mail", "/dev/mail/x", "/dev/mail/x/html"] {
            assert_eq!(get(&app, path).await.problem(), not_found, "{path}");
        }
    }
}

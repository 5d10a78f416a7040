//! What people read, whole.

use insta::assert_snapshot;
use mail_parser::MessageParser;
use proptest::prelude::*;

use super::{
    Happening, Letter, Mail, OrganizationLink, Recipient, Stamp,
    message::{Rendered, Sender},
    templates::{self, Written},
};
use crate::{entity::users::Role, notifications::Kind};

const LINK: &str = "https://acme.example.com/account/verify?token=vDqQn0yfHnSg";
const URL: &str = "https://acme.example.com";

fn letter(mail: Mail) -> Letter {
    let to = Recipient {
        email: "ada@acme.example".to_owned(),
        name: "Ada".to_owned(),
        locale: "en".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
    };
    Letter { to, mail, expires_at: None }
}

/// One that expires in summer, when the recipient's clock is two hours ahead.
fn expiring(mail: Mail) -> Letter {
    Letter { expires_at: Some("2030-07-01T22:30:00Z".parse().unwrap()), ..letter(mail) }
}

fn acme() -> String {
    "Acme & Söhne".to_owned()
}

fn happenings() -> Vec<Happening> {
    let it = |kind, actor: Option<&str>, about: &str| Happening {
        kind,
        actor: actor.map(str::to_owned),
        about: about.to_owned(),
    };
    vec![
        it(Kind::Mention, Some("Bob Lee"), "@ada: what about\n<b>lunch</b>? https://evil.example"),
        it(Kind::Reply, None, ""),
        it(Kind::RoleChanged, Some("evil.example"), "admin"),
    ]
}

/// Every mail there is.
fn letters() -> Vec<(&'static str, Letter)> {
    let (organization, link, url) = (acme(), LINK.to_owned(), URL.to_owned());
    let at = "2030-01-02T12:00:00Z".parse().unwrap();
    let ip = "203.0.113.7".to_owned();
    let browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned();
    let other =
        OrganizationLink { name: "株式会社".to_owned(), url: "https://kabushiki.example.com".to_owned() };
    let organizations = vec![OrganizationLink { name: acme(), url: url.clone() }, other];
    let (o, l, u) = (|| organization.clone(), || link.clone(), || url.clone());
    vec![
        ("verify_email", expiring(Mail::VerifyEmail { organization: o(), link: l() })),
        ("account_exists", letter(Mail::AccountExists { organization: o(), url: u() })),
        (
            "invitation",
            expiring(Mail::Invitation {
                organization: o(),
                inviter: "Bob Lee".to_owned(),
                role: Role::Admin,
                link: l(),
            }),
        ),
        ("reset_password", expiring(Mail::ResetPassword { organization: o(), link: l() })),
        (
            "password_changed",
            letter(Mail::PasswordChanged { organization: o(), at, ip: ip.clone(), url: u() }),
        ),
        ("confirm_email", expiring(Mail::ConfirmEmail { organization: o(), link: l() })),
        (
            "email_changed",
            letter(Mail::EmailChanged { organization: o(), email: "ada@new.example".to_owned(), at }),
        ),
        ("organizations", letter(Mail::Organizations { organizations })),
        (
            "notifications",
            letter(Mail::Notifications { organization: o(), happenings: happenings(), more: 0, url: u() }),
        ),
        (
            "daily_digest",
            letter(Mail::DailyDigest { organization: o(), happenings: happenings(), more: 3, url: u() }),
        ),
        ("new_device", letter(Mail::NewDevice { organization: o(), at, ip, user_agent: browser, url: u() })),
    ]
}

#[test]
fn all_templates_compile() {
    templates::compile().unwrap();
}

#[test]
fn people_can_read_every_mail() {
    for (name, letter) in letters() {
        let Written { subject, text, html } = templates::write(&letter).unwrap();
        assert_snapshot!(format!("{name}_text"), format!("Subject: {subject}\n\n{text}"));
        assert_snapshot!(format!("{name}_html"), html);
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let letter = Letter {
        to: Recipient::stranger("ann@acme.example"),
        ..letter(Mail::VerifyEmail { organization: acme(), link: LINK.to_owned() })
    };
    let text = templates::write(&letter).unwrap().text;
    assert!(text.starts_with("Hello,\n") && text.contains("\nThe link works once.\n"), "{text}");

    let mail = Mail::Organizations { organizations: Vec::new() };
    let Written { subject, text, .. } = templates::write(&Letter { mail, ..letter }).unwrap();
    assert_eq!(subject, "No organization with this address");
    assert!(text.contains("There is no account with this address."), "{text}");
}

#[test]
fn a_zone_nobody_knows_is_utc() {
    let mut letter = expiring(Mail::VerifyEmail { organization: acme(), link: LINK.to_owned() });
    letter.to.timezone = "Mars/Olympus".to_owned();
    let text = templates::write(&letter).unwrap().text;
    assert!(text.contains("until 1 July 2030, 22:30 (UTC)."), "{text}");
}

fn rendered(letter: &Letter) -> Rendered {
    let stamp = Stamp {
        id: "0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41".parse().unwrap(),
        at: "2030-01-02T12:00:00Z".parse().unwrap(),
    };
    Sender::nobody().render(letter, stamp).unwrap()
}

#[test]
fn a_message_is_the_same_at_every_attempt() {
    let letter = expiring(Mail::VerifyEmail { organization: acme(), link: LINK.to_owned() });
    let bytes = rendered(&letter).bytes;
    assert_eq!(bytes, rendered(&letter).bytes);
    let message = String::from_utf8(bytes).unwrap();
    let (head, _) = message.split_once("\r\n\r\n").unwrap();
    assert_snapshot!(head.replace("\r\n", "\n"));
}

#[test]
fn mails_go_to_the_stored_address_with_its_domain_as_dns_has_it() {
    let mut letter = letter(Mail::AccountExists { organization: acme(), url: URL.to_owned() });
    letter.to.email = "Ada.L+x@Bücher.example".to_owned();
    let envelope = rendered(&letter).envelope;
    assert_eq!(
        envelope.to().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["Ada.L+x@xn--bcher-kva.example"]
    );
}

proptest! {
    /// Whatever people call themselves and their organizations: the headers stay ours, there is one recipient, and the only
    /// links are ours.
    #[test]
    fn no_name_does_any_harm(
        organization in "(\\PC|[\r\n\t\u{0}\u{202e}\u{200b}<>&\"']|\r\nBcc: |https?://|www\\.|evil\\.example|<script>){0,40}",
        inviter in "(\\PC|[\r\n\u{2066}]|\r\n\r\n|<a href=|@evil\\.example){0,40}",
    ) {
        let mail = Mail::Invitation { organization, inviter, role: Role::Member, link: LINK.to_owned() };
        let Rendered { envelope, bytes } = rendered(&letter(mail.clone()));
        prop_assert_eq!(envelope.to().len(), 1);
        let message = MessageParser::default().parse(&bytes).unwrap();
        let names: Vec<_> = message.headers().iter().map(|header| header.name.as_str().to_owned()).collect();
        prop_assert_eq!(
            names,
            ["Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"]
        );
        let Written { subject, text, html } = templates::write(&letter(mail)).unwrap();
        prop_assert!(!subject.contains(|c: char| c.is_control()), "{subject:?}");
        for text in [&subject, &text, &html] {
            let ours = text.replace(LINK, "");
            prop_assert!(!ours.contains("://") && !ours.contains("www.evil") && !ours.contains("evil.example"), "{ours}");
            prop_assert!(!ours.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\0']), "{ours:?}");
        }
        prop_assert_eq!(html.matches("<a ").count(), 2);
        prop_assert!(!html.contains("<script"), "{html}");
    }
}

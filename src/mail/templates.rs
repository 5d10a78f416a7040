//! What the mails say: a folder per mail, in the binary.

use std::{net::IpAddr, sync::LazyLock};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use minijinja::{
    AutoEscape, Environment, Error, UndefinedBehavior, Value, context, escape_formatter, syntax::SyntaxConfig,
};

use super::{
    letter::{Happening, Letter, Mail},
    plain::{self, name},
};
use crate::{
    entity::users::Role,
    notifications::{Kind, sentence},
};

/// A mail as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// One line.
    pub(super) subject: String,
    /// For those who read text.
    pub(super) text: String,
    /// For the others.
    pub(super) html: String,
}

macro_rules! folders {
    ($($folder:literal),+ $(,)?) => {
        &[$(
            (concat!($folder, "/subject.txt"), include_str!(concat!("templates/", $folder, "/subject.txt"))),
            (concat!($folder, "/body.txt"), include_str!(concat!("templates/", $folder, "/body.txt"))),
            (concat!($folder, "/body.html"), include_str!(concat!("templates/", $folder, "/body.html"))),
        )+]
    };
}

const LAYOUTS: [(&str, &str); 2] = [
    ("layout.txt", include_str!("templates/layout.txt")),
    ("layout.html", include_str!("templates/layout.html")),
];

const FOLDERS: &[(&str, &str)] = folders![
    "verify_email",
    "account_exists",
    "invitation",
    "reset_password",
    "password_changed",
    "confirm_email",
    "email_changed",
    "organizations",
    "new_device",
    "notifications",
    "daily_digest",
];

static TEMPLATES: LazyLock<Result<Environment<'static>, Error>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_formatter(|out, state, value| match (state.auto_escape(), value.as_str()) {
        (AutoEscape::Html, Some(text)) if !value.is_safe() => {
            write!(out, "{}", Escaped(text)).map_err(Error::from)
        }
        _ => escape_formatter(out, state, value),
    });
    for (path, source) in LAYOUTS.iter().chain(FOLDERS) {
        environment.add_template(path, source)?;
    }
    Ok(environment)
});

/// Compiles the templates, once for all.
///
/// # Errors
/// One of them is broken: a defect that a test finds.
pub(super) fn compile() -> Result<(), &'static Error> {
    TEMPLATES.as_ref().map(|_| ())
}

/// Text in HTML. The engine's own escapes the slash too, which makes every link of a mail hard to read in its source.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            let (before, tail) = rest.split_at(at);
            f.write_str(before)?;
            f.write_str(match tail.as_bytes().first() {
                Some(b'&') => "&amp;",
                Some(b'<') => "&lt;",
                Some(b'>') => "&gt;",
                Some(b'"') => "&quot;",
                _ => "&#39;",
            })?;
            rest = &tail[1..];
        }
        f.write_str(rest)
    }
}

/// Writes a letter out.
pub(super) fn write(letter: &Letter) -> Result<Written, Error> {
    let environment = match &*TEMPLATES {
        Ok(environment) => environment,
        // It is no value that can be cloned.
        Err(error) => return Err(Error::new(error.kind(), error.to_string())),
    };
    let (folder, mail) = values(letter);
    let common = context! {
        name => name(&letter.to.name),
        expires_at => letter.expires_at.map(|at| time(at, &letter.to.timezone)),
    };
    let render = |file: &str, more: Value| {
        environment
            .get_template(&format!("{folder}/{file}"))?
            .render(context! { ..more, ..mail.clone(), ..common.clone() })
    };
    let subject = render("subject.txt", context! {})?.trim().to_owned();
    let text = render("body.txt", context! {})?;
    let html = render("body.html", context! { subject => subject.clone() })?;
    Ok(Written { subject, text, html })
}

/// The folder of a mail, and what its templates are filled with. Whatever a person has chosen is made a plain name here.
fn values(letter: &Letter) -> (&'static str, Value) {
    let time = |at| time(at, &letter.to.timezone);
    match &letter.mail {
        Mail::VerifyEmail { organization, link } => {
            ("verify_email", context! { organization => name(organization), link })
        }
        Mail::AccountExists { organization, url } => {
            ("account_exists", context! { organization => name(organization), url })
        }
        Mail::Invitation { organization, inviter, role, link } => (
            "invitation",
            context! { organization => name(organization), inviter => name(inviter), role => role_name(*role), link },
        ),
        Mail::ResetPassword { organization, link } => {
            ("reset_password", context! { organization => name(organization), link })
        }
        Mail::PasswordChanged { organization, at, ip, url } => (
            "password_changed",
            context! { organization => name(organization), at => time(*at), ip => address(ip), url },
        ),
        Mail::ConfirmEmail { organization, link } => {
            ("confirm_email", context! { organization => name(organization), link })
        }
        Mail::EmailChanged { organization, email, at } => {
            ("email_changed", context! { organization => name(organization), email, at => time(*at) })
        }
        Mail::Organizations { organizations } => {
            let list =
                organizations.iter().map(|it| context! { name => name(&it.name), url => it.url.clone() });
            ("organizations", context! { organizations => list.collect::<Vec<_>>() })
        }
        Mail::NewDevice { organization, at, ip, user_agent, url } => {
            let user_agent = match plain::plain(user_agent, plain::MAX_USER_AGENT) {
                unknown if unknown.is_empty() => "an unknown program".to_owned(),
                known => known,
            };
            let (at, ip) = (time(*at), address(ip));
            ("new_device", context! { organization => name(organization), at, ip, user_agent, url })
        }
        Mail::Notifications { organization, happenings, more, url } => {
            ("notifications", context! { organization => name(organization), url, ..told(happenings, *more) })
        }
        Mail::DailyDigest { organization, happenings, more, url } => {
            ("daily_digest", context! { organization => name(organization), url, ..told(happenings, *more) })
        }
    }
}

/// What happened, a sentence each, and where it is a comment, how that begins.
fn told(happenings: &[Happening], more: u64) -> Value {
    let list = happenings.iter().map(|it| {
        let actor = it.actor.as_deref().map(name);
        let quote = match it.kind {
            Kind::Mention | Kind::Reply | Kind::Comment => name(&it.about),
            Kind::InvitationAccepted | Kind::RoleChanged | Kind::NewDevice => String::new(),
        };
        context! { text => sentence(it.kind, actor.as_deref(), &it.about), quote }
    });
    context! { happenings => list.collect::<Vec<_>>(), more, count => happenings.len() as u64 + more }
}

/// An address of the network; nothing else is told as one.
fn address(ip: &str) -> String {
    ip.parse::<IpAddr>().map_or_else(|_| "an unknown address".to_owned(), |ip| ip.to_string())
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Owner => "an owner",
        Role::Admin => "an administrator",
        Role::Member => "a member",
    }
}

/// A time as the recipient's clock shows it; in UTC where the zone is not known.
fn time(at: DateTime<Utc>, zone: &str) -> String {
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    format!("{} ({})", at.with_timezone(&zone).format("%-d %B %Y, %H:%M"), zone.name())
}

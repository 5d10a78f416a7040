//! What mails say.

use tenantry::mail::{Letter, Mail};

/// The only one of these mails that goes to this address.
#[track_caller]
pub(crate) fn mail_to<'a>(mails: &'a [Letter], email: &str) -> &'a Letter {
    let found: Vec<_> = mails.iter().filter(|letter| letter.to.email == email).collect();
    assert_eq!(found.len(), 1, "mails to {email} in {mails:#?}");
    found[0]
}

/// What a mail says, as it is left in the outbox: its `Debug` tells nothing.
pub(crate) fn text_of(letter: &Letter) -> String {
    serde_json::to_string(&letter.mail).unwrap()
}

/// The link in a mail.
#[track_caller]
pub(crate) fn link(letter: &Letter) -> &str {
    match &letter.mail {
        Mail::VerifyEmail { link, .. } | Mail::Invitation { link, .. } => link,
        mail => panic!("no link in {mail:?}"),
    }
}

/// The token in the link of the only mail to this address.
#[track_caller]
pub(crate) fn token_to(mails: &[Letter], email: &str) -> String {
    link(mail_to(mails, email)).split_once("?token=").unwrap().1.to_owned()
}

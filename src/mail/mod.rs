//! Mails: which there are, how they are written, and how they go out.
//!
//! Nothing sends a mail while a request waits. Whoever causes one leaves a [`Letter`] in the outbox with [`post`], in the
//! transaction of its cause; a worker of [`crate::jobs`] delivers it. On its way a letter is written out (`templates`, which
//! make a `plain` name of whatever a person has chosen), put into a `message`, and handed on by the [`Mailer`].

mod development;
mod files;
mod letter;
mod mailer;
mod message;
mod plain;
mod smtp;
mod templates;
#[cfg(test)]
mod tests;

use tenants::Outbox;

pub(crate) use self::smtp::without_words;
pub use self::{
    development::{PATH as DEVELOPMENT_PATH, mount},
    letter::{Happening, Letter, Mail, OrganizationLink, Recipient},
    mailer::{Failure, Mailer, MailerError},
    message::Stamp,
    smtp::{Deadlines, SmtpOptions},
};
use crate::{
    error::ServiceError,
    jobs::{self, Task},
    state::App,
};

/// Leaves a letter in the outbox, in the transaction of what caused it.
///
/// # Errors
/// Those of the database.
pub async fn post(app: &App, outbox: &impl Outbox, letter: Letter) -> Result<(), ServiceError> {
    jobs::leave(app, outbox, &Task::Mail(letter), None).await.map(|_| ())
}

/// As [`post`], to somebody who may never have heard of who writes: of such mails, a mailbox gets a few an hour from all
/// organizations together, and the others later.
///
/// # Errors
/// Those of the database.
pub async fn post_unsolicited(app: &App, outbox: &impl Outbox, letter: Letter) -> Result<(), ServiceError> {
    jobs::leave(app, outbox, &Task::UnsolicitedMail(letter), None).await.map(|_| ())
}

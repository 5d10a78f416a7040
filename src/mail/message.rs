//! A letter as a message of RFC 5322.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    address::{AddressError, Envelope},
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use uuid::Uuid;

use super::{Failure, Letter, templates};
use crate::{config::MailFrom, users::identity::ascii_domain};

/// Which mail it is: the same at every attempt to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The id of the job.
    pub id: Uuid,
    /// When it was written.
    pub at: DateTime<Utc>,
}

/// A message, ready to be handed to a server.
#[derive(Clone, Debug)]
pub(super) struct Rendered {
    pub(super) envelope: Envelope,
    pub(super) bytes: Vec<u8>,
}

/// Who sends.
#[derive(Clone, Debug)]
pub(super) struct Sender(Mailbox);

impl Sender {
    pub(super) fn new(from: MailFrom) -> Result<Self, AddressError> {
        Ok(Self(Mailbox::new(from.name, from.address.parse()?)))
    }

    /// The sender where nothing is sent.
    pub(super) fn nobody() -> Self {
        Self(Mailbox::new(Some("Tenantry".to_owned()), Address::new_dangerous("no-reply", "localhost")))
    }

    pub(super) fn domain(&self) -> &str {
        self.0.email.domain()
    }

    /// Renders a letter. Nothing but the stamp, the letter and the sender goes in: a second attempt sends the same bytes, so
    /// that a server that has them already can tell.
    pub(super) fn render(&self, letter: &Letter, stamp: Stamp) -> Result<Rendered, Failure> {
        let to = recipient(&letter.to.email)?;
        let written = templates::write(letter)
            .map_err(|error| Failure::refused(format!("the mail cannot be written: {error}")))?;
        let bodies = MultiPart::alternative()
            .boundary(format!("=_{}", stamp.id.simple()))
            .singlepart(SinglePart::plain(written.text))
            .singlepart(SinglePart::html(written.html));
        let message = Message::builder()
            .message_id(Some(format!("<{}@{}>", stamp.id, self.domain())))
            .date(SystemTime::from(stamp.at))
            .from(self.0.clone())
            // Without a name: a program shows the one in its address book, and nobody's choice gets into a header.
            .to(Mailbox::new(None, to))
            .subject(written.subject)
            // RFC 3834: nobody's autoresponder is to answer.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .multipart(bodies)
            .map_err(|error| Failure::refused(format!("the mail cannot be put together: {error}")))?;
        Ok(Rendered { envelope: message.envelope().clone(), bytes: message.formatted() })
    }
}

/// An address as every server takes it: the domain as DNS has it.
fn recipient(email: &str) -> Result<Address, Failure> {
    let no_address = || Failure::refused("the recipient's address is none that mails can go to".to_owned());
    let (local, domain) = email.rsplit_once('@').ok_or_else(no_address)?;
    let domain = ascii_domain(domain).ok_or_else(no_address)?;
    Address::new(local, domain).map_err(|_| no_address())
}

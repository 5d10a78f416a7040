//! How mails go out: over SMTP, into files, or, in tests, nowhere.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Letter, Stamp,
    files::{self, MailFiles},
    message::Sender,
    smtp::{Smtp, SmtpOptions},
    templates,
};
use crate::{
    config::{self, Config, MailFrom, SmtpUrl},
    printable::Printable,
};

/// What an operator needs of an error, a server's long explanations included.
const MAX_ERROR: usize = 300;

/// Why a mail did not go out. The text is for operators: it names no recipient and no secret, unless a mail server did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may go out later.
    Retry(String),
    /// It will never go out as it is.
    Refused(String),
}

impl Failure {
    pub(super) fn retry(text: impl fmt::Display) -> Self {
        Self::Retry(shortened(text))
    }

    pub(super) fn refused(text: impl fmt::Display) -> Self {
        Self::Refused(shortened(text))
    }
}

/// One line, not too long, whatever a server has written.
fn shortened(text: impl fmt::Display) -> String {
    let text = Printable(text).to_string();
    match text.char_indices().nth(MAX_ERROR) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Why no mail can go out at all.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// Nothing can be sent in the name of this sender.
    #[error("TENANTRY_MAIL_FROM is no sender of mails: {0}")]
    Sender(#[from] lettre::address::AddressError),
    /// The mail server cannot be found in its URL.
    #[error("TENANTRY_SMTP_URL is no URL of a mail server: {0}")]
    Url(#[from] url::ParseError),
    /// A mail cannot be written: a defect.
    #[error("a template of the mails is broken: {0}")]
    Template(String),
}

/// Delivers mails. Clones share what they use.
#[derive(Clone, Debug)]
pub struct Mailer {
    sender: Sender,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Smtp(Arc<Smtp>),
    Files(MailFiles),
    Memory(Arc<Mutex<Kept>>),
}

#[derive(Debug, Default)]
struct Kept {
    letters: Vec<Letter>,
    messages: Vec<Vec<u8>>,
}

impl Mailer {
    /// One that keeps what it is given, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self { sender: Sender::nobody(), way: Way::Memory(Arc::default()) }
    }

    /// One that writes a file a mail into this directory. They are shown in the browser where that `is_shown`.
    ///
    /// # Errors
    /// See [`MailerError`].
    pub fn files(from: MailFrom, directory: PathBuf, is_shown: bool) -> Result<Self, MailerError> {
        Ok(Self { sender: Sender::new(from)?, way: Way::Files(MailFiles { directory, is_shown }) })
    }

    /// One that hands mails to a mail server.
    ///
    /// # Errors
    /// See [`MailerError`].
    pub fn smtp(from: MailFrom, url: &SmtpUrl, options: SmtpOptions) -> Result<Self, MailerError> {
        let sender = Sender::new(from)?;
        let smtp = Smtp::new(url, sender.domain(), options)?;
        Ok(Self { sender, way: Way::Smtp(Arc::new(smtp)) })
    }

    /// The one that the settings name. It connects to nothing yet.
    ///
    /// # Errors
    /// See [`MailerError`].
    pub fn of(config: &Config) -> Result<Self, MailerError> {
        // A broken template is known at the start, not when somebody waits for a mail.
        templates::compile().map_err(|error| MailerError::Template(error.to_string()))?;
        match config.mail() {
            config::Mail::Smtp(url) => Self::smtp(config.mail_from(), url, SmtpOptions::default()),
            config::Mail::Files(directory) => {
                Self::files(config.mail_from(), directory, config.is_development())
            }
        }
    }

    /// Takes leave of the mail server, where there is one.
    pub async fn close(&self) {
        if let Way::Smtp(smtp) = &self.way {
            smtp.close().await;
        }
    }

    /// Delivers a letter.
    ///
    /// # Errors
    /// It did not go out; or it did, and the server's word for it was lost. A second attempt sends the same message.
    pub async fn deliver(&self, letter: Letter, stamp: Stamp) -> Result<(), Failure> {
        let rendered = self.sender.render(&letter, stamp)?;
        match &self.way {
            // The conversation is a large future, and most jobs are none.
            Way::Smtp(smtp) => Box::pin(smtp.send(&rendered)).await,
            Way::Files(files) => files::write(files, stamp, rendered.bytes).await,
            Way::Memory(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.letters.push(letter);
                kept.messages.push(rendered.bytes);
                Ok(())
            }
        }
    }

    /// The letters that were kept in memory, and forgets them.
    #[must_use]
    pub fn take(&self) -> Vec<Letter> {
        self.kept(|kept| std::mem::take(&mut kept.letters))
    }

    /// The messages that were kept in memory, as a server would have got them, and forgets them.
    #[must_use]
    pub fn take_messages(&self) -> Vec<Vec<u8>> {
        self.kept(|kept| std::mem::take(&mut kept.messages))
    }

    fn kept<T: Default>(&self, take: impl FnOnce(&mut Kept) -> T) -> T {
        match &self.way {
            Way::Memory(kept) => take(&mut kept.lock().unwrap_or_else(PoisonError::into_inner)),
            _ => T::default(),
        }
    }

    /// Where the files are that a browser may show; `None` where it may show none.
    #[must_use]
    pub fn shown(&self) -> Option<&Path> {
        match &self.way {
            Way::Files(files) if files.is_shown => Some(&files.directory),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_read_is_one_short_line() {
        let Failure::Retry(text) = Failure::retry(format!("a\r\nb\u{1b}[2J\u{202e}{}", "x".repeat(1_000)))
        else {
            panic!("it is one to retry");
        };
        assert!(text.starts_with(r"a\r\nb\u{1b}[2J\u{202e}xxx") && text.ends_with("x…"), "{text}");
        assert_eq!(text.chars().count(), MAX_ERROR + 1);
    }
}

//! Mails: which there are, how they are written, and how they go out.
//!
//! Nothing sends a mail while a request waits. Whoever causes one leaves a [`Letter`] in the outbox with [`post`], in the
//! transaction of its cause; a worker of [`crate::jobs`] delivers it.

mod letter;
mod mailer;

use tenants::Outbox;

pub use self::{
    letter::{Letter, Mail, OrganizationLink, Recipient},
    mailer::Mailer,
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

//! How mails go out.

use std::sync::{Arc, Mutex, PoisonError};

use super::Letter;

/// Delivers mails.
#[derive(Clone, Debug, Default)]
pub struct Mailer {
    kept: Arc<Mutex<Vec<Letter>>>,
}

impl Mailer {
    /// One that keeps what it is given, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self::default()
    }

    /// Delivers a letter.
    pub async fn deliver(&self, letter: Letter) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
    }

    /// What was kept, and forgets it.
    #[must_use]
    pub fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

//! What somebody has to hear of who can buy a disk: that PostgreSQL has no room left, or fails.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use sea_orm::DbErr;

use crate::error::exhaustion;

/// It is told this often. Every write tells of it, and that would be the next disk to be full.
const TOLD_EVERY: Duration = Duration::from_secs(5);

static LAST_TOLD: Mutex<Option<Instant>> = Mutex::new(None);

/// Tells of it, where the error says that.
pub(crate) fn tell(error: &DbErr) {
    let Some((code, reason)) = exhaustion(error) else { return };
    let mut last = LAST_TOLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if last.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
        *last = Some(Instant::now());
        tracing::error!(
            code,
            reason,
            "PostgreSQL has no room left, or fails: nothing can be written until somebody sees to it"
        );
    }
}

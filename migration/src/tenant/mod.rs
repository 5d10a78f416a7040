//! A tenant's schema: its people and what they do.

pub(crate) mod m0001_foundation;
pub(crate) mod m0002_accounts;
pub(crate) mod m0003_conversations;
pub(crate) mod m0004_audit;

//! The tables of a tenant's schema. Their names carry no schema: where a statement runs is the connection's affair.

pub mod activities;
pub mod audit;
pub mod comments;
pub mod devices;
pub mod digests;
pub mod idempotency_keys;
pub mod invitations;
pub mod list_blocks;
pub mod lists;
pub mod notification_preferences;
pub mod notifications;
pub mod sessions;
pub mod settings;
pub mod sign_ups;
pub mod tokens;
pub mod users;

//! The tables of a tenant's schema. Their names carry no schema: where a statement runs is the connection's affair.

pub mod devices;
pub mod invitations;
pub mod sessions;
pub mod settings;
pub mod sign_ups;
pub mod tokens;
pub mod users;

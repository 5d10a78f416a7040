//! Tenantry.

pub mod clock;
pub mod http;
pub mod users;

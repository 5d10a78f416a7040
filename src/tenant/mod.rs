//! A tenant, as its own people see it.

pub mod api;
mod store;

pub use api::{TenantApi, TenantOut};
pub use store::create_settings;

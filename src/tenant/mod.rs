//! A tenant, as its own people see it.

pub mod api;
mod email_domain;
mod service;
mod store;

pub use api::{TenantApi, TenantOut};
pub use service::organization;
pub use store::create_settings;

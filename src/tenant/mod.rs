//! A tenant, as its own people see it.

pub mod api;
mod email_domain;
mod service;
mod store;

pub(crate) use api::MAX_DOMAINS;
pub use api::{TenantApi, TenantOut};
pub(crate) use email_domain::EmailDomain;
pub use service::{SignUpRules, count_invitation, sign_up_rules};
pub use store::{
    activity_retention, allows_impersonation, create_settings, hold_settings, name, set_activity_retention,
    set_name,
};

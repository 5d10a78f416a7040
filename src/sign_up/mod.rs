//! How organizations come to be.

pub mod api;
mod service;
mod slug;

pub use api::SignUpApi;
pub use service::{NewOrganization, create_organization};
pub use slug::{ChosenSlug, derive_slug};

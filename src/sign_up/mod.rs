//! How organizations come to be.

pub mod api;
mod error;
mod service;
mod slug;

pub use api::SignUpApi;
pub use error::SignUpError;
pub use service::{InvitedOrganization, NewOrganization, Organization, create_invited, create_organization};
pub use slug::{ChosenSlug, derive_slug};

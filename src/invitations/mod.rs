//! How people are asked to join, and join.

pub mod api;
mod error;
mod service;
mod store;

pub use api::InvitationsApi;
pub use error::InvitationError;
pub use service::{OwnerInvited, invite_owner, remove_expired, take_back_owner};

//! What operators do with tenants: make, look at, rename, suspend, delete and restore them. The same rules hold for the
//! endpoints and for the command line, and everything that is done is in the [audit logs](crate::audit) with it.

pub mod api;
mod error;
mod owner;
mod service;

pub use api::{AdminApi, OwnerInvitationOut, TenantDetailOut};
pub use error::AdminError;
pub use owner::invite_owner;
pub use service::{
    Change, NewTenant, Owner, act_on, provision, reach, rename, set_retention, set_status, users,
};

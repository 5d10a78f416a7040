//! The people of a tenant.

pub mod api;
mod error;
pub mod identity;
mod profile;
mod service;
mod store;

pub use api::{CurrentUserOut, PersonOut, UserBrief, UserOut, Users, UsersApi};
pub use error::UserError;
pub use service::{Roster, blind, join, listed, remove};
pub use store::{
    Account, Credentials, Login, NewUser, count_all, credentials_of, find, find_by_email, find_credentials,
    has_verified_owner, hold, insert, insert_many, is_email_taken, lock, lock_with_password, set_email,
    set_email_verified, set_password, taken_usernames,
};

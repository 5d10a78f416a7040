//! The people of a tenant.

pub mod api;
mod error;
pub mod identity;
mod profile;
mod store;

pub use api::{CurrentUserOut, UserBrief, UserOut, UsersApi};
pub use error::UserError;
pub use store::{
    Account, Credentials, Login, NewUser, count_all, credentials_of, find, find_credentials, insert,
    insert_many, lock, lock_with_password, set_email_verified, set_password, taken_usernames,
};

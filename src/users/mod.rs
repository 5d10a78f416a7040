//! The people of a tenant.

pub mod api;
mod error;
pub mod identity;
mod lifecycle;
mod profile;
mod store;

pub use api::{CurrentUserOut, UserBrief, UserOut, UsersApi};
pub use error::UserError;
pub use lifecycle::{delete, find_by_email, is_email_taken, is_last_owner, password_hash, set_email};
pub use store::{
    Account, Credentials, Login, NewUser, count_all, find, find_credentials, insert, insert_many, lock,
    taken_usernames,
};

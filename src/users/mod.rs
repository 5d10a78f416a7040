//! The people of a tenant.

pub mod api;
mod error;
pub mod identity;
mod listing;
mod profile;
mod service;
mod store;

pub use api::{CurrentUserOut, PersonOut, UserBrief, UserOut, Users, UsersApi};
pub use error::UserError;
pub use listing::{count_all, page};
pub(crate) use profile::{Locale, Timezone};
pub use service::{Roster, blind, join, record_joined, record_profile_update, remove};
pub use store::{
    Account, Credentials, Login, NewUser, credentials_of, find, find_by_email, find_credentials, has_owner,
    has_verified_owner, hold, insert, insert_many, is_email_taken, lock, lock_whole, lock_with_password,
    set_email, set_email_verified, set_password, taken_usernames, usernames,
};

//! How people come into an organization by themselves, and how an address is proven.
//!
//! Whoever signs up is no user yet. His sign-up waits, with the hash of the password he chose, until somebody who reads the
//! mails of the address *and* knows that password comes with the link: so nobody gets an account for an address that is not
//! his, and nobody makes somebody else confirm a password of a stranger's.
//!
//! Whether an address is known here shows in no answer and in no answer's time. What depends on it is done afterwards, by
//! [`tasks`].

pub mod api;
mod error;
mod service;
mod store;
pub mod tasks;

pub use api::RegistrationApi;
pub use error::RegistrationError;
pub use service::{mail_link, void};

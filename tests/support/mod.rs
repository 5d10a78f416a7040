//! What tests have in common: a private cluster a run, a database and a server a test, and users as clients.

mod app;
mod client;
mod database;

pub use app::{Options, TestApp};
pub use client::{Answer, Organization, User};
pub use database::{Database, superuser_of};

/// A password that is good enough for everybody here.
pub const PASSWORD: &str = "correct horse battery";

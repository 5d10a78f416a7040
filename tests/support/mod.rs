//! What tests have in common: a private cluster a run, a database and a server a test, and users as clients.

mod app;
mod client;
mod database;

pub(crate) use app::{Options, TestApp};
pub(crate) use client::{Answer, Organization, Request, User};
pub(crate) use database::{Database, superuser_of};

/// A password that is good enough for everybody here.
pub(crate) const PASSWORD: &str = "correct horse battery";

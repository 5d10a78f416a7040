//! What tests have in common: a private cluster a run, a database and a server a test, and users as clients.

mod app;
mod client;
mod database;
mod document;

pub(crate) use app::{Options, TestApp};
pub(crate) use client::{Answer, Organization, Person, Request, User, assert_not_valid};
pub(crate) use database::{Database, superuser_of};
pub(crate) use document::{Operation, operations};

/// A password that is good enough for everybody here.
pub(crate) const PASSWORD: &str = "correct horse battery";

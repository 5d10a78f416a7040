//! Tenantry: the backend of a SaaS product whose every customer organization has a PostgreSQL schema of its own.
//!
//! This is the map of the crate. A request takes this way through it:
//!
//! 1. [`http`] is the contract every endpoint has in common. Its edge checks what is asked, in one fixed order.
//! 2. [`auth`] is the gate: it finds the tenant and the user, and hands the endpoint a [`tenants::TenantDb`] and an
//!    [`auth::Caller`]. There is no other way to a tenant's rows.
//! 3. A slice answers. For the people of a tenant: [`sign_up`], [`registration`], [`auth`], [`password`], [`users`],
//!    [`account`], [`invitations`], [`tenant`], [`find`], [`activity`], [`comments`], [`notifications`]; for operators:
//!    [`operators`], [`admin`], [`purge`], [`impersonation`], [`fleet`], [`archives`], [`audit`], [`usage`]. In each, `api`
//!    knows HTTP, `service` the rules, `store` the queries; one that needs less has less. What happens too often,
//!    [`throttle`] refuses, and what is more than a tenant may do or have, [`limits`]; answers that go on are counted by
//!    [`streams`].
//! 4. [`error`] turns what went wrong below into an answer.
//!
//! What can wait is left in the outbox, in the transaction of its cause: [`jobs`] does it after the answer, and [`mail`] is
//! most of it. What takes longer than a request is done by [`operations`]; the loops of both are [`workers`]. What operators
//! and admins did is kept in [`audit`]. [`pages`] are what links in mails lead to. [`cleanup`] deletes what nobody needs any
//! more.
//!
//! Around that: [`app`] is the whole API on one page, [`server`] what runs it, [`state`] what all endpoints have at hand,
//! [`cli`] the commands, [`config`] their settings, [`backend`] the database they open with the key in [`master_key`],
//! [`embedded`] the PostgreSQL that comes along, [`clock`] the only place that reads the time, [`telemetry`] the log and the
//! traces, [`metrics`] the figures. Tables
//! are in [`entity`]; how a connection comes to a tenant is in the crate [`tenants`].

pub mod account;
pub mod activity;
pub mod admin;
pub mod app;
pub mod archives;
pub mod audit;
pub mod auth;
pub mod backend;
pub mod cleanup;
pub mod cli;
pub mod clock;
pub mod comments;
pub mod config;
pub mod embedded;
pub mod entity;
pub mod error;
pub mod find;
pub mod fleet;
pub mod http;
pub mod idempotency;
pub mod impersonation;
pub mod invitations;
pub mod jobs;
pub mod limits;
pub mod mail;
pub mod master_key;
pub mod metrics;
pub mod notifications;
pub mod operations;
pub mod operators;
pub mod pages;
pub mod password;
pub mod printable;
pub mod purge;
pub mod references;
pub mod registration;
mod search;
pub mod server;
pub mod sign_up;
pub mod state;
mod stop;
pub mod streams;
pub mod telemetry;
pub mod tenant;
pub mod throttle;
pub mod usage;
pub mod users;
pub mod workers;

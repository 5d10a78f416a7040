//! The admin API: who gets in, what operators may do with each other and with tenants, and what is kept of it.

mod access;
mod accounts;
mod archives;
mod listener;
mod logs;
mod slugs;
mod support;
mod tenants;

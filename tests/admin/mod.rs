//! The admin API: who gets in, what operators may do with each other and with tenants, and what is kept of it.

mod access;
mod accounts;
mod archives;
mod impersonation;
mod jobs;
mod listener;
mod logs;
mod migrations;
mod operations;
mod owners;
mod purge;
mod restores;
mod slugs;
mod support;
mod tenants;

//! Tenantry: the backend of a SaaS product whose every customer organization has a PostgreSQL schema of its own.

pub mod cli;
pub mod clock;
pub mod config;
pub mod printable;
pub mod telemetry;

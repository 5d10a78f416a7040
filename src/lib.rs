//! Tenantry.

pub mod embedded;

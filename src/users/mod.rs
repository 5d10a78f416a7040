//! The people of a tenant.

pub mod identity;

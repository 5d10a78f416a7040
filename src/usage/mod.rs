//! How much tenants use and have.
//!
//! What they use, each process counts in memory, at the gate and at the lanes ([`tenants::Meter`]), and writes down every
//! few seconds, and at the end: one that is killed loses no more than that. What they have is measured beside the requests,
//! soon after it was changed.

pub mod api;
mod passes;

pub use api::{DayUsageOut, TenantUsageOut, UsageApi, days_of, tenants_of};
pub use passes::{flush, forever, measure};

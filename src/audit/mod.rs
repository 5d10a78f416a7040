//! What operators did, and what a tenant's own admins did, for whoever has to answer for it.
//!
//! There are two logs: the installation's, in the catalog, and one in each tenant's schema. What an operator does to a
//! tenant stands in both, under one id; the tenant's own says that it was an operator and not which one. An entry is
//! written in the transaction of what it tells of. PostgreSQL lets neither the service nor its owner change or delete one.

pub mod api;
mod record;
mod store;

pub use api::{AuditApi, AuditOut, TenantAuditApi, entry_out};
pub(crate) use record::note_in;
pub use record::{Action, Actor, note, record, record_about, record_at, record_of_tenant};
pub use store::{About, NobodysName, last_of, latest};

//! Migrating all tenants to this program's version, by durable runs: how one is started, gone on with and looked at. The
//! same rules hold for the endpoints, for the command line and for the start of the service; how a tenant is migrated is in
//! the crate [`tenants`].

pub mod api;
mod error;
pub mod input;
mod service;
mod stream;

pub use api::{FleetApi, MigrationItemOut, MigrationRunOut};
pub use error::FleetError;
pub use service::{Migrated, Order, UnderWay, migrate, resume, retry, start, start_if_untried};
pub use stream::FleetStreamApi;

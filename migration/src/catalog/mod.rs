//! The catalog: what the installation knows of its tenants, operators, keys and jobs.

pub(crate) mod m0001_foundation;
pub(crate) mod m0002_functions;
pub(crate) mod m0003_operators;
pub(crate) mod m0004_operations;
pub(crate) mod m0005_archives;
pub(crate) mod m0006_migration_runs;
pub(crate) mod m0007_limits;
pub(crate) mod m0008_impersonations;

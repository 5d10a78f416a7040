//! The catalog: what the installation knows of its tenants, operators, keys and jobs.

pub(crate) mod m0001_foundation;
pub(crate) mod m0002_functions;
pub(crate) mod m0003_operators;
pub(crate) mod m0007_limits;

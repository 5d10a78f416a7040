//! The tables of Tenantry, and nothing else: what they hold is known to the crates above.
//!
//! There are two migrators. [`Catalog`] runs once per database, in the schema [`CATALOG_SCHEMA`]; [`Tenant`] runs
//! once per tenant, in the tenant's schema. Each keeps its own version table, [`VERSION_TABLE`], beside what it made.
//!
//! # Rules
//! A migration that has landed is never edited. A tenant migration is pure DDL or DML: it is rendered once, without a
//! database, and replayed in every schema, so it may ask nothing. Its names carry no schema, because `search_path`
//! says where it runs. So that a schema can live on a Citus worker: every table has a primary key; every constraint
//! has a name of at most 50 bytes; a constraint added later is an `ALTER TABLE` of its own; keys are `uuid` or
//! `bigint`, never identity columns; there is no trigger, no enum, domain or composite type (text with a CHECK
//! instead), no `DO` block, and no foreign key between the catalog and a tenant.

mod catalog;
mod tenant;

use sea_orm_migration::{
    MigratorTrait,
    sea_orm::{DynIden, sea_query::Alias, sea_query::IntoIden},
};

pub use sea_orm_migration;

/// The schema of the catalog. Not `public`: that one stays empty, because every role may look into it.
pub const CATALOG_SCHEMA: &str = "tenantry";

/// The table in which each migrator notes what it has applied, in the schema it works in.
pub const VERSION_TABLE: &str = "schema_migrations";

/// The migrations of the catalog.
#[derive(Debug)]
pub struct Catalog;

impl MigratorTrait for Catalog {
    fn migrations() -> Vec<Box<dyn sea_orm_migration::MigrationTrait>> {
        vec![
            Box::new(catalog::m0001_foundation::Migration),
            Box::new(catalog::m0002_functions::Migration),
            Box::new(catalog::m0003_operators::Migration),
            Box::new(catalog::m0004_operations::Migration),
            Box::new(catalog::m0005_archives::Migration),
            Box::new(catalog::m0006_migration_runs::Migration),
            Box::new(catalog::m0007_limits::Migration),
            Box::new(catalog::m0008_impersonations::Migration),
        ]
    }

    fn migration_table_name() -> DynIden {
        Alias::new(VERSION_TABLE).into_iden()
    }
}

/// The migrations of a tenant's schema. A schema's version is the number of them that it has had.
#[derive(Debug)]
pub struct Tenant;

impl MigratorTrait for Tenant {
    fn migrations() -> Vec<Box<dyn sea_orm_migration::MigrationTrait>> {
        vec![
            Box::new(tenant::m0001_foundation::Migration),
            Box::new(tenant::m0002_accounts::Migration),
            Box::new(tenant::m0003_conversations::Migration),
            Box::new(tenant::m0004_audit::Migration),
        ]
    }

    fn migration_table_name() -> DynIden {
        Alias::new(VERSION_TABLE).into_iden()
    }
}

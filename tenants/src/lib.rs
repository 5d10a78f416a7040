//! Tenants in PostgreSQL: a schema and a role each, reached over lanes of pooled connections.
//!
//! This is the only crate of the workspace that opens a connection or writes SQL by hand. What it hands out carries
//! the tenant in its type, so code above it cannot forget whose rows it reads:
//!
//! | to do this | take this |
//! | --- | --- |
//! | bring a database up to date, open it | [`Tenancy`] |
//! | find the tenant that a request names | [`Resolver`], [`TenantName`] |
//! | read or write one tenant's rows | [`TenantDb`], [`TenantTx`] |
//! | change a tenant as a whole, or look into it for an operator | [`Tenancy::act_on`], [`TenantAction`] |
//! | bring all tenants to the program's version | [`Tenancy::hold_fleet`], [`HeldFleet`], [`Run`] |
//! | make a tenant | [`Tenancy::provision`], [`Provisioning`] |
//! | write a tenant into a file, or make one from it | [`archive`] |
//! | read or write the catalog | [`CatalogDb`], [`CatalogTx`] |
//! | find the tenants of a person | [`Tenancy::tenants_with_email`] |
//! | limit what a tenant may have and do | [`Limits`], [`Plan`], [`Meter`] |
//! | know how much a tenant used and has | [`DayUsage`], [`TenantUsage`] |
//! | leave work for later, and do it | [`Outbox`], [`Tenancy::take_jobs`] |
//! | do what outlasts a request, in any process | [`Tenancy::take_operations`] |
//! | count what must not happen too often | [`record_attempt`] |
//! | know how long a list is, and where its pages begin | [`lists`] |
//! | find out what is wrong with an installation | [`doctor`] |
//! | hear what other processes change in the catalog | [`Tenancy::listen`], [`Signals`] |
//! | show somebody something live | [`Tenancy::live`], [`Live`], [`Wake`] |
//! | watch how it goes | [`Tenancy::pools`], [`Tenancy::backlog`], [`Tenancy::busiest`] |
//! | know what a database error means | [`fault`], [`Fault`] |
//!
//! That one tenant cannot read another holds three times over: by these types; by the binding, without which
//! nothing runs (`connection`) and which gives a connection the role and the path of one tenant; and by PostgreSQL, where that
//! role has no right on anything but its own schema and the login behind it inherits none.

mod action;
mod announcer;
pub mod archive;
mod backlog;
mod binding;
mod breaker;
mod busiest;
mod cleanup;
mod connection;
mod db;
pub mod doctor;
mod dropping;
mod email_index;
pub mod entity;
mod error;
mod exhaustion;
mod fleet;
mod flights;
mod install;
mod jobs;
mod keys;
mod lanes;
mod limits;
mod listener;
pub mod lists;
mod live;
mod master_key;
mod meter;
mod names;
mod operations;
mod orphans;
mod plans;
mod pool;
mod pool_figures;
mod pool_options;
mod probe;
mod provisioning;
mod purge;
mod render;
mod resolution;
mod resolver;
mod role_maker;
mod runs;
mod tenancy;
mod throttle;
mod timing;
mod touched;
mod usage;
mod wait_list;
mod wakes;

pub use action::{Reached, TenantAction, Usage, Which};
pub use backlog::{Backlog, OpenOperations, QueuedJobs, TenantsOf};
pub use binding::Pooling;
pub use busiest::{BUSIEST_WINDOW, Busy};
pub use db::{CatalogDb, CatalogTx, TenantDb, TenantTx, Wake};
pub use dropping::Dropped;
pub use error::{Error, Fault, fault};
pub use fleet::{TenantFilter, TenantSummary};
pub use install::{MigrationReport, Pending, create_database, has_login};
pub use jobs::{Job, JobStatus, JobSummary, Kinds, LeasedJob, Outbox, Outcome};
pub use keys::{DataKey, SecretKey};
pub use limits::{Limit, Limits, PlanName, PlanNameError, Rate};
pub use listener::Signals;
pub use live::{Live, Watching};
pub use master_key::is_master_key;
pub use meter::{Full, Meter, Turn, Unit};
pub use names::{InstallationId, RoleNames, SchemaName, SchemaNameError, Slug, SlugError};
pub use operations::{Ended, Measure};
pub use orphans::Orphan;
pub use plans::Plan;
pub use pool_figures::{PoolFigures, PoolReport, PoolTimings};
pub use pool_options::PoolOptions;
pub use provisioning::{NewTenant, Provisioned, Provisioning, SlugChoice};
pub use purge::{Absent, LastStep, Purged, Purging};
pub use resolution::{Status, Tenant, TenantName, served_versions};
pub use resolver::{Resolver, ResolverFigures, ResolverOptions};
pub use runs::{
    Canaries, Figures, HeldFleet, Item, ItemFilter, ItemStatus, MOST_PARALLEL, NoCanaries, NoThreshold,
    PARALLEL, Pace, Pass, Run, RunPlan, RunRefused, StopAfter,
};
pub use tenancy::{LANES, Settings, Tenancy};
pub use throttle::{Counted, ThrottleKey, attempts, forget_attempts, record_attempt, withdraw_attempt};
pub use timing::{Timing, TimingFigures};
pub use touched::TouchedFigures;
pub use usage::{DayUsage, TenantUsage, UsageOrder};
pub use wait_list::{WaitList, Waiting};

//! Operations: what can outlast a request is left in the catalog, in the transaction of what decides on it, and done by
//! whoever runs this program, a few at a time. (The people who run the installation are [`operators`](crate::operators).)
//!
//! A process may die at any point, and the operation is begun anew by another: each kind has to be safe to do again, after
//! any part of it was done. While an attempt goes on it has the operation to itself, but for the moment in which its process
//! hangs for a minute: what must not be done twice is done under a lock on the tenant's row.

pub mod api;
mod error;
mod progress;
mod runner;
mod store;
mod stream;

use serde_json::Value;
use tenants::{Fault, fault};
use uuid::Uuid;

pub use self::{
    api::{OperationOut, OperationsApi},
    error::{Failure, OperationError},
    progress::Progress,
    runner::{perform, resume, run_queued, start},
    store::{Filter, count, find, forget, list},
    stream::OperationStreamApi,
};
use crate::{archives, audit::Actor, error::ServiceError, purge, state::App};

/// An operation, as the catalog has it.
pub use tenants::entity::operations::Model as Operation;

/// What an operation does. A new one is a variant here, and an arm in each of these functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sea_orm::EnumIter)]
pub enum Kind {
    /// Drops everything that a tenant has.
    Purge,
    /// Writes a tenant into an archive.
    Export,
    /// Makes a tenant of an archive.
    Import,
    /// Makes a tenant like another.
    Clone,
    /// Puts what an archive holds in the place of a tenant.
    RestoreFrom,
}

impl Kind {
    /// Its name in the catalog.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "tenant.purge",
            Self::Export => "tenant.export",
            Self::Import => "tenant.import",
            Self::Clone => "tenant.clone",
            Self::RestoreFrom => "tenant.restore_from",
        }
    }

    /// Whether it changes its tenant as a whole: then no other such may be under way.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        match self {
            Self::Purge | Self::RestoreFrom => true,
            Self::Export | Self::Import | Self::Clone => false,
        }
    }

    /// Does it. What it gives back is shown to operators, as `result`.
    async fn run(self, app: &App, progress: &Progress, params: Value) -> Result<Value, Failure> {
        match self {
            Self::Purge => purge::run(app, progress, params).await,
            Self::Export => archives::export(app, progress, params).await,
            Self::Import => archives::import(app, progress, params).await,
            Self::Clone => archives::clone(app, progress, params).await,
            Self::RestoreFrom => archives::restore(app, progress, params).await,
        }
    }

    fn of(name: &str) -> Option<Self> {
        <Self as sea_orm::Iterable>::iter().find(|kind| kind.as_str() == name)
    }
}

/// An operation to be left.
#[derive(Clone, Debug)]
pub struct New {
    /// What is to be done.
    pub kind: Kind,
    /// With what. No secrets: operators see it.
    pub params: Value,
    /// To which tenant: its id and its slug.
    pub tenant: Option<(Uuid, String)>,
    /// Who wants it.
    pub by: Actor,
}

/// Leaves an operation in this transaction, for whoever has a hand free once that is committed.
///
/// # Errors
/// [`OperationError::InProgress`], after which the transaction is of no use any more; or those of the database.
pub async fn leave(
    app: &App,
    tx: &impl sea_orm::ConnectionTrait,
    new: New,
) -> Result<Operation, OperationError> {
    let operation = row(app, new);
    insert(tx, &operation).await?;
    app.leaves_work();
    Ok(operation)
}

/// As [`leave`], for who is going to [perform] it: nobody else takes it meanwhile.
///
/// # Errors
/// As [`leave`].
pub async fn leave_taken(
    app: &App,
    tx: &impl sea_orm::ConnectionTrait,
    new: New,
) -> Result<Operation, OperationError> {
    let mut operation = row(app, new);
    let now = operation.created_at;
    "running".clone_into(&mut operation.status);
    operation.attempts = 1;
    operation.started_at = Some(now);
    operation.leased_until = Some(now + runner::LEASE);
    insert(tx, &operation).await?;
    Ok(operation)
}

fn row(app: &App, New { kind, params, tenant, by }: New) -> Operation {
    let (tenant_id, tenant_slug) = tenant.unzip();
    let (api_key_id, api_key_name) = by.api_key.unzip();
    Operation {
        id: app.clock.uuid_v7(),
        kind: kind.as_str().to_owned(),
        tenant_id,
        tenant_slug,
        is_exclusive: kind.is_exclusive(),
        params,
        status: "queued".to_owned(),
        done: 0,
        total: None,
        result: None,
        error: None,
        operator_id: by.operator,
        actor: by.name,
        api_key_id,
        api_key_name,
        ip: by.ip.map(|ip| ip.to_string()),
        attempts: 0,
        leased_until: None,
        created_at: app.clock.now(),
        started_at: None,
        finished_at: None,
    }
}

async fn insert(tx: &impl sea_orm::ConnectionTrait, operation: &Operation) -> Result<(), OperationError> {
    store::insert(tx, operation).await.map_err(|error| match fault(&error) {
        Fault::Unique(name) if name == "operations_exclusive_key" => OperationError::InProgress,
        _ => ServiceError::from(error).into(),
    })
}

//! Where statements run.

use std::sync::Arc;

use sea_orm::{DbErr, Statement};
use sqlx::postgres::{PgQueryResult, PgRow};
use tracing::Instrument as _;

use super::transaction::{Open, Transaction};
use crate::{
    binding::{Binding, Pooling},
    error::{Fault, fault, is_loss, is_silence, query_error},
    exhaustion,
    lanes::{Lanes, Share},
    pool::{Lease, Permit, Pool},
    pool_figures::Work,
    resolution::Tenant,
    resolver::Resolver,
};

/// What traces call the database, as OpenTelemetry's conventions do. They tell that something was asked, and never what.
pub(super) const DBMS: &str = "postgresql";

/// Where statements run.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a tenant's schema, as the tenant's role, on a connection of its lane.
    Tenant { lanes: Arc<Lanes>, resolver: Resolver, tenant: Arc<Tenant> },
    /// In the catalog's schema, as the login of this pool.
    Catalog { pool: Pool, binding: Arc<Binding> },
}

/// The right to a connection, waited for. Fields are dropped in order: a tenant's share is never counted short.
#[derive(Debug)]
pub(super) struct Admission {
    permit: Permit,
    share: Option<Share>,
}

/// A bound connection.
#[derive(Debug)]
pub(super) struct Checkout {
    pub(super) lease: Lease,
    _share: Option<Share>,
}

/// What is done with a statement.
pub(super) trait Exchange: 'static {
    /// What comes of it.
    type Answer: Send + Sync + 'static;

    fn run(
        lease: &mut Lease,
        statement: &Statement,
    ) -> impl Future<Output = Result<Self::Answer, sqlx::Error>> + Send;
}

/// Executes it, and tells how many rows that changed.
pub(super) struct Execute;

impl Exchange for Execute {
    type Answer = PgQueryResult;

    async fn run(lease: &mut Lease, statement: &Statement) -> Result<PgQueryResult, sqlx::Error> {
        lease.execute(statement).await
    }
}

/// Reads all its rows.
pub(super) struct Fetch;

impl Exchange for Fetch {
    type Answer = Vec<PgRow>;

    async fn run(lease: &mut Lease, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        lease.fetch(statement).await
    }
}

/// Does this to its end, whether the caller waits for that or not. A caller may be dropped at any await, because a
/// client hung up; an exchange that is cut short costs its connection, and a new one costs far more than the end of the
/// exchange. Statements have a timeout, and whoever is at one keeps his tenant's share of the lane.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, DbErr> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => Ok(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(DbErr::Custom(error.to_string())),
        },
    }
}

impl Place {
    /// Waits for the right to a connection. Who gives up waiting leaves nothing behind.
    async fn admit(&self) -> Result<Admission, DbErr> {
        match self {
            Self::Tenant { lanes, tenant, .. } => {
                let (share, permit) = lanes.admit(tenant).await?;
                Ok(Admission { permit, share: Some(share) })
            }
            Self::Catalog { pool, .. } => Ok(Admission { permit: pool.permit().await?, share: None }),
        }
    }

    async fn checkout(&self, Admission { permit, share }: Admission) -> Result<Checkout, DbErr> {
        let lease = match self {
            Self::Tenant { lanes, tenant, .. } => lanes.checkout(tenant, permit).await?,
            Self::Catalog { pool, binding } => pool.checkout(permit, binding).await?,
        };
        Ok(Checkout { lease, _share: share })
    }

    /// One statement outside a transaction.
    pub(super) async fn run<E: Exchange>(&self, statement: Statement) -> Result<E::Answer, DbErr> {
        let work = if is_query(&statement) { "read" } else { "write" };
        let span = tracing::info_span!(target: "trace", "database", otel.kind = "client", db.system.name = DBMS, work);
        let place = self.clone();
        let result = async move {
            let admission = place.admit().await?;
            to_the_end(Box::pin(async move { place.exchange::<E>(admission, &statement).await })).await
        };
        self.noted(result.instrument(span).await.flatten())
    }

    /// A query whose connection turns out to be lost is asked again, once, on another one. A change is not, because
    /// nobody knows whether it was made; nor is what nobody answered in time, which has waited long enough.
    async fn exchange<E: Exchange>(
        &self,
        mut admission: Admission,
        statement: &Statement,
    ) -> Result<E::Answer, DbErr> {
        let mut may_ask_again = is_query(statement);
        loop {
            let mut checkout = self.checkout(admission).await?;
            checkout.lease.held_for(if is_query(statement) { Work::Read } else { Work::Write });
            let result = match checkout.lease.pooling() {
                Pooling::Session => run_bound::<E>(checkout, statement).await,
                Pooling::Transaction => self.run_in_a_transaction::<E>(checkout, statement).await?,
            };
            match &result {
                Err(error) if may_ask_again && is_loss(error) && !is_silence(error) => {
                    may_ask_again = false;
                    admission = self.admit().await?;
                }
                _ => {
                    if !is_query(statement) {
                        self.written();
                    }
                    return result.map_err(query_error);
                }
            }
        }
    }

    /// Where a connection is bound for a transaction only, a single statement has one of its own. Of a query the answer is
    /// here before that has ended, and nobody has to wait for its end.
    async fn run_in_a_transaction<E: Exchange>(
        &self,
        checkout: Checkout,
        statement: &Statement,
    ) -> Result<Result<E::Answer, sqlx::Error>, DbErr> {
        let mut open = self.begun(checkout).await?;
        let answer = match open.exchange::<E>(statement).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        if is_query(statement) {
            tokio::spawn(async move { open.commit().await }.in_current_span());
        } else {
            open.commit().await?;
        }
        Ok(Ok(answer))
    }

    /// Notes that a tenant's rows may be others now.
    pub(super) fn written(&self) {
        if let Self::Tenant { tenant, .. } = self {
            tenant.meter.written();
        }
    }

    pub(super) async fn begin(&self) -> Result<Transaction, DbErr> {
        let span = tracing::info_span!(target: "trace", "database begin", otel.kind = "client", db.system.name = DBMS);
        let place = self.clone();
        let open = async move {
            let admission = place.admit().await?;
            let begun = async move {
                let checkout = place.checkout(admission).await?;
                place.begun(checkout).await
            };
            to_the_end(Box::pin(begun)).await
        };
        let open = self.noted(open.instrument(span).await.flatten())?;
        Ok(Transaction::new(self.clone(), open))
    }

    /// Begins a transaction on this connection, or, where it has died since its last use, on another one: one that was not
    /// begun can be begun elsewhere.
    async fn begun(&self, mut checkout: Checkout) -> Result<Open, DbErr> {
        loop {
            match checkout.lease.begin().await {
                Ok(()) => return Ok(Open::new(checkout)),
                // There are only so many of them, and none is met twice.
                Err(error) if checkout.lease.was_used_before() && is_loss(&error) && !is_silence(&error) => {
                    drop(checkout);
                    checkout = self.checkout(self.admit().await?).await?;
                }
                Err(error) => return Err(query_error(error)),
            }
        }
    }

    /// The result itself; and where the database says that the tenant changed, what is cached of it is forgotten.
    pub(super) fn noted<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        let Err(error) = &result else { return result };
        exhaustion::tell(error);
        if let Self::Tenant { resolver, tenant, .. } = self
            && fault(error) == Fault::TenantChanged
        {
            tracing::info!(tenant = %tenant.id, "the database refused a tenant's role; resolving the tenant again");
            resolver.changed(tenant.id);
        }
        result
    }
}

/// A plan gone stale is made anew, once: nothing has happened yet.
async fn run_bound<E: Exchange>(
    mut checkout: Checkout,
    statement: &Statement,
) -> Result<E::Answer, sqlx::Error> {
    match E::run(&mut checkout.lease, statement).await {
        Err(error) if checkout.lease.forget_stale_plans(&error).await => {
            E::run(&mut checkout.lease, statement).await
        }
        result => result,
    }
}

/// Whether a statement only reads. What the functions of the catalog change, they change in a transaction.
fn is_query(statement: &Statement) -> bool {
    statement.sql.starts_with("SELECT ")
}

//! Lanes: the tenants are dealt over a fixed number of logins, each with a small pool of its own.
//!
//! A backend sees the schemas of one lane only, so its catalog cache stays small. A tenant gets at most half of its
//! lane's connections, so a storm of one leaves the others room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use sea_orm::{ConnAcquireErr, DbErr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::{
    PoolOptions,
    breaker::Openings,
    connection::Access,
    meter::Meter,
    pool::{Lease, Permit, Pool},
    pool_figures::{PoolFigures, PoolReport},
    resolution::Tenant,
};

/// The pools of all lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    wait: std::time::Duration,
}

#[derive(Debug)]
struct Lane {
    pool: Pool,
    shares: Arc<Shares>,
}

impl Lanes {
    pub(crate) fn new(
        accesses: impl IntoIterator<Item = Access>,
        options: &PoolOptions,
        openings: &Openings,
    ) -> Self {
        let lane = |access| Lane {
            pool: Pool::new(access, options, openings),
            shares: Arc::new(Shares::of(options.size)),
        };
        Self { lanes: accesses.into_iter().map(lane).collect(), wait: options.wait }
    }

    /// Waits for the tenant's share of its lane, and for one of the lane's connections.
    pub(crate) async fn admit(&self, tenant: &Tenant) -> Result<(Share, Permit), DbErr> {
        let lane = self.lane_of(tenant)?;
        let mut share =
            tokio::time::timeout(self.wait, Shares::acquire(&lane.shares, tenant.id, most_of(tenant)))
                .await
                .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?;
        let permit = lane.pool.permit().await?;
        share.held = Some((Arc::clone(&tenant.meter), Instant::now()));
        Ok((share, permit))
    }

    /// A connection of the tenant's lane, bound to the tenant.
    pub(crate) async fn checkout(&self, tenant: &Tenant, permit: Permit) -> Result<Lease, DbErr> {
        self.lane_of(tenant)?.pool.checkout(permit, &tenant.binding).await
    }

    fn lane_of(&self, tenant: &Tenant) -> Result<&Lane, DbErr> {
        let lane = self.lanes.get(usize::from(tenant.lane));
        lane.ok_or_else(|| DbErr::Custom(format!("there is no lane {}", tenant.lane)))
    }

    pub(crate) fn figures(&self) -> Vec<PoolFigures> {
        self.lanes.iter().map(|lane| lane.pool.figures()).collect()
    }

    pub(crate) fn reports(&self) -> impl Iterator<Item = PoolReport> {
        self.lanes.iter().enumerate().map(|(number, lane)| lane.pool.report(format!("lane_{number}")))
    }

    pub(crate) fn close(&self) {
        for lane in &self.lanes {
            lane.pool.close();
        }
    }
}

/// How many connections the tenant has a use for: none but for what is worked on at once.
fn most_of(tenant: &Tenant) -> usize {
    tenant.limits.concurrency.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX).max(1)
}

/// Who holds how many of a lane's connections. It has an entry for the tenants that hold or wait for one only.
#[derive(Debug)]
struct Shares {
    each: usize,
    tenants: Mutex<HashMap<Uuid, Connections>>,
}

/// Those of one tenant: how many it may hold, and the right to each. Another number makes another one of these; what is
/// held by then is given back to the one before.
#[derive(Clone, Debug)]
struct Connections {
    most: usize,
    free: Arc<Semaphore>,
}

impl Shares {
    fn of(pool: usize) -> Self {
        Self { each: pool.div_ceil(2), tenants: Mutex::default() }
    }

    async fn acquire(shares: &Arc<Self>, tenant: Uuid, most: usize) -> Share {
        // Made before the wait: a waiter that is dropped tidies up like one that got its turn.
        let mut share = Share { tenant, held: None, permit: None, shares: Arc::clone(shares) };
        let most = most.min(shares.each);
        let semaphore = {
            let mut tenants = shares.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            let connections = tenants.entry(tenant).or_insert_with(|| Connections::of(most));
            if connections.most != most {
                *connections = Connections::of(most);
            }
            Arc::clone(&connections.free)
        };
        // The semaphore is never closed, so this cannot fail.
        share.permit = semaphore.acquire_owned().await.ok();
        share
    }
}

impl Connections {
    fn of(most: usize) -> Self {
        Self { most, free: Arc::new(Semaphore::new(most)) }
    }
}

/// One tenant's right to hold one of its lane's connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    tenant: Uuid,
    /// Since when it holds one, and where that is counted.
    held: Option<(Arc<Meter>, Instant)>,
    permit: Option<OwnedSemaphorePermit>,
    shares: Arc<Shares>,
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some((meter, since)) = self.held.take() {
            meter.held(since.elapsed());
        }
        // Whoever holds or waits for a permit owns the semaphore too. Counted under the lock, after ours is given back:
        // the last one to go sees that nobody but the map is left.
        drop(self.permit.take());
        let mut tenants = self.shares.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.get(&self.tenant).is_some_and(|it| Arc::strong_count(&it.free) == 1) {
            tenants.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_gets_half_of_its_lane_and_leaves_nothing_behind() {
        let shares = Arc::new(Shares::of(4));
        let (busy, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = Shares::acquire(&shares, busy, 9).await;
        let second = Shares::acquire(&shares, busy, 9).await;
        let mut third = Box::pin(Shares::acquire(&shares, busy, 9));
        assert!(futures_util::poll!(&mut third).is_pending());
        let _other = Shares::acquire(&shares, other, 9).await;

        drop(first);
        let third = third.await;
        let waiter = Box::pin(Shares::acquire(&shares, busy, 9));
        drop(waiter);
        drop((second, third));
        let tenants = shares.tenants.lock().unwrap();
        assert_eq!(tenants.keys().collect::<Vec<_>>(), [&other]);
    }

    #[tokio::test]
    async fn a_tenant_gets_no_more_than_it_works_with() {
        let (shares, tenant) = (Arc::new(Shares::of(8)), Uuid::from_u128(1));
        let held = Shares::acquire(&shares, tenant, 1).await;
        let mut second = Box::pin(Shares::acquire(&shares, tenant, 1));
        assert!(futures_util::poll!(&mut second).is_pending());
        // Another limit counts from the next one on.
        let more = Shares::acquire(&shares, tenant, 2).await;
        drop((second, held, more));
        assert!(shares.tenants.lock().unwrap().is_empty());
    }
}

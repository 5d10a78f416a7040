//! How many tenants each open connection has seen: what its backend keeps of each is the ceiling of this architecture.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

/// How many are told apart for one connection: far more than it sees before it is too old, and 64 KiB.
const MOST: usize = 4_096;

/// The tenants that the open connections of a pool have been bound to. Written where a connection is bound anew, which costs
/// a round trip anyway.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    hasher: RandomState,
    /// Hashes, by the connection's number.
    connections: Mutex<HashMap<u64, HashSet<u64>>>,
}

/// How many tenants the open connections of a pool have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TouchedFigures {
    /// By the connection that has seen most.
    pub most: usize,
    /// By all connections, each counted for itself.
    pub total: usize,
}

impl Touched {
    /// Notes whom a connection was bound to.
    pub(crate) fn note(&self, connection: u64, binding: &str) {
        // Up to the role: the same tenant with another deadline is no other schema.
        let role = binding.split(';').next().unwrap_or(binding);
        let hash = self.hasher.hash_one(role);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let tenants = connections.entry(connection).or_default();
        if tenants.len() < MOST {
            tenants.insert(hash);
        }
    }

    /// Forgets a connection that is closed.
    pub(crate) fn forget(&self, connection: u64) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&connection);
    }

    pub(crate) fn figures(&self) -> TouchedFigures {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = || connections.values().map(HashSet::len);
        TouchedFigures { most: counts().max().unwrap_or(0), total: counts().sum() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_counts_once_and_until_the_connection_is_closed() {
        let touched = Touched::default();
        for (connection, binding) in [
            (1, "SET ROLE a; SET statement_timeout TO 1"),
            (1, "SET ROLE a; SET statement_timeout TO 2"),
            (1, "SET ROLE b; SET statement_timeout TO 1"),
            (2, "SET ROLE a; SET statement_timeout TO 1"),
        ] {
            touched.note(connection, binding);
        }
        assert_eq!(touched.figures(), TouchedFigures { most: 2, total: 3 });
        touched.forget(1);
        assert_eq!(touched.figures(), TouchedFigures { most: 1, total: 1 });
        for tenant in 0..2 * MOST {
            touched.note(2, &format!("SET ROLE t{tenant}"));
        }
        assert_eq!(touched.figures().most, MOST);
    }
}

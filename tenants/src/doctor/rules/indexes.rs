//! Indexes that are there and do nothing: what a `CREATE INDEX CONCURRENTLY` or `REINDEX CONCURRENTLY` leaves that failed.

use super::{FIX, Rule, must};

pub(super) const INDEXES: [Rule; 1] = [must(
    "indexes_invalid",
    "indexes are not used or not kept up, so keys may come twice",
    "SELECT c.oid::regclass || ' of ' || whose FROM place JOIN pg_class c ON relnamespace = place.oid
     JOIN pg_index ON indexrelid = c.oid WHERE NOT (indisvalid AND indisready AND indislive)",
    FIX,
)];

//! To whom schemas, tables and functions belong: whoever owns one may do everything with it, whatever is granted.

use super::{FIX, Rule, must};

/// What tenants' roles own is told with the grants.
pub(super) const OWNERS: [Rule; 4] = [
    // Whoever else owns it may have given our login what it needs.
    must(
        "database_owned",
        "somebody else owns the database, and our login may make no schemas in it",
        "SELECT datname || ': ' || rolname FROM pg_database JOIN pg_roles r ON r.oid = datdba JOIN owner ON true
         WHERE datname = current_database() AND NOT has_database_privilege(owner.oid, datname, 'CREATE')",
        FIX,
    ),
    must(
        "schemas_owned",
        "somebody else owns schemas",
        "SELECT nspname || ' of ' || whose || ': ' || rolname FROM place JOIN pg_namespace n USING (oid)
         JOIN pg_roles r ON r.oid = nspowner
         WHERE nspowner NOT IN (SELECT oid FROM owner) AND nspname <> rolname",
        FIX,
    ),
    must(
        "tables_owned",
        "somebody else owns tables, views or sequences",
        "SELECT c.oid::regclass || ' of ' || whose || ': ' || rolname FROM place
         JOIN pg_class c ON relnamespace = place.oid JOIN pg_roles r ON r.oid = relowner
         WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relowner NOT IN (SELECT oid FROM owner)
         AND relowner NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)",
        FIX,
    ),
    must(
        "functions_owned",
        "somebody else owns functions",
        "SELECT p.oid::regprocedure || ' of ' || whose || ': ' || rolname FROM place
         JOIN pg_proc p ON pronamespace = place.oid JOIN pg_roles r ON r.oid = proowner
         WHERE proowner NOT IN (SELECT oid FROM owner)
         AND proowner NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)",
        FIX,
    ),
];

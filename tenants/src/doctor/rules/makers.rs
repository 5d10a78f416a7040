//! By whom roles are made: our login, or functions that it may call and not change.

use sqlx::{PgConnection, query_scalar};

use super::{
    super::{Finding, few, unchecked},
    Rule, must, should, texts,
};
use crate::install::Installation;

const RUN: &str = "have an administrator run deploy/postgresql/roles.sql in this database";

pub(super) const MAKERS: [Rule; 6] = [
    must(
        "no_role_maker",
        "our login may make no roles, so nobody can sign up: it has no CREATEROLE, and the functions for it are not there",
        "SELECT rolname FROM pg_roles JOIN owner USING (oid) WHERE NOT rolcreaterole AND NOT rolsuper AND NOT EXISTS (
             SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
             WHERE nspname = 'tenantry_roles' AND proname = 'create_role' AND prosecdef
             AND has_schema_privilege(owner.oid, n.oid, 'USAGE') AND has_function_privilege(owner.oid, p.oid, 'EXECUTE'))",
        RUN,
    ),
    must(
        "role_maker_in_reach",
        "the functions that make roles are not out of our login's reach, so that it may make any",
        "SELECT p.oid::regprocedure || ' of ' || r.rolname FROM pg_proc p JOIN pg_roles r ON r.oid = proowner JOIN owner ON true
         JOIN pg_roles o ON o.oid = owner.oid
         WHERE pronamespace = to_regnamespace('tenantry_roles') AND NOT o.rolsuper
         AND (r.rolcanlogin OR r.rolsuper OR pg_has_role(owner.oid, r.oid, 'MEMBER'))
         UNION ALL
         SELECT 'the schema tenantry_roles: CREATE for ' || coalesce(rolname, 'PUBLIC') FROM pg_namespace n
         CROSS JOIN aclexplode(nspacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE nspname = 'tenantry_roles' AND grantee <> nspowner AND privilege_type = 'CREATE'",
        "take that role from it, then have an administrator run deploy/postgresql/roles.sql in this database",
    ),
    must(
        "role_maker_shared",
        "somebody is a member of tenantry_roles, and so may act on the roles of every installation in this cluster",
        // Since PostgreSQL 16 whoever makes a role stays its administrator, which a managed one cannot do without. Who has an
        // installation is none: its group has rights in a database of his.
        "SELECT DISTINCT w.rolname FROM pg_auth_members m JOIN pg_roles w ON w.oid = m.member
         WHERE m.roleid = (SELECT oid FROM pg_roles WHERE rolname = 'tenantry_roles')
         AND NOT w.rolsuper AND w.oid NOT IN (SELECT oid FROM owner)
         AND NOT (m.grantor = 10 AND m.admin_option AND w.rolcreaterole
             AND to_jsonb(m) @> '{\"inherit_option\": false, \"set_option\": false}'
             AND NOT EXISTS (SELECT FROM pg_database d JOIN pg_shdepend s ON s.dbid = d.oid JOIN pg_roles g ON g.oid = s.refobjid
                 WHERE d.datdba = w.oid AND s.refclassid = 'pg_authid'::regclass AND g.rolname ~ '^tenantry_[0-9a-v]{8}_tenants$'))",
        "have an administrator REVOKE tenantry_roles from them, then run deploy/postgresql/roles.sql in this database",
    ),
    must(
        "role_maker_exposed",
        "others than our login may call the functions that make roles, or mislead them by a search_path",
        "SELECT p.oid::regprocedure || ' for ' || coalesce(rolname, 'PUBLIC') FROM pg_proc p
         CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner))) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE pronamespace = to_regnamespace('tenantry_roles') AND grantee <> proowner
         AND grantee NOT IN (SELECT oid FROM owner)
         UNION ALL
         SELECT p.oid::regprocedure || ': search_path' FROM pg_proc p WHERE pronamespace = to_regnamespace('tenantry_roles')
         AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']",
        RUN,
    ),
    must(
        "role_maker_old",
        "the functions that make roles are an earlier version's, which one installation could turn against another",
        "SELECT 'tenantry_roles' WHERE to_regproc('tenantry_roles.create_role') IS NOT NULL
         AND to_regclass('tenantry_roles.made') IS NULL",
        RUN,
    ),
    should(
        "owner_makes_any_role",
        "our login need not have CREATEROLE, since the functions that make roles are there",
        "SELECT rolname FROM pg_roles JOIN owner USING (oid) WHERE rolcreaterole AND NOT rolsuper
         AND to_regnamespace('tenantry_roles') IS NOT NULL",
        "have an administrator run ALTER ROLE NAME NOCREATEROLE, then start every `tenantry serve` again",
    ),
];

/// Roles that the functions take for somebody else's: they know those they made by number, and a dump of the whole cluster
/// gives roles others.
pub(super) async fn forgotten(connection: &mut PgConnection, installation: &Installation) -> Option<Finding> {
    const HAS_TABLE: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = relowner \
         WHERE c.oid = to_regclass('tenantry_roles.made') AND relkind = 'r' AND rolname = 'tenantry_roles' \
         AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(relnamespace, 'USAGE'))";
    const FORGOTTEN: &str = "SELECT rolname FROM pg_roles r WHERE oid IN (SELECT oid FROM login \
             UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group) \
         AND NOT EXISTS (SELECT FROM ONLY tenantry_roles.made m WHERE m.role = r.rolname AND m.oid = r.oid)";
    let found = async {
        let has_table = query_scalar(HAS_TABLE).fetch_one(&mut *connection).await?;
        if has_table { texts(connection, installation, FORGOTTEN).await } else { Ok(Vec::new()) }
    };
    match found.await {
        Ok(names) if names.is_empty() => None,
        Ok(names) => {
            let found = format!("the functions that make roles do not know these as ours: {}", few(&names));
            Some(Finding::problem("role maker", "role_maker_forgot", found, RUN))
        }
        Err(error) => Some(unchecked("role maker", error)),
    }
}

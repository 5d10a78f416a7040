//! By whom roles are made: our login, or functions that it may call and not change.

use super::{Rule, must, should};

pub(super) const MAKERS: [Rule; 5] = [
    must(
        "no_role_maker",
        "our login may make no roles, so nobody can sign up: it has no CREATEROLE, and the functions for it are not there",
        "SELECT rolname FROM pg_roles JOIN owner USING (oid) WHERE NOT rolcreaterole AND NOT rolsuper AND NOT EXISTS (
             SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
             WHERE nspname = 'tenantry_roles' AND proname = 'create_role' AND prosecdef
             AND has_schema_privilege(owner.oid, n.oid, 'USAGE') AND has_function_privilege(owner.oid, p.oid, 'EXECUTE'))",
        "have an administrator run deploy/postgresql/roles.sql in this database",
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
        "role_maker_exposed",
        "others than our login may call the functions that make roles, or mislead them by a search_path",
        "SELECT p.oid::regprocedure || ' for ' || coalesce(rolname, 'PUBLIC') FROM pg_proc p
         CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner))) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE pronamespace = to_regnamespace('tenantry_roles') AND grantee <> proowner
         AND grantee NOT IN (SELECT oid FROM owner)
         UNION ALL
         SELECT p.oid::regprocedure || ': search_path' FROM pg_proc p WHERE pronamespace = to_regnamespace('tenantry_roles')
         AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']",
        "have an administrator run deploy/postgresql/roles.sql in this database",
    ),
    must(
        "role_maker_old",
        "the functions that make roles are an earlier version's, which one installation could turn against another",
        "SELECT 'tenantry_roles' WHERE to_regproc('tenantry_roles.create_role') IS NOT NULL
         AND to_regclass('tenantry_roles.made') IS NULL",
        "have an administrator run deploy/postgresql/roles.sql in this database",
    ),
    should(
        "owner_makes_any_role",
        "our login need not have CREATEROLE, since the functions that make roles are there",
        "SELECT rolname FROM pg_roles JOIN owner USING (oid) WHERE rolcreaterole AND NOT rolsuper
         AND to_regnamespace('tenantry_roles') IS NOT NULL",
        "have an administrator run ALTER ROLE NAME NOCREATEROLE, then start every `tenantry serve` again",
    ),
];

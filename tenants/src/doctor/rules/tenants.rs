//! Tenants and what is theirs: whether the one is there for the other.

use super::{FIX, MIGRATE, Rule, must, should};

pub(super) const TENANTS: [Rule; 6] = [
    must(
        "tenants_ahead",
        "tenants were migrated by a newer version of tenantry, and are not served",
        "SELECT slug FROM tenant WHERE schema_version > $5",
        "install that version",
    ),
    must(
        "tenants_not_served",
        "tenants were left further behind than this version of tenantry serves, and are answered 503",
        "SELECT slug FROM tenant WHERE schema_version < $6 AND status <> 'purging'",
        MIGRATE,
    ),
    must(
        "schema_missing",
        "tenants have no schema",
        "SELECT slug FROM tenant WHERE schema IS NULL",
        "import them from an archive, or delete and purge them: their rows are gone",
    ),
    should(
        "tenants_behind",
        "tenants are behind",
        "SELECT slug FROM tenant WHERE schema_version BETWEEN $6 AND $5 - 1 AND status <> 'purging'",
        MIGRATE,
    ),
    should(
        "schemas_without_tenant",
        "schemas belong to no tenant",
        concat!(
            "SELECT nspname FROM pg_namespace WHERE nspname ~ '^t_[0-9a-v]{26}$'
         AND nspname NOT IN (SELECT schema_name FROM tenantry.tenants)
         AND nspname NOT IN (SELECT ",
            own_schema!(),
            " FROM tenantry.tenants t)"
        ),
        "`tenantry doctor --fix` drops those without rows; `tenantry doctor --drop-orphan NAME --yes` drops one with its rows",
    ),
    should(
        "roles_without_tenant",
        "roles belong to no tenant",
        concat!(
            "SELECT member_name || coalesce((SELECT ' with rights in ' || string_agg(DISTINCT datname, ' and ')
                 FROM pg_shdepend s JOIN pg_database d ON d.oid = CASE WHEN dbid <> 0 THEN dbid
                     WHEN classid = 'pg_database'::regclass THEN objid END
                 WHERE refclassid = 'pg_authid'::regclass AND refobjid = member), '')
             FROM membership JOIN tenant_group ON oid = roleid
         WHERE member_name NOT IN (SELECT schema_name FROM tenantry.tenants)
         AND member_name NOT IN (SELECT ",
            own_schema!(),
            " FROM tenantry.tenants t)
         AND member NOT IN (SELECT oid FROM owner UNION ALL SELECT oid FROM maker
             UNION ALL SELECT oid FROM pg_roles WHERE rolsuper)"
        ),
        FIX,
    ),
];

//! What has to hold for roles, grants and schemas, as queries for what breaks it: one for any number of tenants.
//!
//! They read the catalogs of PostgreSQL as a whole and not tenant by tenant: with 600 tenants (62,000 rows of `pg_class`)
//! each takes between 3 and 110 ms.

/// The schema that follows from the id of a tenant `t`: the id in base 32, as `SchemaName::of` makes it.
macro_rules! own_schema {
    () => {
        "'t_' || (SELECT string_agg(substr('0123456789abcdefghijklmnopqrstuv', 1 + substring(
            ('x' || replace(t.id::text, '-', '') || '0')::bit(132) FROM 1 + 5 * n FOR 5)::bit(5)::integer, 1), '' ORDER BY n)
            FROM generate_series(0, 25) AS n)"
    };
}
pub(super) use own_schema;

mod code;
mod grants;
mod indexes;
mod makers;
mod overrides;
mod owners;
mod roles;
mod rows;
mod tenants;

use sqlx::{AssertSqlSafe, PgConnection};

pub(super) use self::{
    grants::{CATALOG_RIGHTS, DEFAULTS_REVOKED, GROUP_RIGHTS},
    overrides::RESETS,
};

use super::{FIX, Finding, Level, MIGRATE, few, unchecked};
use crate::{install::Installation, resolution::served_versions};

/// What every rule's query can read: `tenant`, a row a tenant with the oids of what belongs to it, null where it is
/// missing; `place`, the schemas that are ours and whose they are; `login`, the expected logins; `owner`, who is to own
/// everything: the login that asks, or who has the catalog's schema where that login is a superuser; `maker`, whose functions
/// make roles, where there are such; and `override`, what
/// is set for any of these roles or for this database beyond the server's own settings.
const GIVEN: &str = concat!("WITH tenant AS (
    SELECT t.slug, t.schema_name, t.status, t.schema_version, r.oid AS role, n.oid AS schema, l.oid AS lane
    FROM tenantry.tenants t
    LEFT JOIN pg_roles r ON r.rolname = t.schema_name
    LEFT JOIN pg_namespace n ON n.nspname = t.schema_name
    LEFT JOIN pg_roles l ON l.rolname = $1 || t.lane
    -- Whose schema and role those of the others are, their rows do not tell: nothing is said of them, and nothing done.
    WHERE t.schema_name = ", own_schema!(), "),
login AS (
    SELECT name, name <> $2 AS is_lane, r.* FROM unnest($4::text[]) AS name LEFT JOIN pg_roles r ON r.rolname = name),
tenant_group AS (SELECT oid FROM pg_roles WHERE rolname = $3),
maker AS (SELECT DISTINCT proowner AS oid FROM pg_proc WHERE pronamespace = to_regnamespace('tenantry_roles') AND prosecdef
    AND NOT EXISTS (SELECT FROM pg_roles WHERE pg_roles.oid = proowner AND rolcanlogin)),
membership AS (
    -- Since PostgreSQL 16 a membership says itself whether it inherits and whether SET ROLE may use it.
    SELECT m.roleid, m.member, r.rolname AS role_name, w.rolname AS member_name,
        coalesce((to_jsonb(m)->>'inherit_option')::boolean, w.rolinherit) AS inherits,
        coalesce((to_jsonb(m)->>'set_option')::boolean, true) AS can_set
    FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles w ON w.oid = m.member),
place AS (
    SELECT schema AS oid, slug AS whose FROM tenant WHERE schema IS NOT NULL
    UNION ALL SELECT oid, 'the catalog' FROM pg_namespace WHERE nspname = 'tenantry'),
owner AS (
    SELECT CASE WHEN rolsuper THEN (SELECT nspowner FROM pg_namespace WHERE nspname = 'tenantry') ELSE oid END AS oid
    FROM pg_roles WHERE rolname = current_user),
override AS (
    SELECT lower(split_part(entry, '=', 1)) AS name, substr(entry, strpos(entry, '=') + 1) AS value,
        CASE WHEN setrole <> 0 AND setdatabase <> 0 THEN format('ROLE %I IN DATABASE %I', r.rolname, datname)
             WHEN setrole <> 0 THEN format('ROLE %I', r.rolname)
             WHEN setdatabase <> 0 THEN format('DATABASE %I', datname) ELSE 'ROLE ALL' END AS held_by
    FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS entry
    LEFT JOIN pg_database d ON d.oid = setdatabase LEFT JOIN pg_roles r ON r.oid = setrole
    WHERE (setdatabase = 0 OR datname = current_database())
    AND (setrole = 0 OR setrole IN (
        SELECT oid FROM login UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group
        UNION ALL SELECT oid FROM owner)))
");

/// One rule. Its query gives a text for each thing that breaks it.
struct Rule {
    level: Level,
    code: &'static str,
    broken_by: &'static str,
    found: &'static str,
    advice: &'static str,
}

const fn must(
    code: &'static str,
    found: &'static str,
    broken_by: &'static str,
    advice: &'static str,
) -> Rule {
    Rule { level: Level::Problem, code, broken_by, found, advice }
}

const fn should(
    code: &'static str,
    found: &'static str,
    broken_by: &'static str,
    advice: &'static str,
) -> Rule {
    Rule { level: Level::Warning, code, broken_by, found, advice }
}

/// What is looked at together, and what is told where nothing is wrong with it.
struct Group {
    check: &'static str,
    rules: &'static [Rule],
    ok: &'static str,
}

const GROUPS: [Group; 9] = [
    // First: the other checks say nothing of these tenants.
    Group { check: "rows", rules: &rows::ROWS, ok: "every tenant's row names its own schema" },
    Group {
        check: "roles",
        rules: &roles::ROLES,
        ok: "logins, lanes and tenants' roles are as they should be",
    },
    Group { check: "role maker", rules: &makers::MAKERS, ok: "our login can make roles, or have them made" },
    Group { check: "grants", rules: &grants::GRANTS, ok: "nobody has a right on what is another's" },
    Group { check: "owners", rules: &owners::OWNERS, ok: "what is ours belongs to our login" },
    Group {
        check: "overrides",
        rules: &overrides::OVERRIDES,
        ok: "nothing is set for roles or the database that changes how the service works",
    },
    Group { check: "code", rules: &code::CODE, ok: "no code runs in the database but ours" },
    Group { check: "indexes", rules: &indexes::INDEXES, ok: "every index is kept up and used" },
    Group { check: "tenants", rules: &tenants::TENANTS, ok: "every tenant has its schema, up to date" },
];

pub(super) async fn check(
    connection: &mut PgConnection,
    installation: &Installation,
    is_ours: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Group { check, rules, ok } in GROUPS {
        let before = findings.len();
        if check == "grants" {
            findings.extend(grants::exposed(connection, is_ours).await);
        }
        if check == "role maker" {
            findings.extend(makers::forgotten(connection, installation).await);
        }
        for Rule { level, code, broken_by, found, advice } in rules {
            match texts(connection, installation, broken_by).await {
                Ok(names) if names.is_empty() => {}
                Ok(names) => findings.push(Finding {
                    level: *level,
                    check,
                    code: Some(code),
                    found: format!("{found}: {}", few(&names)),
                    advice: Some((*advice).to_owned()),
                    statements: Vec::new(),
                }),
                Err(error) => findings.push(unchecked(check, error)),
            }
        }
        if findings.len() == before {
            findings.push(Finding::ok(check, ok));
        }
    }
    findings
}

/// The texts that a query of what is [`GIVEN`] comes to.
pub(super) async fn texts(
    connection: &mut PgConnection,
    installation: &Installation,
    query: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let roles = &installation.roles;
    let logins = (0..installation.lanes).map(|lane| roles.lane(lane)).chain([roles.catalog()]);
    // `given` binds every parameter, so that a rule may use any of them.
    let sql = format!(
        "{GIVEN}, given AS (SELECT $1::text, $2::text, $3::text, $4::text[], $5::integer, $6::integer)
         SELECT * FROM ({query}) AS found (what) ORDER BY what"
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(roles.lane_prefix())
        .bind(roles.catalog())
        .bind(roles.tenants())
        .bind(logins.collect::<Vec<_>>())
        .bind(served_versions().end())
        .bind(served_versions().start())
        .fetch_all(connection)
        .await
}

#[cfg(test)]
pub(super) fn fixable() -> impl Iterator<Item = &'static str> {
    let rules = GROUPS.iter().flat_map(|group| group.rules);
    rules.filter(|rule| rule.advice.starts_with(FIX)).map(|rule| rule.code)
}

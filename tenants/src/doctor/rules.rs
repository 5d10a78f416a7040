//! What has to hold for roles, grants and schemas, as queries for what breaks it: one for any number of tenants.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Finding, Level, MIGRATE, few, unchecked};
use crate::install::{self, Installation};

/// What every rule's query can read: `tenant`, a row a tenant with the oids of what belongs to it, null where it is
/// missing; `login`, the expected logins; and `owner`, who owns the catalog, and may do everything.
const GIVEN: &str = "WITH tenant AS (
    SELECT t.slug, t.schema_name, t.status, t.schema_version, r.oid AS role, n.oid AS schema, l.oid AS lane
    FROM tenantry.tenants t
    LEFT JOIN pg_roles r ON r.rolname = t.schema_name
    LEFT JOIN pg_namespace n ON n.nspname = t.schema_name
    LEFT JOIN pg_roles l ON l.rolname = $1 || t.lane),
login AS (
    SELECT name, name <> $2 AS is_lane, r.* FROM unnest($4::text[]) AS name LEFT JOIN pg_roles r ON r.rolname = name),
tenant_group AS (SELECT oid FROM pg_roles WHERE rolname = $3),
membership AS (
    -- Since PostgreSQL 16 a membership says itself whether it inherits and whether SET ROLE may use it.
    SELECT m.roleid, m.member, r.rolname AS role_name, w.rolname AS member_name,
        coalesce((to_jsonb(m)->>'inherit_option')::boolean, w.rolinherit) AS inherits,
        coalesce((to_jsonb(m)->>'set_option')::boolean, true) AS can_set
    FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles w ON w.oid = m.member),
owner AS (SELECT relowner AS oid FROM pg_class WHERE oid = 'tenantry.tenants'::regclass)
";

/// One rule. Its query gives a text for each thing that breaks it.
struct Rule {
    level: Level,
    broken_by: &'static str,
    found: &'static str,
    advice: &'static str,
}

const fn must(found: &'static str, broken_by: &'static str, advice: &'static str) -> Rule {
    Rule { level: Level::Problem, broken_by, found, advice }
}

const fn should(found: &'static str, broken_by: &'static str, advice: &'static str) -> Rule {
    Rule { level: Level::Warning, broken_by, found, advice }
}

const ROLES: [Rule; 10] = [
    must(
        "roles are missing",
        "SELECT name FROM login WHERE oid IS NULL
         UNION ALL SELECT $3 WHERE NOT EXISTS (SELECT FROM tenant_group)
         UNION ALL SELECT schema_name || ' of ' || slug FROM tenant WHERE role IS NULL",
        "run `tenantry migrate`; a tenant's role has to be made again from the catalog",
    ),
    must(
        "roles have rights over the whole server",
        "SELECT rolname FROM pg_roles
         WHERE (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
         AND oid IN (SELECT oid FROM login UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
        "ALTER ROLE … NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS",
    ),
    must("logins cannot log in", "SELECT name FROM login WHERE NOT rolcanlogin", "ALTER ROLE … LOGIN"),
    must(
        "tenants' roles can log in",
        "SELECT rolname FROM pg_roles WHERE rolcanlogin
         AND oid IN (SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
        "ALTER ROLE … NOLOGIN",
    ),
    must(
        "lanes inherit the rights of their tenants, so an unbound connection reads all of them",
        "SELECT name FROM login WHERE is_lane AND rolinherit
         UNION SELECT member_name FROM membership JOIN login ON oid = member WHERE is_lane AND inherits",
        "ALTER ROLE … NOINHERIT; from PostgreSQL 16 on also GRANT <tenant's role> TO … WITH INHERIT FALSE",
    ),
    must(
        "tenants' roles are not granted to their lane",
        "SELECT slug FROM tenant WHERE role IS NOT NULL AND NOT EXISTS (
             SELECT FROM membership WHERE roleid = role AND member = lane AND can_set)",
        "GRANT <tenant's role> TO <its lane's login>",
    ),
    must(
        "somebody else may act as a tenant or a login",
        "SELECT member_name || ' as ' || role_name FROM membership
         WHERE (roleid IN (SELECT role FROM tenant) OR roleid IN (SELECT oid FROM login))
         AND NOT EXISTS (SELECT FROM tenant WHERE role = roleid AND lane = member)
         AND member NOT IN (SELECT oid FROM owner UNION ALL SELECT oid FROM pg_roles WHERE rolsuper)",
        "REVOKE <role> FROM <member>",
    ),
    must(
        "tenants' roles are not in the group that may leave jobs",
        "SELECT slug FROM tenant WHERE role IS NOT NULL AND NOT EXISTS (
             SELECT FROM membership JOIN tenant_group ON oid = roleid WHERE member = role AND inherits)",
        "GRANT <group> TO <tenant's role>",
    ),
    must(
        "tenants' roles are members of others",
        "SELECT member_name || ' of ' || role_name FROM membership WHERE member IN (SELECT role FROM tenant)
         AND roleid NOT IN (SELECT oid FROM tenant_group)",
        "REVOKE <role> FROM <member>",
    ),
    must(
        "logins are members of more than their tenants' roles",
        "SELECT member_name || ' of ' || role_name FROM membership WHERE member IN (SELECT oid FROM login)
         AND roleid NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)
         AND role_name !~ '^t_[0-9a-v]{26}$'",
        "REVOKE <role> FROM <member>",
    ),
];

const GRANTS: [Rule; 10] = [
    must(
        "others than the catalog's login have rights on the catalog",
        "SELECT c.relname || ': ' || privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_class c CROSS JOIN aclexplode(c.relacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE relnamespace = 'tenantry'::regnamespace AND grantee <> relowner AND rolname IS DISTINCT FROM $2
         UNION ALL
         SELECT c.relname || '.' || attname || ': ' || privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid CROSS JOIN aclexplode(attacl)
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE relnamespace = 'tenantry'::regnamespace AND grantee <> relowner AND rolname IS DISTINCT FROM $2",
        "REVOKE ALL ON tenantry.<table> FROM <role>",
    ),
    must(
        "others may look into the catalog's schema, or make something there",
        "SELECT privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_namespace n CROSS JOIN aclexplode(nspacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE nspname = 'tenantry' AND grantee <> nspowner
         AND (rolname IS NULL OR rolname NOT IN ($2, $3) OR privilege_type <> 'USAGE')",
        "REVOKE ALL ON SCHEMA tenantry FROM <role>",
    ),
    must(
        "others than tenants may call the catalog's functions",
        "SELECT p.oid::regprocedure::text || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_proc p CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner)))
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE pronamespace = 'tenantry'::regnamespace AND grantee <> proowner AND rolname IS DISTINCT FROM $3",
        "REVOKE ALL ON FUNCTION tenantry.<function> FROM <role>",
    ),
    must(
        "others have rights on a tenant's schema, or its role more than USAGE",
        "SELECT nspname || ' of ' || slug || ': ' || privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM tenant JOIN pg_namespace n ON n.oid = schema CROSS JOIN aclexplode(nspacl)
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE grantee <> nspowner AND (grantee IS DISTINCT FROM role OR privilege_type <> 'USAGE')",
        "REVOKE ALL ON SCHEMA <schema> FROM <role>",
    ),
    must(
        "others have rights on a tenant's tables",
        "SELECT schema_name || '.' || c.relname || ' of ' || slug || ': ' || privilege_type || ' for '
             || coalesce(rolname, 'PUBLIC')
         FROM tenant JOIN pg_class c ON c.relnamespace = schema CROSS JOIN aclexplode(relacl)
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE grantee <> relowner AND grantee IS DISTINCT FROM role
         UNION ALL
         SELECT schema_name || '.' || c.relname || '.' || attname || ' of ' || slug || ': ' || privilege_type || ' for '
             || coalesce(rolname, 'PUBLIC')
         FROM tenant JOIN pg_class c ON c.relnamespace = schema JOIN pg_attribute a ON attrelid = c.oid
         CROSS JOIN aclexplode(attacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE grantee <> relowner AND grantee IS DISTINCT FROM role",
        "REVOKE ALL ON <schema>.<table> FROM <role>",
    ),
    must(
        "active tenants cannot use their schema",
        "SELECT slug FROM tenant JOIN pg_namespace n ON n.oid = schema
         WHERE status = 'active' AND role IS NOT NULL AND NOT EXISTS (
             SELECT FROM aclexplode(nspacl) WHERE grantee = role AND privilege_type = 'USAGE')",
        "run `tenantry tenant suspend` and `tenantry tenant resume` for each",
    ),
    must(
        "tenants that are not active can use their schema",
        "SELECT slug FROM tenant JOIN pg_namespace n ON n.oid = schema
         WHERE status <> 'active' AND EXISTS (
             SELECT FROM aclexplode(nspacl) WHERE grantee = role AND privilege_type = 'USAGE')",
        "run `tenantry tenant suspend` again for each",
    ),
    must(
        "tenants cannot read and write all of their tables",
        "SELECT schema_name || '.' || c.relname || ' of ' || slug FROM tenant JOIN pg_class c ON c.relnamespace = schema
         WHERE c.relkind IN ('r', 'p') AND c.relname <> 'schema_migrations' AND role IS NOT NULL
         AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl)
              WHERE grantee = role AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
             < CASE c.relname WHEN 'audit' THEN 2 ELSE 4 END",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON <schema>.<table> TO <tenant's role>; on audit only SELECT and INSERT",
    ),
    must(
        "what stands in an audit log can be changed",
        "SELECT coalesce(slug, 'the catalog') || ': ' || privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_class c LEFT JOIN tenant ON schema = c.relnamespace
         CROSS JOIN aclexplode(coalesce(relacl, acldefault('r', relowner))) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE c.relname = 'audit' AND c.relkind IN ('r', 'p')
         AND (slug IS NOT NULL OR c.relnamespace = 'tenantry'::regnamespace)
         AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')",
        "REVOKE UPDATE, DELETE, TRUNCATE ON <schema>.audit FROM <role>",
    ),
    must(
        "tenants' roles own something",
        "SELECT slug || ': ' || c.relname FROM tenant JOIN pg_class c ON c.relowner = role
         UNION ALL SELECT slug || ': ' || nspname FROM tenant JOIN pg_namespace ON nspowner = role
         UNION ALL SELECT slug || ': ' || proname FROM tenant JOIN pg_proc ON proowner = role",
        "ALTER … OWNER TO the owner of the catalog",
    ),
];

const TENANTS: [Rule; 4] = [
    must(
        "tenants have no schema",
        "SELECT slug FROM tenant WHERE schema IS NULL",
        "restore them from a backup: their rows are gone",
    ),
    should(
        "tenants are behind",
        "SELECT slug FROM tenant WHERE schema_version < $5 AND status <> 'purging'",
        MIGRATE,
    ),
    should(
        "schemas belong to no tenant",
        "SELECT nspname FROM pg_namespace WHERE nspname ~ '^t_[0-9a-v]{26}$'
         AND nspname NOT IN (SELECT schema_name FROM tenant)",
        "drop them once you know where they came from: DROP SCHEMA … CASCADE",
    ),
    should(
        "roles belong to no tenant",
        "SELECT member_name FROM membership JOIN tenant_group ON oid = roleid
         WHERE member NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)
         AND member NOT IN (SELECT oid FROM owner UNION ALL SELECT oid FROM pg_roles WHERE rolsuper)",
        "drop them once you know where they came from: DROP ROLE …",
    ),
];

pub(super) async fn check(connection: &mut PgConnection, installation: &Installation) -> Vec<Finding> {
    let mut findings = Vec::new();
    let groups: [(_, &[Rule], _); 3] = [
        ("roles", &ROLES, "logins, lanes and tenants' roles are as they should be"),
        ("grants", &GRANTS, "nobody has a right on what is another's"),
        ("tenants", &TENANTS, "every tenant has its schema, up to date"),
    ];
    for (check, rules, ok) in groups {
        let before = findings.len();
        if check == "grants" {
            findings.extend(exposed(connection).await);
        }
        for rule in rules {
            match broken(connection, installation, rule).await {
                Ok(names) if names.is_empty() => {}
                Ok(names) => findings.push(Finding {
                    level: rule.level,
                    check,
                    found: format!("{}: {}", rule.found, few(&names)),
                    advice: Some(rule.advice.to_owned()),
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

/// What breaks a rule.
async fn broken(
    connection: &mut PgConnection,
    installation: &Installation,
    rule: &Rule,
) -> Result<Vec<String>, sqlx::Error> {
    let roles = &installation.roles;
    let logins = (0..installation.lanes).map(|lane| roles.lane(lane)).chain([roles.catalog()]);
    // `given` binds every parameter, so that a rule may use any of them.
    let sql = format!(
        "{GIVEN}, given AS (SELECT $1::text, $2::text, $3::text, $4::text[], $5::integer)
         SELECT * FROM ({}) AS broken (what) ORDER BY what",
        rule.broken_by
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(roles.lane_prefix())
        .bind(roles.catalog())
        .bind(roles.tenants())
        .bind(logins.collect::<Vec<_>>())
        .bind(crate::render::current_version())
        .fetch_all(connection)
        .await
}

/// What PUBLIC can do and must not.
async fn exposed(connection: &mut PgConnection) -> Option<Finding> {
    let statements = match install::exposed(connection).await {
        Ok(statements) if statements.is_empty() => return None,
        Ok(statements) => statements,
        Err(error) => return Some(unchecked("grants", error)),
    };
    let right = |statement: &String| {
        statement.trim_start_matches("REVOKE ").trim_end_matches(" FROM PUBLIC").replace("pg_catalog.", "")
    };
    let rights: Vec<String> = statements.iter().map(right).collect();
    Some(Finding::problem(
        "grants",
        format!("PUBLIC has rights with which tenants can get around: {}", few(&rights)),
        "run `tenantry migrate`: it takes them, or prints what a superuser has to run",
    ))
}

//! What has to hold for roles, grants and schemas, as queries for what breaks it: one for any number of tenants.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{FIX, Finding, Level, MIGRATE, few, unchecked};
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

/// What the catalog's login lacks of its rights on the catalog.
pub(super) const CATALOG_RIGHTS: &str = "SELECT 'tenantry.' || c.relname FROM pg_class c
    WHERE c.relnamespace = 'tenantry'::regnamespace AND c.relkind IN ('r', 'p')
    AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl) JOIN pg_roles r ON r.oid = grantee
         WHERE rolname = $2 AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
        < CASE c.relname WHEN 'audit' THEN 2 ELSE 4 END
    UNION ALL SELECT 'the schema tenantry' WHERE NOT EXISTS (
        SELECT FROM pg_namespace CROSS JOIN aclexplode(nspacl) JOIN pg_roles r ON r.oid = grantee
        WHERE nspname = 'tenantry' AND rolname = $2 AND privilege_type = 'USAGE')";

/// What tenants lack of their rights on the catalog's functions.
pub(super) const GROUP_RIGHTS: &str = "SELECT p.oid::regprocedure::text FROM pg_proc p
    WHERE pronamespace = 'tenantry'::regnamespace AND proname IN ('enqueue', 'index_email', 'rename_tenant')
    AND NOT EXISTS (SELECT FROM aclexplode(proacl) JOIN pg_roles r ON r.oid = grantee WHERE rolname = $3)
    UNION ALL SELECT 'the schema tenantry for tenants' WHERE NOT EXISTS (
        SELECT FROM pg_namespace CROSS JOIN aclexplode(nspacl) JOIN pg_roles r ON r.oid = grantee
        WHERE nspname = 'tenantry' AND rolname = $3 AND privilege_type = 'USAGE')";

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
        FIX,
    ),
    must(
        "roles have rights over the whole server",
        "SELECT rolname FROM pg_roles
         WHERE (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
         AND oid IN (SELECT oid FROM login UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
        FIX,
    ),
    must("logins cannot log in", "SELECT name FROM login WHERE NOT rolcanlogin", FIX),
    must(
        "tenants' roles can log in",
        "SELECT rolname FROM pg_roles WHERE rolcanlogin
         AND oid IN (SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
        FIX,
    ),
    must(
        "lanes inherit the rights of their tenants, so an unbound connection reads all of them",
        "SELECT name FROM login WHERE is_lane AND rolinherit
         UNION SELECT member_name FROM membership JOIN login ON oid = member WHERE is_lane AND inherits",
        FIX,
    ),
    must(
        "tenants' roles are not granted to their lane",
        "SELECT slug FROM tenant WHERE role IS NOT NULL AND NOT EXISTS (
             SELECT FROM membership WHERE roleid = role AND member = lane AND can_set)",
        FIX,
    ),
    must(
        "somebody else may act as a tenant or a login",
        "SELECT member_name || ' as ' || role_name FROM membership
         WHERE (roleid IN (SELECT role FROM tenant) OR roleid IN (SELECT oid FROM login))
         AND NOT EXISTS (SELECT FROM tenant WHERE role = roleid AND lane = member)
         AND member NOT IN (SELECT oid FROM owner UNION ALL SELECT oid FROM pg_roles WHERE rolsuper)",
        FIX,
    ),
    must(
        "tenants' roles are not in the group that may leave jobs",
        "SELECT slug FROM tenant WHERE role IS NOT NULL AND NOT EXISTS (
             SELECT FROM membership JOIN tenant_group ON oid = roleid WHERE member = role AND inherits)",
        FIX,
    ),
    must(
        "tenants' roles are members of others",
        "SELECT member_name || ' of ' || role_name FROM membership WHERE member IN (SELECT role FROM tenant)
         AND roleid NOT IN (SELECT oid FROM tenant_group)",
        FIX,
    ),
    must(
        "logins are members of more than their tenants' roles",
        "SELECT member_name || ' of ' || role_name FROM membership WHERE member IN (SELECT oid FROM login)
         AND roleid NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)
         AND role_name !~ '^t_[0-9a-v]{26}$'",
        FIX,
    ),
];

const GRANTS: [Rule; 12] = [
    must("the catalog's login lacks rights on the catalog", CATALOG_RIGHTS, FIX),
    must("tenants may not leave jobs and addresses in the catalog", GROUP_RIGHTS, FIX),
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
        FIX,
    ),
    must(
        "others may look into the catalog's schema, or make something there",
        "SELECT privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_namespace n CROSS JOIN aclexplode(nspacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE nspname = 'tenantry' AND grantee <> nspowner
         AND (rolname IS NULL OR rolname NOT IN ($2, $3) OR privilege_type <> 'USAGE')",
        FIX,
    ),
    must(
        "others than tenants may call the catalog's functions",
        "SELECT p.oid::regprocedure::text || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_proc p CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner)))
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE pronamespace = 'tenantry'::regnamespace AND grantee <> proowner AND rolname IS DISTINCT FROM $3",
        FIX,
    ),
    must(
        "others have rights on a tenant's schema, or its role more than USAGE",
        "SELECT nspname || ' of ' || slug || ': ' || privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM tenant JOIN pg_namespace n ON n.oid = schema CROSS JOIN aclexplode(nspacl)
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE grantee <> nspowner AND (grantee IS DISTINCT FROM role OR privilege_type <> 'USAGE')",
        FIX,
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
        FIX,
    ),
    must(
        "active tenants cannot use their schema",
        "SELECT slug FROM tenant JOIN pg_namespace n ON n.oid = schema
         WHERE status = 'active' AND role IS NOT NULL AND NOT EXISTS (
             SELECT FROM aclexplode(nspacl) WHERE grantee = role AND privilege_type = 'USAGE')",
        FIX,
    ),
    must(
        "tenants that are not active can use their schema",
        "SELECT slug FROM tenant JOIN pg_namespace n ON n.oid = schema
         WHERE status <> 'active' AND EXISTS (
             SELECT FROM aclexplode(nspacl) WHERE grantee = role AND privilege_type = 'USAGE')",
        FIX,
    ),
    must(
        "tenants cannot read and write all of their tables",
        "SELECT schema_name || '.' || c.relname || ' of ' || slug FROM tenant JOIN pg_class c ON c.relnamespace = schema
         WHERE c.relkind IN ('r', 'p') AND c.relname <> 'schema_migrations' AND role IS NOT NULL
         AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl)
              WHERE grantee = role AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
             < CASE c.relname WHEN 'audit' THEN 2 ELSE 4 END",
        FIX,
    ),
    must(
        "what stands in an audit log can be changed",
        "SELECT coalesce(slug, 'the catalog') || ': ' || privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_class c LEFT JOIN tenant ON schema = c.relnamespace
         CROSS JOIN aclexplode(coalesce(relacl, acldefault('r', relowner))) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE c.relname = 'audit' AND c.relkind IN ('r', 'p')
         AND (slug IS NOT NULL OR c.relnamespace = 'tenantry'::regnamespace)
         AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')",
        FIX,
    ),
    must(
        "tenants' roles own something",
        "SELECT slug || ': ' || c.relname FROM tenant JOIN pg_class c ON c.relowner = role
         UNION ALL SELECT slug || ': ' || nspname FROM tenant JOIN pg_namespace ON nspowner = role
         UNION ALL SELECT slug || ': ' || proname FROM tenant JOIN pg_proc ON proowner = role",
        FIX,
    ),
];

const TENANTS: [Rule; 5] = [
    must(
        "tenants were migrated by a newer version of tenantry, and are not served",
        "SELECT slug FROM tenant WHERE schema_version > $5",
        "install that version",
    ),
    must(
        "tenants have no schema",
        "SELECT slug FROM tenant WHERE schema IS NULL",
        "import them from an archive, or delete and purge them: their rows are gone",
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
        "`tenantry doctor --fix` drops those without rows; `tenantry doctor --drop-orphan NAME --yes` drops one with its rows",
    ),
    should(
        "roles belong to no tenant",
        "SELECT member_name FROM membership JOIN tenant_group ON oid = roleid
         WHERE member NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)
         AND member NOT IN (SELECT oid FROM owner UNION ALL SELECT oid FROM pg_roles WHERE rolsuper)",
        FIX,
    ),
];

pub(super) async fn check(
    connection: &mut PgConnection,
    installation: &Installation,
    is_ours: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let groups: [(_, &[Rule], _); 3] = [
        ("roles", &ROLES, "logins, lanes and tenants' roles are as they should be"),
        ("grants", &GRANTS, "nobody has a right on what is another's"),
        ("tenants", &TENANTS, "every tenant has its schema, up to date"),
    ];
    for (check, rules, ok) in groups {
        let before = findings.len();
        if check == "grants" {
            findings.extend(exposed(connection, is_ours).await);
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
    texts(connection, installation, rule.broken_by).await
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
        "{GIVEN}, given AS (SELECT $1::text, $2::text, $3::text, $4::text[], $5::integer)
         SELECT * FROM ({query}) AS found (what) ORDER BY what"
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

/// What PUBLIC can do and must not. Rights that only a superuser can take are no problem where there is none to be had: what
/// keeps tenants apart holds without, as long as nobody can write SQL of his own.
async fn exposed(connection: &mut PgConnection, is_ours: bool) -> Vec<Finding> {
    let found = async {
        let statements = install::exposed(connection).await?;
        let select = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
        Ok::<_, sqlx::Error>((statements, sqlx::query_scalar(select).fetch_one(&mut *connection).await?))
    };
    let (statements, is_superuser): (Vec<String>, bool) = match found.await {
        Ok(found) => found,
        Err(error) => return vec![unchecked("grants", error)],
    };
    let right = |statement: &String| {
        statement.trim_start_matches("REVOKE ").trim_end_matches(" FROM PUBLIC").replace("pg_catalog.", "")
    };
    let may = |statement: &String| is_ours || is_superuser || statement.starts_with("REVOKE TEMPORARY");
    let (ours, others): (Vec<String>, Vec<String>) = statements.into_iter().partition(may);
    let mut findings = Vec::new();
    if !ours.is_empty() {
        let rights: Vec<String> = ours.iter().map(right).collect();
        findings.push(Finding::problem(
            "grants",
            format!("PUBLIC has rights with which tenants can get around: {}", few(&rights)),
            FIX,
        ));
    }
    if !others.is_empty() {
        let rights: Vec<String> = others.iter().map(right).collect();
        findings.push(Finding::warning(
            "grants",
            format!("PUBLIC has rights that an SQL injection could use to get around, and only a superuser can take: {}", few(&rights)),
            "have a superuser run what `tenantry migrate` prints; where there is none, this stays",
        ));
    }
    findings
}

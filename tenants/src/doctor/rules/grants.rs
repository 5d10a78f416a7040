//! Who may do what with the catalog and with tenants' schemas.

use sqlx::PgConnection;

use super::super::{Finding, few, unchecked};
use super::{FIX, Rule, must};
use crate::install;

/// What the catalog's login lacks of its rights on the catalog.
pub(in super::super) const CATALOG_RIGHTS: &str = "SELECT 'tenantry.' || c.relname FROM pg_class c
    WHERE c.relnamespace = 'tenantry'::regnamespace AND c.relkind IN ('r', 'p')
    AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl) JOIN pg_roles r ON r.oid = grantee
         WHERE rolname = $2 AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
        < CASE c.relname WHEN 'audit' THEN 2 ELSE 4 END
    UNION ALL SELECT 'the schema tenantry' WHERE NOT EXISTS (
        SELECT FROM pg_namespace CROSS JOIN aclexplode(nspacl) JOIN pg_roles r ON r.oid = grantee
        WHERE nspname = 'tenantry' AND rolname = $2 AND privilege_type = 'USAGE')";

/// What tenants lack of their rights on the catalog's functions.
pub(in super::super) const GROUP_RIGHTS: &str = "SELECT p.oid::regprocedure::text FROM pg_proc p
    WHERE pronamespace = 'tenantry'::regnamespace AND proname IN ('enqueue', 'index_email', 'rename_tenant')
    AND NOT EXISTS (SELECT FROM aclexplode(proacl) JOIN pg_roles r ON r.oid = grantee WHERE rolname = $3)
    UNION ALL SELECT 'the schema tenantry for tenants' WHERE NOT EXISTS (
        SELECT FROM pg_namespace CROSS JOIN aclexplode(nspacl) JOIN pg_roles r ON r.oid = grantee
        WHERE nspname = 'tenantry' AND rolname = $3 AND privilege_type = 'USAGE')";

/// Rights that others get on what is not made yet. That everybody may call functions and use types is PostgreSQL's own way.
macro_rules! defaults {
    () => {
        " FROM pg_default_acl CROSS JOIN aclexplode(defaclacl) LEFT JOIN pg_namespace n ON n.oid = defaclnamespace
         LEFT JOIN pg_roles g ON g.oid = grantee JOIN pg_roles w ON w.oid = defaclrole
         CROSS JOIN LATERAL (SELECT CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
             WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END) AS kind (kind)
         WHERE defaclrole IN (SELECT oid FROM owner) AND grantee <> defaclrole
         AND (defaclnamespace = 0 OR defaclnamespace IN (SELECT oid FROM place))
         AND NOT (grantee = 0 AND defaclobjtype IN ('f', 'T'))"
    };
}

const DEFAULTS_FOUND: &str = concat!(
    "SELECT DISTINCT kind || coalesce(' in ' || nspname, '') || ': ' || privilege_type || ' for '
         || coalesce(g.rolname, 'PUBLIC')",
    defaults!()
);
/// The statements that take them back.
pub(in super::super) const DEFAULTS_REVOKED: &str = concat!(
    "SELECT DISTINCT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON %s FROM %s', w.rolname,
         ' IN SCHEMA ' || quote_ident(nspname), kind, coalesce(quote_ident(g.rolname), 'PUBLIC'))",
    defaults!()
);

pub(super) const GRANTS: [Rule; 13] = [
    must("catalog_rights_missing", "the catalog's login lacks rights on the catalog", CATALOG_RIGHTS, FIX),
    must("tenants_rights_missing", "tenants may not leave jobs and addresses in the catalog", GROUP_RIGHTS, FIX),
    must(
        "catalog_exposed",
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
        "catalog_schema_exposed",
        "others may look into the catalog's schema, or make something there",
        "SELECT privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_namespace n CROSS JOIN aclexplode(nspacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE nspname = 'tenantry' AND grantee <> nspowner
         AND (rolname IS NULL OR rolname NOT IN ($2, $3) OR privilege_type <> 'USAGE')",
        FIX,
    ),
    must(
        "catalog_functions_exposed",
        "others than tenants may call the catalog's functions",
        "SELECT p.oid::regprocedure::text || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM pg_proc p CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner)))
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE pronamespace = 'tenantry'::regnamespace AND grantee <> proowner AND rolname IS DISTINCT FROM $3",
        FIX,
    ),
    must(
        "schema_exposed",
        "others have rights on a tenant's schema, or its role more than USAGE",
        "SELECT nspname || ' of ' || slug || ': ' || privilege_type || ' for ' || coalesce(rolname, 'PUBLIC')
         FROM tenant JOIN pg_namespace n ON n.oid = schema CROSS JOIN aclexplode(nspacl)
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE grantee <> nspowner AND (grantee IS DISTINCT FROM role OR privilege_type <> 'USAGE')",
        FIX,
    ),
    must(
        "tables_exposed",
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
        "default_privileges",
        "what our login makes from now on, others get rights on (ALTER DEFAULT PRIVILEGES)",
        DEFAULTS_FOUND,
        FIX,
    ),
    must(
        "schema_closed",
        "active tenants cannot use their schema",
        "SELECT slug FROM tenant JOIN pg_namespace n ON n.oid = schema
         WHERE status = 'active' AND role IS NOT NULL AND NOT EXISTS (
             SELECT FROM aclexplode(nspacl) WHERE grantee = role AND privilege_type = 'USAGE')",
        FIX,
    ),
    must(
        "schema_open",
        "tenants that are not active can use their schema",
        "SELECT slug FROM tenant JOIN pg_namespace n ON n.oid = schema
         WHERE status <> 'active' AND EXISTS (
             SELECT FROM aclexplode(nspacl) WHERE grantee = role AND privilege_type = 'USAGE')",
        FIX,
    ),
    must(
        "tables_closed",
        "tenants cannot read and write all of their tables",
        "SELECT schema_name || '.' || c.relname || ' of ' || slug FROM tenant JOIN pg_class c ON c.relnamespace = schema
         WHERE c.relkind IN ('r', 'p') AND c.relname <> 'schema_migrations' AND role IS NOT NULL
         AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl)
              WHERE grantee = role AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
             < CASE c.relname WHEN 'audit' THEN 2 ELSE 4 END",
        FIX,
    ),
    must(
        "audit_open",
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
        "tenants_own",
        "tenants' roles own something",
        "SELECT slug || ': ' || c.relname FROM tenant JOIN pg_class c ON c.relowner = role
         UNION ALL SELECT slug || ': ' || nspname FROM tenant JOIN pg_namespace ON nspowner = role
         UNION ALL SELECT slug || ': ' || proname FROM tenant JOIN pg_proc ON proowner = role",
        FIX,
    ),
];

/// What PUBLIC can do and must not. Rights that only a superuser can take are no problem where there is none to be had: what
/// keeps tenants apart holds without, as long as nobody can write SQL of his own.
pub(super) async fn exposed(connection: &mut PgConnection, is_ours: bool) -> Vec<Finding> {
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
            "public_rights",
            format!("PUBLIC has rights with which tenants can get around: {}", few(&rights)),
            FIX,
        ));
    }
    if !others.is_empty() {
        let rights: Vec<String> = others.iter().map(right).collect();
        findings.push(Finding::warning(
            "grants",
            "public_rights_of_a_superuser",
            format!("PUBLIC has rights that an SQL injection could use to get around, and only a superuser can take: {}", few(&rights)),
            "have a superuser run what `tenantry migrate` prints; where there is none, this stays",
        ));
    }
    findings
}

//! The statements that put right what the rules find.

use super::super::rules::{CATALOG_RIGHTS, DEFAULTS_REVOKED, GROUP_RIGHTS, RESETS};

/// A query for statements, and the rules whose findings they put right.
pub(super) struct Mend {
    pub(super) mends: &'static [&'static str],
    pub(super) by: &'static str,
}

/// In this order: what comes later needs what came before.
pub(super) const MENDS: [Mend; 30] = [
    Mend {
        mends: &["roles_missing"],
        by: "SELECT format('CREATE ROLE %I NOLOGIN', schema_name) FROM tenant WHERE role IS NULL",
    },
    // What a login may not do by itself, another one may have given it.
    Mend {
        mends: &["powerful_roles"],
        by: "SELECT format('ALTER ROLE %I NOCREATEROLE NOCREATEDB', rolname) FROM pg_roles WHERE (rolcreaterole OR rolcreatedb)
         AND oid IN (SELECT oid FROM login UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
    },
    Mend {
        mends: &["powerful_roles"],
        by: "SELECT format('ALTER ROLE %I NOSUPERUSER NOREPLICATION NOBYPASSRLS', rolname) FROM pg_roles
         WHERE (rolsuper OR rolreplication OR rolbypassrls)
         AND oid IN (SELECT oid FROM login UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
    },
    Mend {
        mends: &["logins_closed"],
        by: "SELECT format('ALTER ROLE %I LOGIN', name) FROM login WHERE NOT rolcanlogin",
    },
    Mend {
        mends: &["tenants_log_in"],
        by: "SELECT format('ALTER ROLE %I NOLOGIN', rolname) FROM pg_roles WHERE rolcanlogin
         AND oid IN (SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
    },
    Mend {
        mends: &["lanes_inherit"],
        by: "SELECT format('ALTER ROLE %I %s', name, CASE WHEN is_lane THEN 'NOINHERIT' ELSE 'INHERIT' END) FROM login
         WHERE rolinherit = is_lane",
    },
    // From PostgreSQL 16 on, a membership keeps what its member was when it was granted.
    Mend {
        mends: &["lanes_inherit", "lane_not_granted", "tenants_impersonated", "outside_group", "tenants_in_others", "logins_in_others"],
        by: "SELECT format('REVOKE %I FROM %I', role_name, member_name) FROM membership
         WHERE (member IN (SELECT oid FROM login WHERE is_lane) AND (inherits OR NOT can_set))
         OR (roleid IN (SELECT oid FROM tenant_group) AND member IN (SELECT role FROM tenant) AND NOT inherits)
         -- Whoever else may act as a tenant or a login.
         OR ((roleid IN (SELECT role FROM tenant) OR roleid IN (SELECT oid FROM login))
             AND NOT EXISTS (SELECT FROM tenant WHERE role = roleid AND lane = member)
             AND member NOT IN (SELECT oid FROM owner UNION ALL SELECT oid FROM maker
                 UNION ALL SELECT oid FROM pg_roles WHERE rolsuper))
         OR (member IN (SELECT role FROM tenant) AND roleid NOT IN (SELECT oid FROM tenant_group))
         OR (member IN (SELECT oid FROM login) AND roleid NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)
             AND role_name !~ '^t_[0-9a-v]{26}$')",
    },
    Mend {
        mends: &["outside_group"],
        by: "SELECT format('GRANT %I TO %I', $3, schema_name) FROM tenant WHERE role IS NOT NULL AND NOT EXISTS (
             SELECT FROM membership JOIN tenant_group ON oid = roleid WHERE member = role)",
    },
    Mend {
        mends: &["lane_not_granted"],
        by: "SELECT format('GRANT %I TO %I', schema_name, l.rolname) FROM tenant JOIN pg_roles l ON l.oid = lane
         WHERE role IS NOT NULL AND NOT EXISTS (SELECT FROM membership WHERE roleid = role AND member = lane)",
    },
    Mend {
        mends: &["logins_limited"],
        by: "SELECT format('ALTER ROLE %I CONNECTION LIMIT -1 VALID UNTIL %L', name, 'infinity') FROM login
         WHERE rolconnlimit <> -1 OR rolvaliduntil < 'infinity'",
    },
    Mend { mends: &["overrides"], by: RESETS },
    Mend { mends: &["default_privileges"], by: DEFAULTS_REVOKED },
    // Without it, no schema can be made in it, and nothing compared.
    Mend {
        mends: &["database_owned"],
        by: "SELECT format('ALTER DATABASE %I OWNER TO %I', datname, r.rolname) FROM pg_database JOIN owner ON true
         JOIN pg_roles r ON r.oid = owner.oid
         WHERE datname = current_database() AND NOT has_database_privilege(owner.oid, datname, 'CREATE')",
    },
    // What tenants' roles own they may also grant.
    Mend {
        mends: &["tenants_own"],
        by: "SELECT DISTINCT format('REASSIGN OWNED BY %I TO %I', schema_name, (SELECT rolname FROM pg_roles JOIN owner USING (oid)))
         FROM tenant WHERE role IN (SELECT relowner FROM pg_class UNION ALL SELECT nspowner FROM pg_namespace
             UNION ALL SELECT proowner FROM pg_proc)",
    },
    // Before what only an owner may do.
    Mend {
        mends: &["schemas_owned"],
        by: "SELECT format('ALTER SCHEMA %I OWNER TO %I', nspname, r.rolname) FROM place JOIN pg_namespace USING (oid)
         JOIN owner ON true JOIN pg_roles r ON r.oid = owner.oid WHERE nspowner <> owner.oid",
    },
    Mend {
        mends: &["tables_owned"],
        by: "SELECT format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, r.rolname) FROM place
         JOIN pg_class c ON relnamespace = place.oid JOIN owner ON true JOIN pg_roles r ON r.oid = owner.oid
         WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relowner <> owner.oid",
    },
    Mend {
        mends: &["functions_owned"],
        by: "SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, r.rolname) FROM place
         JOIN pg_proc p ON pronamespace = place.oid JOIN owner ON true JOIN pg_roles r ON r.oid = owner.oid
         WHERE proowner <> owner.oid",
    },
    Mend {
        mends: &["row_security"],
        by: "SELECT format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', c.oid::regclass)
         FROM place JOIN pg_class c ON relnamespace = place.oid WHERE relrowsecurity OR relforcerowsecurity",
    },
    Mend {
        mends: &["references_off"],
        by: "SELECT DISTINCT format('ALTER TABLE %s ENABLE TRIGGER ALL', tgrelid::regclass) FROM place
         JOIN pg_class c ON relnamespace = place.oid JOIN pg_trigger ON tgrelid = c.oid
         WHERE tgisinternal AND tgenabled <> 'O'",
    },
    Mend {
        mends: &["indexes_invalid"],
        by: "SELECT format('REINDEX INDEX %s', c.oid::regclass) FROM place JOIN pg_class c ON relnamespace = place.oid
         JOIN pg_index ON indexrelid = c.oid WHERE NOT (indisvalid AND indisready AND indislive)",
    },
    // The catalog.
    Mend {
        mends: &["catalog_exposed"],
        by: "SELECT DISTINCT format('REVOKE ALL ON tenantry.%I FROM %s', c.relname, coalesce(quote_ident(rolname), 'PUBLIC'))
         FROM pg_class c CROSS JOIN aclexplode(c.relacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE relnamespace = 'tenantry'::regnamespace AND grantee <> relowner AND rolname IS DISTINCT FROM $2",
    },
    Mend {
        mends: &["catalog_exposed"],
        by: "SELECT DISTINCT format('REVOKE ALL (%I) ON tenantry.%I FROM %s', attname, c.relname,
             coalesce(quote_ident(rolname), 'PUBLIC'))
         FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid CROSS JOIN aclexplode(attacl)
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE relnamespace = 'tenantry'::regnamespace AND grantee <> relowner AND rolname IS DISTINCT FROM $2",
    },
    Mend {
        mends: &["catalog_schema_exposed"],
        by: "SELECT DISTINCT format('REVOKE %s ON SCHEMA tenantry FROM %s', privilege_type, coalesce(quote_ident(rolname), 'PUBLIC'))
         FROM pg_namespace n CROSS JOIN aclexplode(nspacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE nspname = 'tenantry' AND grantee <> nspowner
         AND (rolname IS NULL OR rolname NOT IN ($2, $3) OR privilege_type <> 'USAGE')",
    },
    Mend {
        mends: &["catalog_functions_exposed"],
        by: "SELECT DISTINCT format('REVOKE ALL ON FUNCTION %s FROM %s', p.oid::regprocedure, coalesce(quote_ident(rolname), 'PUBLIC'))
         FROM pg_proc p CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner)))
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE pronamespace = 'tenantry'::regnamespace AND grantee <> proowner AND rolname IS DISTINCT FROM $3",
    },
    // The tenants' schemas.
    Mend {
        mends: &["schema_exposed", "schema_open"],
        by: "SELECT DISTINCT format('REVOKE %s ON SCHEMA %I FROM %s', privilege_type, nspname, coalesce(quote_ident(rolname), 'PUBLIC'))
         FROM tenant JOIN pg_namespace n ON n.oid = schema CROSS JOIN aclexplode(nspacl)
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE grantee <> nspowner AND (grantee IS DISTINCT FROM role OR privilege_type <> 'USAGE' OR status <> 'active')",
    },
    Mend {
        mends: &["schema_closed"],
        by: "SELECT format('GRANT USAGE ON SCHEMA %I TO %I', nspname, schema_name) FROM tenant
         JOIN pg_namespace n ON n.oid = schema
         WHERE status = 'active' AND role IS NOT NULL AND NOT EXISTS (
             SELECT FROM aclexplode(nspacl) WHERE grantee = role AND privilege_type = 'USAGE')",
    },
    Mend {
        mends: &["tables_exposed"],
        by: "SELECT DISTINCT format('REVOKE ALL ON %I.%I FROM %s', schema_name, c.relname, coalesce(quote_ident(rolname), 'PUBLIC'))
         FROM tenant JOIN pg_class c ON c.relnamespace = schema CROSS JOIN aclexplode(relacl)
         LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE grantee <> relowner AND grantee IS DISTINCT FROM role
         UNION ALL
         SELECT DISTINCT format('REVOKE ALL (%I) ON %I.%I FROM %s', attname, schema_name, c.relname,
             coalesce(quote_ident(rolname), 'PUBLIC'))
         FROM tenant JOIN pg_class c ON c.relnamespace = schema JOIN pg_attribute a ON attrelid = c.oid
         CROSS JOIN aclexplode(attacl) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE grantee <> relowner AND grantee IS DISTINCT FROM role",
    },
    // One statement a tenant: after a restore, all tables of all of them are meant.
    Mend {
        mends: &["tables_closed"],
        by: "SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', string_agg(format('%I.%I', schema_name, c.relname), ', '
             ORDER BY c.relname), schema_name)
         FROM tenant JOIN pg_class c ON c.relnamespace = schema
         WHERE c.relkind IN ('r', 'p') AND c.relname NOT IN ('schema_migrations', 'audit') AND role IS NOT NULL
         AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl)
              WHERE grantee = role AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')) < 4
         GROUP BY schema_name",
    },
    Mend {
        mends: &["tables_closed"],
        by: "SELECT format('GRANT SELECT, INSERT ON %I.audit TO %I', schema_name, schema_name)
         FROM tenant JOIN pg_class c ON c.relnamespace = schema
         WHERE c.relkind IN ('r', 'p') AND c.relname = 'audit' AND role IS NOT NULL
         AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl)
              WHERE grantee = role AND privilege_type IN ('SELECT', 'INSERT')) < 2",
    },
    Mend {
        mends: &["audit_open"],
        by: "SELECT DISTINCT format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM %s', c.oid::regclass,
             coalesce(quote_ident(rolname), 'PUBLIC'))
         FROM pg_class c LEFT JOIN tenant ON schema = c.relnamespace
         CROSS JOIN aclexplode(coalesce(relacl, acldefault('r', relowner))) LEFT JOIN pg_roles r ON r.oid = grantee
         WHERE c.relname = 'audit' AND c.relkind IN ('r', 'p')
         AND (slug IS NOT NULL OR c.relnamespace = 'tenantry'::regnamespace)
         AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')",
    },
];

/// What the catalog's login and the tenants' group may not do and should: granted with the roles, by statements that grant
/// all of it.
pub(super) const WITH_THE_ROLES: [Mend; 2] = [
    Mend { mends: &["catalog_rights_missing"], by: CATALOG_RIGHTS },
    Mend { mends: &["tenants_rights_missing"], by: GROUP_RIGHTS },
];

//! Mends what follows from the catalog: roles, memberships and rights. Each statement here asks PostgreSQL for the statements
//! that put right what is wrong, and nothing else is touched; so on an installation that is as it should be, nothing is done.
//!
//! After a restore onto another cluster, roles and rights are what is missing: `pg_dump` knows of the roles by name only.

use migration::CATALOG_SCHEMA;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::rules::{CATALOG_RIGHTS, GROUP_RIGHTS, texts};
use crate::{
    Error, Settings,
    install::{self, Installation, SESSION_SETTINGS},
};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Mended {
    /// The statements that were run.
    pub done: Vec<String>,
    /// Those that PostgreSQL refused, and why.
    pub refused: Vec<Refused>,
}

/// A statement that PostgreSQL refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// The statement.
    pub statement: String,
    /// Why.
    pub reason: String,
}

/// In this order: what comes later needs what came before.
const MENDS: [&str; 20] = [
    "SELECT format('CREATE ROLE %I NOLOGIN', schema_name) FROM tenant WHERE role IS NULL",
    // What a login may not do by itself, another one may have given it.
    "SELECT format('ALTER ROLE %I NOCREATEROLE NOCREATEDB', rolname) FROM pg_roles WHERE (rolcreaterole OR rolcreatedb)
     AND oid IN (SELECT oid FROM login UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
    "SELECT format('ALTER ROLE %I NOSUPERUSER NOREPLICATION NOBYPASSRLS', rolname) FROM pg_roles
     WHERE (rolsuper OR rolreplication OR rolbypassrls)
     AND oid IN (SELECT oid FROM login UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
    "SELECT format('ALTER ROLE %I LOGIN', name) FROM login WHERE NOT rolcanlogin",
    "SELECT format('ALTER ROLE %I NOLOGIN', rolname) FROM pg_roles WHERE rolcanlogin
     AND oid IN (SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
    "SELECT format('ALTER ROLE %I %s', name, CASE WHEN is_lane THEN 'NOINHERIT' ELSE 'INHERIT' END) FROM login
     WHERE rolinherit = is_lane",
    // From PostgreSQL 16 on, a membership keeps what its member was when it was granted.
    "SELECT format('REVOKE %I FROM %I', role_name, member_name) FROM membership
     WHERE (member IN (SELECT oid FROM login WHERE is_lane) AND (inherits OR NOT can_set))
     OR (roleid IN (SELECT oid FROM tenant_group) AND member IN (SELECT role FROM tenant) AND NOT inherits)
     -- Whoever else may act as a tenant or a login.
     OR ((roleid IN (SELECT role FROM tenant) OR roleid IN (SELECT oid FROM login))
         AND NOT EXISTS (SELECT FROM tenant WHERE role = roleid AND lane = member)
         AND member NOT IN (SELECT oid FROM owner UNION ALL SELECT oid FROM pg_roles WHERE rolsuper))
     OR (member IN (SELECT role FROM tenant) AND roleid NOT IN (SELECT oid FROM tenant_group))
     OR (member IN (SELECT oid FROM login) AND roleid NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)
         AND role_name !~ '^t_[0-9a-v]{26}$')",
    "SELECT format('GRANT %I TO %I', $3, schema_name) FROM tenant WHERE role IS NOT NULL AND NOT EXISTS (
         SELECT FROM membership JOIN tenant_group ON oid = roleid WHERE member = role)",
    "SELECT format('GRANT %I TO %I', schema_name, l.rolname) FROM tenant JOIN pg_roles l ON l.oid = lane
     WHERE role IS NOT NULL AND NOT EXISTS (SELECT FROM membership WHERE roleid = role AND member = lane)",
    // What tenants' roles own they may also grant.
    "SELECT DISTINCT format('REASSIGN OWNED BY %I TO %I', schema_name, (SELECT rolname FROM pg_roles JOIN owner USING (oid)))
     FROM tenant WHERE role IN (SELECT relowner FROM pg_class UNION ALL SELECT nspowner FROM pg_namespace
         UNION ALL SELECT proowner FROM pg_proc)",
    // The catalog.
    "SELECT DISTINCT format('REVOKE ALL ON tenantry.%I FROM %s', c.relname, coalesce(quote_ident(rolname), 'PUBLIC'))
     FROM pg_class c CROSS JOIN aclexplode(c.relacl) LEFT JOIN pg_roles r ON r.oid = grantee
     WHERE relnamespace = 'tenantry'::regnamespace AND grantee <> relowner AND rolname IS DISTINCT FROM $2",
    "SELECT DISTINCT format('REVOKE ALL (%I) ON tenantry.%I FROM %s', attname, c.relname,
         coalesce(quote_ident(rolname), 'PUBLIC'))
     FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid CROSS JOIN aclexplode(attacl)
     LEFT JOIN pg_roles r ON r.oid = grantee
     WHERE relnamespace = 'tenantry'::regnamespace AND grantee <> relowner AND rolname IS DISTINCT FROM $2",
    "SELECT DISTINCT format('REVOKE %s ON SCHEMA tenantry FROM %s', privilege_type, coalesce(quote_ident(rolname), 'PUBLIC'))
     FROM pg_namespace n CROSS JOIN aclexplode(nspacl) LEFT JOIN pg_roles r ON r.oid = grantee
     WHERE nspname = 'tenantry' AND grantee <> nspowner
     AND (rolname IS NULL OR rolname NOT IN ($2, $3) OR privilege_type <> 'USAGE')",
    "SELECT DISTINCT format('REVOKE ALL ON FUNCTION %s FROM %s', p.oid::regprocedure, coalesce(quote_ident(rolname), 'PUBLIC'))
     FROM pg_proc p CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner)))
     LEFT JOIN pg_roles r ON r.oid = grantee
     WHERE pronamespace = 'tenantry'::regnamespace AND grantee <> proowner AND rolname IS DISTINCT FROM $3",
    // The tenants' schemas.
    "SELECT DISTINCT format('REVOKE %s ON SCHEMA %I FROM %s', privilege_type, nspname, coalesce(quote_ident(rolname), 'PUBLIC'))
     FROM tenant JOIN pg_namespace n ON n.oid = schema CROSS JOIN aclexplode(nspacl)
     LEFT JOIN pg_roles r ON r.oid = grantee
     WHERE grantee <> nspowner AND (grantee IS DISTINCT FROM role OR privilege_type <> 'USAGE' OR status <> 'active')",
    "SELECT format('GRANT USAGE ON SCHEMA %I TO %I', nspname, schema_name) FROM tenant
     JOIN pg_namespace n ON n.oid = schema
     WHERE status = 'active' AND role IS NOT NULL AND NOT EXISTS (
         SELECT FROM aclexplode(nspacl) WHERE grantee = role AND privilege_type = 'USAGE')",
    "SELECT DISTINCT format('REVOKE ALL ON %I.%I FROM %s', schema_name, c.relname, coalesce(quote_ident(rolname), 'PUBLIC'))
     FROM tenant JOIN pg_class c ON c.relnamespace = schema CROSS JOIN aclexplode(relacl)
     LEFT JOIN pg_roles r ON r.oid = grantee
     WHERE grantee <> relowner AND grantee IS DISTINCT FROM role
     UNION ALL
     SELECT DISTINCT format('REVOKE ALL (%I) ON %I.%I FROM %s', attname, schema_name, c.relname,
         coalesce(quote_ident(rolname), 'PUBLIC'))
     FROM tenant JOIN pg_class c ON c.relnamespace = schema JOIN pg_attribute a ON attrelid = c.oid
     CROSS JOIN aclexplode(attacl) LEFT JOIN pg_roles r ON r.oid = grantee
     WHERE grantee <> relowner AND grantee IS DISTINCT FROM role",
    // One statement a tenant: after a restore, all tables of all of them are meant.
    "SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', string_agg(format('%I.%I', schema_name, c.relname), ', '
         ORDER BY c.relname), schema_name)
     FROM tenant JOIN pg_class c ON c.relnamespace = schema
     WHERE c.relkind IN ('r', 'p') AND c.relname NOT IN ('schema_migrations', 'audit') AND role IS NOT NULL
     AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl)
          WHERE grantee = role AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')) < 4
     GROUP BY schema_name",
    "SELECT format('GRANT SELECT, INSERT ON %I.audit TO %I', schema_name, schema_name)
     FROM tenant JOIN pg_class c ON c.relnamespace = schema
     WHERE c.relkind IN ('r', 'p') AND c.relname = 'audit' AND role IS NOT NULL
     AND (SELECT count(DISTINCT privilege_type) FROM aclexplode(relacl)
          WHERE grantee = role AND privilege_type IN ('SELECT', 'INSERT')) < 2",
    "SELECT DISTINCT format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM %s', c.oid::regclass,
         coalesce(quote_ident(rolname), 'PUBLIC'))
     FROM pg_class c LEFT JOIN tenant ON schema = c.relnamespace
     CROSS JOIN aclexplode(coalesce(relacl, acldefault('r', relowner))) LEFT JOIN pg_roles r ON r.oid = grantee
     WHERE c.relname = 'audit' AND c.relkind IN ('r', 'p')
     AND (slug IS NOT NULL OR c.relnamespace = 'tenantry'::regnamespace)
     AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')",
];

/// Puts roles, memberships and rights right. One process at a time does it, and none while another one migrates.
///
/// # Errors
/// The database is not there or not set up, or the master key is another. What PostgreSQL refuses is no error: it is told.
pub async fn mend(settings: &Settings) -> Result<Mended, Error> {
    let login = install::connect_options(&settings.direct)?;
    let options = login.0.clone().options(SESSION_SETTINGS).options([("search_path", CATALOG_SCHEMA)]);
    let mut connection = PgConnection::connect_with(&options).await?;
    install::check_catalog(&install::applied(&mut connection).await?)?;
    let installation = Installation::read_catalog(&mut connection, &settings.master_key).await?;
    connection.execute("SET statement_timeout TO '15min'; SET lock_timeout TO '1min'").await?;
    connection.execute("SELECT pg_advisory_lock(hashtextextended('tenantry.catalog', 0))").await?;
    // Warnings of what a REVOKE by somebody else did not revoke: what is left is found afterwards.
    connection.execute("SET client_min_messages TO error").await?;
    let mut mended = Mended::default();
    let before = missing_grants(&mut connection, &installation).await?;
    let made = installation.create_roles(&mut connection, &login).await?;
    mended.done.extend(made.into_iter().map(|role| format!("CREATE ROLE {role}, or its password")));
    mended.done.extend(before);
    for mend in MENDS {
        for statement in texts(&mut connection, &installation, mend).await? {
            match connection.execute(AssertSqlSafe(statement.clone())).await {
                Ok(_) => mended.done.push(statement),
                Err(sqlx::Error::Database(error)) => {
                    mended.refused.push(Refused { statement, reason: error.message().to_owned() });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let exposed = install::exposed(&mut connection).await?;
    install::harden(&mut connection).await?;
    let left = install::exposed(&mut connection).await?;
    mended.done.extend(exposed.into_iter().filter(|statement| !left.contains(statement)));
    // All that was asked is answered; how the connection ends makes no difference.
    connection.close().await.ok();
    Ok(mended)
}

/// What the catalog's login and the tenants' group may not do and should: granted with the roles, by statements that grant
/// all of it.
async fn missing_grants(
    connection: &mut PgConnection,
    installation: &Installation,
) -> Result<Vec<String>, sqlx::Error> {
    let mut missing = Vec::new();
    for rule in [CATALOG_RIGHTS, GROUP_RIGHTS] {
        let named = format!("SELECT 'GRANT ON ' || what FROM ({rule}) AS missing (what)");
        missing.extend(texts(connection, installation, &named).await?);
    }
    Ok(missing)
}

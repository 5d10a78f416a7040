//! Code in the database that is not ours: it runs with the rights of whoever touches a table, or calls it. We have four
//! functions in the catalog, and nothing else.

use super::{FIX, Rule, must, should};

/// Whether a function came with an extension, which somebody installed on purpose.
macro_rules! of_no_extension {
    ($catalog:literal) => {
        concat!(
            " AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = '",
            $catalog,
            "'::regclass AND objid = f.oid AND deptype = 'e')"
        )
    };
}

/// The catalog's functions, as the migrations make them.
macro_rules! ours {
    () => {
        "unnest(ARRAY['tenantry.bound_tenant()', 'tenantry.enqueue(text, jsonb, timestamptz, text)',
            'tenantry.index_email(bytea, bytea)', 'tenantry.rename_tenant(text)']) AS ours (signature)"
    };
}

pub(super) const CODE: [Rule; 8] = [
    must(
        "triggers",
        "triggers that are not ours run with what is written",
        "SELECT tgname || ' on ' || tgrelid::regclass || ' of ' || whose FROM place
         JOIN pg_class c ON relnamespace = place.oid JOIN pg_trigger ON tgrelid = c.oid WHERE NOT tgisinternal",
        "see what they did so far, then DROP TRIGGER NAME ON TABLE",
    ),
    must(
        "rewrite_rules",
        "rules that are not ours turn statements into others",
        "SELECT rulename || ' on ' || ev_class::regclass || ' of ' || whose FROM place
         JOIN pg_class c ON relnamespace = place.oid AND relkind IN ('r', 'p') JOIN pg_rewrite ON ev_class = c.oid",
        "see what they did so far, then DROP RULE NAME ON TABLE",
    ),
    must(
        "references_off",
        "references between tables are not checked",
        "SELECT DISTINCT tgrelid::regclass || ' of ' || whose FROM place
         JOIN pg_class c ON relnamespace = place.oid JOIN pg_trigger ON tgrelid = c.oid
         WHERE tgisinternal AND tgenabled <> 'O'",
        FIX,
    ),
    must(
        "row_security",
        "row security hides rows",
        "SELECT c.oid::regclass || ' of ' || whose FROM place JOIN pg_class c ON relnamespace = place.oid
         WHERE relrowsecurity OR relforcerowsecurity",
        FIX,
    ),
    must(
        "functions",
        "functions that are not ours are in the catalog or in tenants' schemas",
        concat!(
            "SELECT f.oid::regprocedure || ' of ' || whose FROM place JOIN pg_proc f ON pronamespace = place.oid
             WHERE NOT EXISTS (SELECT FROM ",
            ours!(),
            " WHERE to_regprocedure(signature) = f.oid)",
            of_no_extension!("pg_proc")
        ),
        "see what they are for, then DROP FUNCTION NAME(ARGUMENTS)",
    ),
    must(
        "definer_functions",
        "tenants may call functions that run with the rights of others (SECURITY DEFINER)",
        concat!(
            "SELECT f.oid::regprocedure || ' of ' || rolname FROM pg_proc f
             JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_roles r ON r.oid = proowner
             WHERE prosecdef AND nspname NOT IN ('pg_catalog', 'information_schema') AND n.oid NOT IN (SELECT oid FROM place)
             AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0
                 OR grantee IN (SELECT oid FROM tenant_group UNION ALL SELECT role FROM tenant))
             AND EXISTS (SELECT FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner))) WHERE grantee = 0
                 OR grantee IN (SELECT oid FROM tenant_group UNION ALL SELECT role FROM tenant))",
            of_no_extension!("pg_proc")
        ),
        "REVOKE EXECUTE ON FUNCTION NAME(ARGUMENTS) FROM PUBLIC, or drop them",
    ),
    should(
        "functions_in_public",
        "functions that are not ours are in public, where everybody finds them",
        concat!(
            "SELECT f.oid::regprocedure::text FROM pg_proc f
             WHERE pronamespace = to_regnamespace('public') AND NOT prosecdef",
            of_no_extension!("pg_proc")
        ),
        "give what else is in this database a schema of its own, or drop them",
    ),
    should(
        "event_triggers",
        "event triggers run with migrations, and with what makes and purges tenants",
        concat!("SELECT evtname FROM pg_event_trigger f WHERE true", of_no_extension!("pg_event_trigger")),
        "see that they leave this database alone, or have a superuser run DROP EVENT TRIGGER NAME",
    ),
];

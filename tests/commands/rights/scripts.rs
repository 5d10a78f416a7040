//! What the scripts take for their own, and what they refuse.

use super::{
    OWNERS, Site, all_is_well,
    attacks::{LANE, VERIFIER},
    refusal, refused, refused_to, run, set_up, text_of,
};
use crate::support::{assert_quiet, psql, psql_with, superuser_of};

#[tokio::test]
async fn what_somebody_else_made_under_their_names_is_taken_by_no_script() {
    let Site { cluster, mut superuser, place, .. } = set_up().await;
    place.run("migrate").ok();
    let url = cluster.superuser_url("tenantry");
    run(&mut superuser, "CREATE ROLE legacy LOGIN CREATEROLE").await;
    run(&mut superuser, "CREATE DATABASE legacys OWNER legacy").await;

    // A view in the place of the table: who looks into it runs the owner's code.
    let legacys = cluster.superuser_url("legacys");
    let mut other = superuser_of(&legacys).await;
    run(&mut other, "SET SESSION AUTHORIZATION legacy; CREATE SCHEMA tenantry_roles").await;
    run(
        &mut other,
        "CREATE VIEW tenantry_roles.made AS SELECT oid, rolname::text AS role FROM pg_catalog.pg_roles;
         RESET SESSION AUTHORIZATION",
    )
    .await;
    for script in ["pgbouncer.sql", "roles.sql"] {
        refused(&legacys, &[], script, "the pooler's", "whose schema it is").await;
    }
    assert_eq!(text_of(&mut other, "SELECT to_regproc('pgbouncer.verifier')::text").await, None);

    let function = "CREATE FUNCTION public.boo(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION public.boo() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'";
    run(&mut superuser, function).await;
    let made = |what: &str| format!("ALTER TABLE tenantry_roles.made {what}");
    for (deed, undo, why) in [
        ("GRANT tenantry_roles TO legacy".into(), "REVOKE tenantry_roles FROM legacy".into(), "legacy: a member"),
        (
            "ALTER ROLE tenantry_roles CREATEDB".to_owned(),
            "ALTER ROLE tenantry_roles NOCREATEDB".to_owned(),
            "script made: the role",
        ),
        ("ALTER ROLE tenantry_roles LOGIN".into(), "ALTER ROLE tenantry_roles NOLOGIN".into(), "script made: the role"),
        (made("ADD CONSTRAINT c CHECK (public.boo(role)) NOT VALID"), made("DROP CONSTRAINT c"), "constraint c"),
        (made("ALTER role SET DEFAULT 'x'"), made("ALTER role DROP DEFAULT"), "default of made.role"),
        (made("ADD more text"), made("DROP more"), "column made.more"),
        (made("ENABLE ROW LEVEL SECURITY"), made("DISABLE ROW LEVEL SECURITY"), "relation made"),
        (
            "CREATE POLICY p ON tenantry_roles.made".into(),
            "DROP POLICY p ON tenantry_roles.made".into(),
            "policy p",
        ),
        (
            "CREATE INDEX i ON tenantry_roles.made (public.boo(role))".into(),
            "DROP INDEX tenantry_roles.i".into(),
            "relation i",
        ),
        (
            made("DROP CONSTRAINT made_pkey; CREATE INDEX made_pkey ON tenantry_roles.made (public.boo(role))"),
            format!("DROP INDEX tenantry_roles.made_pkey; {}", made("ADD PRIMARY KEY (role)")),
            "index tenantry_roles.made_pkey",
        ),
        (
            "CREATE TRIGGER t BEFORE INSERT ON tenantry_roles.made FOR EACH ROW EXECUTE FUNCTION public.boo()".into(),
            "DROP TRIGGER t ON tenantry_roles.made".into(),
            "trigger t",
        ),
        (
            "CREATE RULE r AS ON INSERT TO tenantry_roles.made DO ALSO SELECT public.boo('x')".into(),
            "DROP RULE r ON tenantry_roles.made".into(),
            "rule r",
        ),
        (
            "CREATE TABLE public.more () INHERITS (tenantry_roles.made)".into(),
            "DROP TABLE public.more".into(),
            "what inherits made",
        ),
        (
            "CREATE FUNCTION tenantry_roles.kind(name) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
             ALTER FUNCTION tenantry_roles.kind(name) OWNER TO tenantry_roles"
                .into(),
            "DROP FUNCTION tenantry_roles.kind(name)".into(),
            "function tenantry_roles.kind(name)",
        ),
        (
            "CREATE TYPE tenantry_roles.t AS ENUM ()".into(),
            "DROP TYPE tenantry_roles.t".into(),
            "type t",
        ),
    ] {
        run(&mut superuser, deed).await;
        for script in ["roles.sql", "pgbouncer.sql"] {
            refused(&url, &[], script, "the pooler's", why).await;
        }
        run(&mut superuser, undo).await;
    }
    // Whom the superuser names is the administrator.
    run(&mut superuser, "DROP FUNCTION public.boo(), public.boo(text); GRANT tenantry_roles TO admin").await;
    for script in ["roles.sql", "pgbouncer.sql"] {
        let output = psql_with(&url, &url, &["--set=administrator=admin"], script, "the pooler's").await;
        assert_quiet(&output, script);
    }
    run(&mut superuser, "REVOKE tenantry_roles FROM admin").await;
    run(&mut superuser, "DROP DATABASE legacys WITH (FORCE)").await;
    run(&mut superuser, "DROP ROLE legacy").await;
    psql(&url, &url, "roles.sql", "").await;
    all_is_well(&place);
}

#[tokio::test]
async fn who_owned_the_database_before_has_no_right_on_the_functions() {
    let Site { cluster, mut superuser, place, .. } = set_up().await;
    place.run("migrate").ok();
    let url = cluster.superuser_url("tenantry");
    run(&mut superuser, "CREATE ROLE another LOGIN; ALTER DATABASE tenantry OWNER TO another").await;
    run(
        &mut superuser,
        "GRANT SELECT (role) ON tenantry_roles.made TO PUBLIC; GRANT INSERT ON tenantry_roles.made TO another;
         GRANT CREATE ON SCHEMA tenantry_roles TO another; GRANT EXECUTE ON FUNCTION tenantry_roles.kind(text) TO another",
    )
    .await;
    let rights = "SELECT string_agg(DISTINCT coalesce(rolname, 'PUBLIC') || ':' || privilege_type, ' ' ORDER BY
             coalesce(rolname, 'PUBLIC') || ':' || privilege_type) FROM (
         SELECT proowner AS owner, x.* FROM pg_proc CROSS JOIN aclexplode(proacl) x
         WHERE pronamespace = 'tenantry_roles'::regnamespace
         UNION ALL SELECT relowner, x.* FROM pg_class CROSS JOIN aclexplode(relacl) x
         WHERE relnamespace = 'tenantry_roles'::regnamespace
         UNION ALL SELECT relowner, x.* FROM pg_class c JOIN pg_attribute ON attrelid = c.oid CROSS JOIN aclexplode(attacl) x
         WHERE relnamespace = 'tenantry_roles'::regnamespace
         UNION ALL SELECT nspowner, x.* FROM pg_namespace CROSS JOIN aclexplode(nspacl) x WHERE nspname = 'tenantry_roles')
         AS given LEFT JOIN pg_roles r ON r.oid = grantee WHERE grantee <> owner";
    for owner in ["another", "tenantry_owner"] {
        run(&mut superuser, format!("ALTER DATABASE tenantry OWNER TO {owner}")).await;
        psql(&url, &url, "roles.sql", "").await;
        let expected = format!("{owner}:EXECUTE {owner}:SELECT {owner}:USAGE");
        assert_eq!(text_of(&mut superuser, rights).await, Some(expected));
    }
    all_is_well(&place);
}

#[tokio::test]
async fn a_pooler_is_told_nothing_of_names_that_are_not_served() {
    let Site { cluster, mut superuser, place: _place, .. } = set_up().await;
    let url = cluster.superuser_url("tenantry");
    psql(&url, &url, "pgbouncer.sql", "the pooler's").await;
    let rows = "SELECT count(*)::text FROM pgbouncer.verifier('nobody')";
    assert_eq!(text_of(&mut superuser, rows).await.as_deref(), Some("0"), "no row of nulls");

    // Where the owner makes the roles, only the names tell and who may connect.
    run(&mut superuser, "CREATE DATABASE legacys").await;
    let legacys = cluster.superuser_url("legacys");
    let stranger = "tenantry_bbbbbbbb_lane_0";
    for role in [LANE, stranger] {
        run(&mut superuser, format!("CREATE ROLE {role} LOGIN PASSWORD '{VERIFIER}'")).await;
    }
    run(
        &mut superuser,
        format!(
            "REVOKE CONNECT ON DATABASE legacys FROM PUBLIC; GRANT CONNECT ON DATABASE legacys TO {LANE}"
        ),
    )
    .await;
    psql(&legacys, &legacys, "pgbouncer.sql", "the pooler's").await;
    let mut other = superuser_of(&legacys).await;
    for (role, expected) in [(LANE, Some(VERIFIER)), (stranger, None)] {
        let verifier = format!("SELECT verifier FROM pgbouncer.verifier('{role}')");
        assert_eq!(text_of(&mut other, &verifier).await.as_deref(), expected, "{role}");
    }
    run(&mut superuser, "ALTER ROLE pgbouncer PASSWORD NULL").await;
    refused(&legacys, &[], "pgbouncer.sql", "", "the password is empty").await;
    psql(&legacys, &legacys, "pgbouncer.sql", "the pooler's").await;
}

#[tokio::test]
async fn setup_goes_on_where_it_stopped_and_takes_nothing_of_others() {
    let Site { cluster, mut superuser, place: _place, .. } = set_up().await;
    let url = cluster.superuser_url("postgres");
    let admin = cluster.url("admin", &"admins".into(), "postgres");
    let names = ["--set=owner=second", "--set=database=seconds"];
    // Stopped at each step, by each kind of failure.
    run(&mut superuser, "ALTER ROLE admin NOCREATEDB").await;
    refused_to(&url, &admin, &names, "setup.sql", OWNERS, "permission denied to create database").await;
    let members =
        "SELECT string_agg(roleid::regrole::text, ' ') FROM pg_auth_members WHERE member = 'admin'::regrole";
    assert_eq!(text_of(&mut superuser, members).await, None, "no membership stays");
    run(&mut superuser, "ALTER ROLE admin CREATEDB").await;
    refused_to(&url, &admin, &names, "setup.sql", "one\nanother", "didn't match").await;
    assert_eq!(text_of(&mut superuser, members).await, None, "no membership stays");
    refused(&url, &names, "setup.sql", "", "the password is empty").await;
    for again in [&admin, &url] {
        assert_quiet(&psql_with(&url, again, &names, "setup.sql", OWNERS).await, "setup.sql");
    }
    let mut owner = superuser_of(&cluster.url("second", &OWNERS.into(), "seconds")).await;
    assert_eq!(
        refusal(&mut owner, "SELECT tenantry_roles.create_role('tenantry_cccccccc_tenants')").await,
        None
    );

    let another_owner = "a role of the owner's name is there";
    let another_database = "a database of this name is there";
    for (deed, names, why) in [
        ("CREATE ROLE a LOGIN CREATEDB", ["--set=owner=a", "--set=database=a"], another_owner),
        (
            "CREATE ROLE b LOGIN; CREATE ROLE bs LOGIN IN ROLE b",
            ["--set=owner=b", "--set=database=b"],
            another_owner,
        ),
        ("CREATE ROLE c LOGIN IN ROLE admin", ["--set=owner=c", "--set=database=c"], another_owner),
        ("SELECT 1", ["--set=owner=d", "--set=database=postgres"], another_database),
        ("SELECT 1", ["--set=owner=d", "--set=database=seconds"], another_database),
    ] {
        run(&mut superuser, deed).await;
        refused_to(&url, &admin, &names, "setup.sql", OWNERS, why).await;
    }
    let made = "SELECT count(*)::text FROM pg_roles WHERE rolname = 'd'";
    assert_eq!(text_of(&mut superuser, made).await.as_deref(), Some("0"), "nothing was made");
}

//! What the owner of one installation tries, who prepares its database for the next administrator, or goes for another
//! installation of the same cluster.

use std::fs;

use sqlx::PgConnection;

use super::{OWNERS, Site, all_is_well, refusal, refused, run, set_up, text_of};
use crate::support::{assert_quiet, psql, psql_with, superuser_of};

const GROUP: &str = "tenantry_aaaaaaaa_tenants";
pub(super) const LANE: &str = "tenantry_aaaaaaaa_lane_0";
const OTHER_GROUP: &str = "tenantry_bbbbbbbb_tenants";
const OTHER_LANE: &str = "tenantry_bbbbbbbb_lane_0";
const OTHER_TENANT: &str = "t_bbbbbbbbbbbbbbbbbbbbbbbbbb";
pub(super) const VERIFIER: &str = "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

async fn call(connection: &mut PgConnection, function: &str, arguments: &[&str]) {
    run(connection, format!("SELECT tenantry_roles.{function}('{}')", arguments.join("', '"))).await;
}

#[tokio::test]
async fn nothing_of_the_owners_runs_as_who_runs_the_scripts() {
    let Site { cluster, mut superuser, place, owner } = set_up().await;
    place.run("migrate").ok();
    let superuser_url = cluster.superuser_url("tenantry");
    let mut attacker = superuser_of(&owner).await;
    run(
        &mut attacker,
        "CREATE TABLE public.caught (who text); GRANT ALL ON public.caught TO PUBLIC;
         CREATE FUNCTION public.evil(text) RETURNS text VOLATILE LANGUAGE sql AS
             $$ INSERT INTO public.caught VALUES (current_user); SELECT $1 $$",
    )
    .await;
    // They fit better than the one of PostgreSQL, which takes anything.
    for kind in ["name", "text", "regprocedure", "regclass"] {
        let body = "$$ SELECT public.evil(pg_catalog.format($1, $2)) $$";
        run(
            &mut attacker,
            format!(
                "CREATE FUNCTION public.format(text, {kind}) RETURNS text VOLATILE LANGUAGE sql AS {body}"
            ),
        )
        .await;
    }
    // Nor is what a view does instead of the table.
    run(
        &mut attacker,
        "ALTER TABLE tenantry.installation RENAME TO was;
         CREATE VIEW tenantry.installation AS SELECT public.evil(id) AS id FROM tenantry.was;
         GRANT USAGE ON SCHEMA tenantry TO PUBLIC; GRANT SELECT ON tenantry.installation TO PUBLIC",
    )
    .await;
    // As if the functions had never been there: then it is to be found out whose database this is.
    run(&mut superuser, "TRUNCATE tenantry_roles.installation, tenantry_roles.made").await;
    run(&mut superuser, "GRANT USAGE ON LANGUAGE plpgsql TO admin").await;
    for script in ["harden.sql", "roles.sql", "pgbouncer.sql", "roles.sql"] {
        psql(&superuser_url, &superuser_url, script, "the pooler's").await;
    }
    let admin = cluster.url("admin", &"admins".into(), "tenantry");
    psql(&superuser_url, &admin, "roles.sql", "").await;
    assert_eq!(text_of(&mut superuser, "SELECT who FROM public.caught").await, None, "the owner's code ran");
    run(&mut attacker, "DROP VIEW tenantry.installation; ALTER TABLE tenantry.was RENAME TO installation")
        .await;
    run(&mut attacker, "DROP TABLE public.caught CASCADE; DROP FUNCTION public.evil(text) CASCADE").await;
    run(&mut attacker, "REVOKE USAGE ON SCHEMA tenantry FROM PUBLIC").await;
    for kind in ["name", "text", "regprocedure", "regclass"] {
        run(&mut attacker, format!("DROP FUNCTION public.format(text, {kind})")).await;
    }
    all_is_well(&place);

    // A schema that waits for the script, with a function that it would give to who makes roles.
    run(&mut superuser, "DROP SCHEMA pgbouncer CASCADE; DROP SCHEMA tenantry_roles CASCADE").await;
    run(&mut attacker, "CREATE SCHEMA tenantry_roles; CREATE SCHEMA pgbouncer").await;
    run(
        &mut attacker,
        "CREATE FUNCTION tenantry_roles.any() RETURNS void LANGUAGE sql SECURITY DEFINER AS ''",
    )
    .await;
    for script in ["roles.sql", "pgbouncer.sql"] {
        let output = psql_with(&superuser_url, &superuser_url, &[], script, "").await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && (said.contains("is not what") || said.contains("somebody else's")),
            "{said}"
        );
    }
    let of = "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'any' AND prosecdef";
    assert_eq!(text_of(&mut superuser, of).await.as_deref(), Some("tenantry_owner"));
}

/// Another installation in the same cluster. Returns its owner's and the superuser's connection to its database.
pub(super) async fn another(site: &Site) -> (PgConnection, PgConnection) {
    let superuser = site.cluster.superuser_url("postgres");
    let admin = site.cluster.url("admin", &"admins".into(), "postgres");
    let names = ["--set=owner=other_owner", "--set=database=other"];
    let output = psql_with(&superuser, &admin, &names, "setup.sql", "others").await;
    assert_quiet(&output, "setup.sql for a second installation");
    let superuser = site.cluster.superuser_url("other");
    psql(&superuser, &superuser, "harden.sql", "").await;
    let mut owner = superuser_of(&site.cluster.url("other_owner", &"others".into(), "other")).await;
    for role in [OTHER_GROUP, OTHER_LANE] {
        call(&mut owner, "create_role", &[role]).await;
    }
    call(&mut owner, "set_login", &[OTHER_LANE, VERIFIER]).await;
    run(&mut owner, format!("GRANT USAGE ON SCHEMA public TO {OTHER_GROUP}")).await;
    (owner, superuser_of(&superuser).await)
}

#[tokio::test]
async fn no_installation_reaches_the_roles_of_another() {
    let mut site = set_up().await;
    let (mut other, mut other_superuser) = another(&site).await;
    let mut attacker = superuser_of(&site.owner).await;
    for role in [GROUP, LANE] {
        call(&mut attacker, "create_role", &[role]).await;
    }
    call(&mut attacker, "set_login", &[LANE, VERIFIER]).await;

    // A snapshot from before the other's tenant.
    run(&mut attacker, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    call(&mut other, "create_role", &[OTHER_TENANT]).await;
    let lone = "t_b000000000000000000000000b";
    call(&mut other, "create_role", &[lone]).await;
    call(&mut other, "grant_role", &[OTHER_GROUP, OTHER_TENANT]).await;
    call(&mut other, "grant_role", &[OTHER_TENANT, OTHER_LANE]).await;
    run(&mut other, format!("GRANT USAGE ON SCHEMA public TO {OTHER_TENANT}")).await;
    let attempts = [
        format!("revoke_role('{OTHER_GROUP}', '{OTHER_TENANT}')"),
        format!("grant_role('{GROUP}', '{OTHER_TENANT}')"),
        format!("grant_role('{OTHER_TENANT}', '{LANE}')"),
        format!("alter_role('{OTHER_TENANT}', 'NOLOGIN')"),
        format!("drop_role('{OTHER_TENANT}')"),
        // One that its own installation has not put into its group yet.
        format!("grant_role('{GROUP}', '{lone}')"),
        format!("drop_role('{lone}')"),
        format!("set_login('{OTHER_LANE}', '{VERIFIER}')"),
    ];
    for level in ["REPEATABLE READ", "READ COMMITTED"] {
        for attempt in &attempts {
            run(&mut attacker, "SAVEPOINT before").await;
            let code = refusal(&mut attacker, &format!("SELECT tenantry_roles.{attempt}")).await;
            assert_eq!(code.as_deref(), Some("42501"), "{level}: {attempt}");
            run(&mut attacker, "ROLLBACK TO before").await;
        }
        run(&mut attacker, "COMMIT; BEGIN").await;
    }
    run(&mut attacker, "COMMIT").await;
    // Whatever it is about.
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let sql = format!("SELECT tenantry_roles.alter_role('{LANE}', 'LOGIN')");
        assert_eq!(refusal(&mut attacker, &sql).await, None);
        run(&mut attacker, format!("BEGIN ISOLATION LEVEL {level}")).await;
        assert_eq!(refusal(&mut attacker, &sql).await.as_deref(), Some("42501"), "{level}");
        run(&mut attacker, "ROLLBACK").await;
    }
    // A name that somebody else has made anew is another role.
    let own = "t_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    call(&mut attacker, "create_role", &[own]).await;
    run(&mut site.superuser, format!("DROP ROLE {own}; CREATE ROLE {own}")).await;
    let sql = format!("SELECT tenantry_roles.drop_role('{own}')");
    assert_eq!(refusal(&mut attacker, &sql).await.as_deref(), Some("42501"));
    let sql = "SELECT count(*)::text FROM tenantry_roles.made";
    assert_eq!(text_of(&mut attacker, sql).await.as_deref(), Some("3"), "a dump reads it");
    let sql = "INSERT INTO tenantry_roles.made VALUES ('postgres', 10)";
    assert_eq!(refusal(&mut attacker, sql).await.as_deref(), Some("42501"));

    // The other one still has its tenant, and nobody has a way into its database.
    call(&mut other, "alter_role", &[OTHER_TENANT, "NOLOGIN"]).await;
    let sql = format!("SELECT has_database_privilege('{LANE}', 'other', 'CONNECT')::text");
    assert_eq!(text_of(&mut other, &sql).await.as_deref(), Some("false"));
    verifiers_of_one_installation(&mut site, &mut other_superuser).await;
    nothing_is_taken_over(&mut site, &mut attacker).await;
}

/// Its pooler looks up the verifiers of one installation's logins that are valid.
async fn verifiers_of_one_installation(site: &mut Site, other_superuser: &mut PgConnection) {
    for database in ["tenantry", "other"] {
        let url = site.cluster.superuser_url(database);
        psql(&url, &url, "pgbouncer.sql", "the pooler's").await;
    }
    let find = |login: &str| format!("SELECT verifier FROM pgbouncer.verifier('{login}')");
    for (login, other, is_here) in [
        (LANE, OTHER_LANE, true),
        ("tenantry_owner", "other_owner", true),
        ("postgres", "admin", false),
        (GROUP, OTHER_GROUP, false),
    ] {
        for (connection, ours, theirs) in
            [(&mut site.superuser, login, other), (&mut *other_superuser, other, login)]
        {
            assert_eq!(text_of(connection, &find(ours)).await.is_some(), is_here, "{ours}");
            assert_eq!(text_of(connection, &find(theirs)).await, None, "{theirs}");
        }
    }
    run(&mut site.superuser, format!("ALTER ROLE {LANE} VALID UNTIL '2000-01-01'")).await;
    assert_eq!(text_of(&mut site.superuser, &find(LANE)).await, None, "it is not valid any more");
}

/// An installation that was there before takes what is its own, and nothing that has rights elsewhere.
async fn nothing_is_taken_over(site: &mut Site, attacker: &mut PgConnection) {
    let url = site.cluster.superuser_url("tenantry");
    run(&mut site.superuser, "TRUNCATE tenantry_roles.made").await;
    run(&mut site.superuser, format!("GRANT {GROUP} TO {OTHER_TENANT}")).await;
    refused(&url, &[], "roles.sql", "", "has rights in another database").await;
    run(&mut site.superuser, format!("REVOKE {GROUP} FROM {OTHER_TENANT}")).await;
    run(&mut site.superuser, "TRUNCATE tenantry_roles.installation").await;
    run(attacker, format!("GRANT USAGE ON SCHEMA public TO {OTHER_GROUP}")).await;
    refused(&url, &[], "roles.sql", "", "whose database this is cannot be told").await;
    run(attacker, format!("GRANT USAGE ON SCHEMA public TO {GROUP}")).await;
    psql(&url, &url, "roles.sql", "").await;
    let made =
        text_of(&mut site.superuser, "SELECT string_agg(role, ' ' ORDER BY role) FROM tenantry_roles.made");
    assert_eq!(made.await, Some(format!("{LANE} {GROUP}")));
}

#[tokio::test]
async fn no_password_is_in_the_servers_log() {
    let Site { cluster, mut superuser, place, .. } = set_up().await;
    let url = cluster.superuser_url("tenantry");
    psql(&url, &url, "pgbouncer.sql", "the pooler's").await;
    let again = psql_with(&url, &cluster.superuser_url("postgres"), &[], "setup.sql", OWNERS).await;
    assert_quiet(&again, "setup.sql again");
    place.run("migrate").ok();
    let file = "SELECT current_setting('data_directory')";
    let file = text_of(&mut superuser, file).await.unwrap() + "/postgresql.log";
    let log = fs::read_to_string(file).unwrap();
    for login in ["tenantry_owner", "pgbouncer"] {
        assert!(
            log.contains(&format!("ALTER USER {login} PASSWORD 'SCRAM-SHA-256$")),
            "statements are logged"
        );
    }
    for password in ["owner's", "owner''s", "the pooler"] {
        assert!(!log.contains(password), "{password}");
    }
}

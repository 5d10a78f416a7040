//! The service with the rights that `deploy/postgresql/` gives it, and no others.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tenantry::embedded::{Cluster, Durability, Options};

use super::support::Workplace;
use crate::support::{psql, psql_with, superuser_of};

mod attacks;
mod cluster;
mod scripts;

const PASSWORD: &str = "correct horse battery";
const OWNERS: &str = "it's the owner's";
const MASTER_KEY: &str = "bWFzdGVyIGtleSBvZiBhIHRlc3Qgb2YgcmlnaHRzIDE=";

/// What a call of the owner is refused for: PostgreSQL's code.
async fn refusal(owner: &mut PgConnection, sql: &str) -> Option<String> {
    match owner.execute(AssertSqlSafe(sql.to_owned())).await {
        Ok(_) => None,
        Err(sqlx::Error::Database(error)) => Some(error.code().unwrap().into_owned()),
        Err(error) => panic!("{error}"),
    }
}

async fn run(connection: &mut PgConnection, sql: impl Into<String>) {
    let sql = sql.into();
    if let Err(error) = connection.execute(AssertSqlSafe(sql.clone())).await {
        panic!("{sql}: {error}");
    }
}

async fn text_of(connection: &mut PgConnection, sql: &str) -> Option<String> {
    let row = connection.fetch_optional(AssertSqlSafe(sql.to_owned())).await.unwrap();
    row.and_then(|row| row.get(0))
}

/// Runs a script that has to refuse, and say why.
async fn refused(url: &SecretString, arguments: &[&str], script: &str, password: &str, why: &str) {
    refused_to(url, url, arguments, script, password, why).await;
}

async fn refused_to(
    superuser: &SecretString,
    url: &SecretString,
    arguments: &[&str],
    script: &str,
    password: &str,
    why: &str,
) {
    let output = psql_with(superuser, url, arguments, script, password).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(why), "{script} {arguments:?}, not {why}: {said}");
}

struct Site {
    cluster: Cluster,
    superuser: PgConnection,
    place: Workplace,
    owner: SecretString,
}

/// A server of somebody's own, set up as the documents say: by an administrator who is no superuser, and hardened by a
/// superuser.
async fn set_up() -> Site {
    let place = Workplace::new();
    let options = Options { durability: Durability::Relaxed, ..Options::new(place.path("server")) };
    let cluster = Cluster::start(&options).await.unwrap();
    let mut root = superuser_of(&cluster.superuser_url("postgres")).await;
    root.execute("CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'admins'").await.unwrap();
    // What is said while this runs is looked at by who asks for passwords in it.
    root.execute("ALTER SYSTEM SET log_statement TO 'all'").await.unwrap();
    root.execute("SELECT pg_reload_conf()").await.unwrap();
    let admin = cluster.url("admin", &"admins".into(), "postgres");
    psql(&cluster.superuser_url("postgres"), &admin, "setup.sql", OWNERS).await;
    root.close().await.unwrap();
    let url = cluster.superuser_url("tenantry");
    psql(&url, &url, "harden.sql", "").await;
    let superuser = superuser_of(&url).await;
    let owner = cluster.url("tenantry_owner", &OWNERS.into(), "tenantry");
    let place = place
        .with("TENANTRY_DATABASE_URL", owner.expose_secret())
        .with("TENANTRY_MASTER_KEY", MASTER_KEY)
        .with("TENANTRY_MAIL", "file");
    Site { cluster, superuser, place, owner }
}

fn all_is_well(place: &Workplace) {
    let report = place.run("doctor");
    assert!(report.stdout.ends_with("\nAll is well.\n"), "{report:?}");
}

fn create(place: &Workplace, slug: &str) {
    let line = format!("tenant create --name={slug} --slug={slug} --owner-email=owner@{slug}.example");
    place.run_with(&line, PASSWORD).ok();
}

#[tokio::test]
async fn an_owner_who_may_make_no_roles_runs_the_whole_service() {
    let Site { cluster, mut superuser, place, owner } = set_up().await;
    assert_eq!(place.run("migrate --json").json()["not_hardened"], json!([]));
    let rights = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
         OR EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = 'tenantry_owner'";
    assert!(
        !superuser.fetch_one(rights).await.unwrap().get::<bool, _>(0),
        "the owner has no rights on roles"
    );
    all_is_well(&place);

    let serve = place.serve();
    let sign_up = json!({
        "organization": "Acme", "slug": "acme", "username": "ann", "email": "ann@acme.example",
        "password": PASSWORD,
    });
    let answer = serve.service("POST", "/api/sign_up/tenant/").json(&sign_up).send().await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    for slug in ["alpha", "beta"] {
        create(&place, slug);
    }
    let login = json!({"username": "owner", "password": PASSWORD});
    let status_of =
        async |slug: &str| serve.request(slug, "POST", "/api/login/").json(&login).send().await.status;
    assert_eq!((status_of("alpha").await, status_of("beta").await), (200, 200));

    // What an archive goes through, and the end of a tenant.
    place.run("tenant export alpha --to alpha.tenantry").ok();
    place.run("tenant import alpha.tenantry --slug copy --name Copy").ok();
    place.run("tenant clone alpha --slug clone --name Clone").ok();
    place.run("tenant restore-from alpha.tenantry --into alpha --yes").ok();
    assert_eq!(
        (status_of("alpha").await, status_of("copy").await, status_of("clone").await),
        (200, 200, 200)
    );
    place.run("tenant delete beta --yes").ok();
    place.run("tenant purge beta --yes --now").ok();
    place.run("keys rotate").ok();
    all_is_well(&place);

    undone_by_hand(&place, &mut superuser).await;
    assert_eq!(status_of("alpha").await, 200);
    nothing_else_is_to_be_had(&cluster, &mut superuser, &owner).await;
    assert_eq!(serve.terminate(), Some(0));
}

/// Roles that are gone or changed are mended by the same functions, but for what only a superuser may do.
async fn undone_by_hand(place: &Workplace, superuser: &mut PgConnection) {
    let read = "SELECT t.schema_name AS schema, 'tenantry_' || i.id || '_' AS prefix, t.lane::text AS lane \
         FROM tenantry.tenants t, tenantry.installation i WHERE slug = 'copy'";
    let row = superuser.fetch_one(read).await.unwrap();
    let (schema, prefix, lane): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    for sql in [
        format!("DROP OWNED BY {schema}; DROP ROLE {schema}"),
        format!("ALTER ROLE {prefix}lane_{lane} NOLOGIN INHERIT CONNECTION LIMIT 3"),
        format!("ALTER ROLE {prefix}catalog SET statement_timeout TO '1ms'"),
        format!("ALTER ROLE {prefix}catalog IN DATABASE tenantry SET lock_timeout TO '1ms'"),
        format!("ALTER ROLE {prefix}tenants LOGIN CREATEROLE"),
    ] {
        superuser.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    assert_eq!(place.run("doctor").code, 1);
    let fixed = place.run("doctor --fix --json").json();
    assert_eq!((&fixed["problems"], &fixed["mended"]["refused"]), (&json!(0), &json!([])), "{fixed:#}");
    all_is_well(place);
}

/// The owner is asked for what a thief of its password would ask for.
async fn nothing_else_is_to_be_had(cluster: &Cluster, superuser: &mut PgConnection, owner: &SecretString) {
    let row = superuser.fetch_one("SELECT id FROM tenantry.installation").await.unwrap();
    let prefix = format!("tenantry_{}_", row.get::<&str, _>(0));
    let schema = "SELECT schema_name FROM tenantry.tenants WHERE slug = 'alpha'";
    let schema: String = superuser.fetch_one(schema).await.unwrap().get(0);
    let foreign = "t_00000000000000000000000000";
    let stranger = "tenantry_00000000_tenants";
    let made = format!(
        "CREATE ROLE {stranger}; CREATE ROLE {foreign} IN ROLE {stranger}; CREATE ROLE tenantry_00000000_lane_0 LOGIN"
    );
    superuser.execute(AssertSqlSafe(made)).await.unwrap();
    let verifier = "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
         AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let mut connection = superuser_of(owner).await;
    let mut refused = vec![
        "CREATE ROLE mine".to_owned(),
        format!("GRANT {schema} TO tenantry_owner"),
        format!("DROP ROLE {schema}"),
        "ALTER ROLE tenantry_owner CREATEROLE".into(),
        "SET ROLE tenantry_roles".into(),
        "DROP SCHEMA tenantry_roles CASCADE".into(),
        "CREATE FUNCTION tenantry_roles.mine() RETURNS void LANGUAGE sql AS ''".into(),
        "ALTER FUNCTION tenantry_roles.kind(text) RESET search_path".into(),
        "UPDATE tenantry_roles.installation SET id = '00000000'".into(),
        "SELECT tenantry_roles.kind('x')".into(),
    ];
    let calls = [
        ("create_role", vec!["mine", "postgres", stranger, "tenantry_0000000v_tenants", "t_X", "", "t_0\n"]),
        ("drop_role", vec![foreign, "admin", "tenantry_owner", "PREFIXlane_0", "PREFIXtenants"]),
        ("alter_role|LOGIN", vec!["A_TENANT", "admin", "PREFIXtenants", "tenantry_00000000_lane_0"]),
        ("alter_role|INHERIT", vec!["PREFIXlane_0"]),
        ("alter_role|SUPERUSER", vec!["PREFIXlane_0", "A_TENANT"]),
        ("alter_role|CREATEROLE", vec!["PREFIXlane_0", "A_TENANT"]),
        ("alter_role|NOLOGIN; DROP ROLE admin", vec!["A_TENANT"]),
        ("alter_role|NOLOGIN", vec!["PREFIXlane_0", "PREFIXlane_00", "PREFIXlane_0 ", "PREFIXlane_123456"]),
        (
            "set_login|VERIFIER",
            vec!["A_TENANT", "PREFIXtenants", "tenantry_00000000_lane_0", "tenantry_owner"],
        ),
        ("set_login|a plain password", vec!["PREFIXlane_0"]),
        ("set_login|VERIFIER\n", vec!["PREFIXlane_0"]),
        (
            "grant_role|tenantry_owner",
            vec!["A_TENANT", "PREFIXtenants", "admin", "postgres", "tenantry_roles"],
        ),
        ("grant_role|PREFIXlane_0", vec![foreign, "PREFIXtenants", "PREFIXlane_1", "pg_read_all_data"]),
        ("grant_role|PREFIXcatalog", vec!["A_TENANT", "PREFIXtenants"]),
        ("grant_role|A_TENANT", vec!["A_TENANT", "PREFIXlane_0", "admin"]),
        ("revoke_role|tenantry_roles", vec!["A_TENANT", "PREFIXtenants"]),
        ("revoke_role|tenantry_owner", vec!["pg_monitor", "admin"]),
        ("reset_role|role|true", vec!["admin", "tenantry_owner", "postgres"]),
        ("reset_role|all; DROP ROLE admin|false", vec!["A_TENANT"]),
    ];
    for (call, roles) in calls {
        let mut parts = call.split('|');
        let function = parts.next().unwrap();
        let rest = parts.fold(String::new(), |rest, it| rest + ", '" + it + "'");
        for role in roles {
            refused.push(format!("SELECT tenantry_roles.{function}('{role}'{rest})"));
        }
    }
    for sql in refused {
        let sql = sql.replace("PREFIX", &prefix).replace("A_TENANT", &schema).replace("VERIFIER", verifier);
        let code = refusal(&mut connection, &sql).await;
        assert_eq!(code.as_deref(), Some("42501"), "{sql}");
    }
    let again = format!("SELECT tenantry_roles.create_role('{foreign}')");
    assert_eq!(refusal(&mut connection, &again).await.as_deref(), Some("42710"), "it is there");
    // A role of a tenant that is in no group is given to no lane.
    let lone = "t_0000000000000000000000000v";
    assert_eq!(refusal(&mut connection, &format!("SELECT tenantry_roles.create_role('{lone}')")).await, None);
    let early = format!("SELECT tenantry_roles.grant_role('{lone}', '{prefix}lane_0')");
    assert_eq!(refusal(&mut connection, &early).await.as_deref(), Some("42501"));
    connection.close().await.unwrap();

    // Nobody else gets as far as the functions.
    let superuser_url = cluster.superuser_url("tenantry");
    let mut other = superuser_of(&superuser_url).await;
    for role in [format!("{prefix}catalog"), schema, "admin".into()] {
        other.execute(AssertSqlSafe(format!("SET SESSION AUTHORIZATION {role}"))).await.unwrap();
        let code = refusal(&mut other, &format!("SELECT tenantry_roles.drop_role('{lone}')")).await;
        assert_eq!(code.as_deref(), Some("42501"), "{role}");
        other.execute("RESET SESSION AUTHORIZATION").await.unwrap();
    }
    other.close().await.unwrap();
}

#[tokio::test]
async fn an_installation_whose_owner_could_make_any_role_is_changed_over() {
    let Site { cluster, mut superuser, place, .. } = set_up().await;
    superuser.execute("DROP SCHEMA tenantry_roles CASCADE; DROP ROLE tenantry_roles").await.unwrap();
    let without = place.run("migrate").failure(1);
    assert!(without.contains("permission denied to create role"), "{without}");
    superuser.execute("ALTER ROLE tenantry_owner CREATEROLE").await.unwrap();
    place.run("migrate").ok();
    create(&place, "alpha");
    all_is_well(&place);

    superuser.execute("ALTER ROLE tenantry_owner NOCREATEROLE").await.unwrap();
    let codes = |report: &Value| -> Vec<String> {
        let coded = report["findings"].as_array().unwrap().iter().filter_map(|it| it["code"].as_str());
        coded.map(str::to_owned).collect()
    };
    let report: Value = serde_json::from_str(&place.run("doctor --json").stdout).unwrap();
    assert_eq!(codes(&report), ["no_role_maker"]);
    superuser.execute("ALTER ROLE tenantry_owner CREATEROLE").await.unwrap();
    let url = cluster.superuser_url("tenantry");
    psql(&url, &url, "roles.sql", "").await;
    all_is_well(&place);
    create(&place, "beta");
    for slug in ["alpha", "beta"] {
        place.run(&format!("tenant delete {slug} --yes")).ok();
        place.run(&format!("tenant purge {slug} --yes --now")).ok();
    }
    for (deed, undo, code) in [
        (
            "ALTER TABLE tenantry_roles.made RENAME TO unmade",
            "ALTER TABLE tenantry_roles.unmade RENAME TO made",
            "role_maker_old",
        ),
        (
            "ALTER ROLE tenantry_owner CREATEROLE",
            "ALTER ROLE tenantry_owner NOCREATEROLE",
            "owner_makes_any_role",
        ),
        (
            "GRANT tenantry_roles TO tenantry_owner",
            "REVOKE tenantry_roles FROM tenantry_owner",
            "role_maker_in_reach",
        ),
        ("GRANT tenantry_roles TO admin", "REVOKE tenantry_roles FROM admin", "role_maker_shared"),
        (
            "GRANT EXECUTE ON FUNCTION tenantry_roles.drop_role(text) TO PUBLIC",
            "REVOKE EXECUTE ON FUNCTION tenantry_roles.drop_role(text) FROM PUBLIC",
            "role_maker_exposed",
        ),
        (
            "ALTER FUNCTION tenantry_roles.drop_role(text) RESET search_path",
            "ALTER FUNCTION tenantry_roles.drop_role(text) SET search_path = pg_catalog, pg_temp",
            "role_maker_exposed",
        ),
    ] {
        superuser.execute(deed).await.unwrap();
        let report: Value = serde_json::from_str(&place.run("doctor --json").stdout).unwrap();
        assert_eq!(codes(&report), [code], "{deed}");
        superuser.execute(undo).await.unwrap();
    }
    all_is_well(&place);
}

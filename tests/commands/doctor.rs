//! `doctor` is green while all guards stand, and red for each that is taken out; `migrate` on a database of one's own.

use std::collections::BTreeSet;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tenantry::embedded::{Cluster, Options};

use super::support::Workplace;
use crate::support::superuser_of;

const PASSWORD: &str = "correct horse battery";
const MASTER_KEY: &str = "CqsCSgiGFLRyy3VWTVnIvU51VEUwf5rU5CCK+SmNGbA=";

/// A guard: what takes it out, and what the doctor says then. `--fix` puts it back.
struct Guard {
    takes_out: &'static str,
    /// The checks that notice.
    noticed_by: &'static [&'static str],
    says: &'static str,
}

/// Guards that are taken out together, because none hides what another lets through.
/// `{a}`, `{b}` are schemas, `{lane}` is the login of a's lane.
const GUARDS: [&[Guard]; 6] = [
    &[
        Guard {
            takes_out: "GRANT USAGE ON SCHEMA {b} TO {a}; GRANT SELECT ON {b}.users TO {a}",
            noticed_by: &["grants", "isolation"],
            says: "a connection bound to alpha can read the users of beta",
        },
        Guard {
            takes_out: "GRANT EXECUTE ON FUNCTION set_config(text, text, boolean) TO PUBLIC",
            noticed_by: &["grants"],
            says: "PUBLIC has rights with which tenants can get around: EXECUTE ON FUNCTION set_config(text,text,boolean)",
        },
        Guard {
            takes_out: "GRANT DELETE ON {a}.audit TO {a}",
            noticed_by: &["grants"],
            says: "what stands in an audit log can be changed: alpha: DELETE for t_",
        },
        Guard {
            takes_out: "REVOKE INSERT ON tenantry.jobs FROM {catalog}; REVOKE USAGE ON SCHEMA tenantry FROM {group}",
            noticed_by: &["grants"],
            says: "the catalog's login lacks rights on the catalog: tenantry.jobs",
        },
    ],
    &[
        Guard {
            // Since PostgreSQL 16 a membership has an inheritance of its own.
            takes_out: "ALTER ROLE {lane} INHERIT; REVOKE {a} FROM {lane}; GRANT {a} TO {lane}",
            noticed_by: &["roles", "isolation"],
            says: "an unbound connection of a lane can read the users of alpha",
        },
        Guard {
            takes_out: "GRANT CREATE ON SCHEMA public TO PUBLIC",
            noticed_by: &["grants"],
            says: "CREATE ON SCHEMA public",
        },
        Guard {
            takes_out: "GRANT UPDATE, DELETE ON tenantry.audit TO {catalog}",
            noticed_by: &["grants"],
            says: "what stands in an audit log can be changed: the catalog: DELETE for tenantry_",
        },
        Guard {
            takes_out: "DROP INDEX {a}.audit_created_at; ALTER TABLE {a}.tokens DISABLE TRIGGER ALL",
            noticed_by: &["code", "tables"],
            says: "indexes or constraints of tables are missing: alpha: audit_created_at on audit",
        },
    ],
    &[
        Guard {
            takes_out: "GRANT SELECT ON tenantry.tenants TO {a}",
            noticed_by: &["grants", "isolation"],
            says: "a connection bound to alpha can read the catalog",
        },
        Guard {
            takes_out: "GRANT pg_read_all_data TO {lane}",
            noticed_by: &["roles"],
            says: "of pg_read_all_data",
        },
        Guard {
            // What only a superuser can: the embedded database has one.
            takes_out: "ALTER DATABASE tenantry SET session_replication_role TO replica",
            noticed_by: &["overrides"],
            says: "ALTER DATABASE tenantry SET session_replication_role = replica",
        },
        Guard {
            takes_out: "GRANT USAGE ON SCHEMA {a} TO {catalog}; GRANT UPDATE (username) ON {a}.users TO {catalog}",
            noticed_by: &["grants"],
            says: "others have rights on a tenant's tables: ",
        },
    ],
    &[Guard {
        takes_out: "ALTER TABLE {a}.users OWNER TO postgres; ALTER TABLE tenantry.jobs OWNER TO postgres",
        noticed_by: &["catalog"],
        says: "somebody else owns it, or tables of it, so nothing in it can be read",
    }],
    &[
        Guard {
            takes_out: "GRANT USAGE ON SCHEMA {b} TO {b}; UPDATE tenantry.tenants SET status = 'suspended' WHERE slug = 'beta'",
            noticed_by: &["grants"],
            says: "tenants that are not active can use their schema: beta",
        },
        Guard {
            takes_out: "REVOKE {a} FROM {lane}; GRANT {a} TO {other_lane}",
            noticed_by: &["roles", "isolation"],
            says: "tenants' roles are not granted to their lane: alpha",
        },
    ],
    &[Guard {
        takes_out: "DROP OWNED BY {a}; DROP ROLE {a}",
        noticed_by: &["roles", "isolation"],
        says: "roles are missing: t_",
    }],
];

/// What was checked, by the report for people that this text begins with.
fn checks(report: &str) -> Vec<&str> {
    let lines = report.lines().take_while(|line| !line.is_empty());
    lines.filter_map(|line| Some(line.strip_prefix("ok       ")?.get(..13)?.trim_end())).collect()
}

#[tokio::test]
async fn a_guard_that_is_taken_out_is_noticed() {
    let place = Workplace::new();
    let serve = place.serve();
    for slug in ["alpha", "beta"] {
        let line = format!("tenant create --name={slug} --owner-email=owner@{slug}.example");
        place.run_with(&line, PASSWORD).ok();
    }
    let report = place.run("doctor").ok();
    assert!(
        report.contains("embedded PostgreSQL ") && report.contains(", run by another process\n"),
        "{report}"
    );
    assert!(report.ends_with("\nAll is well.\n"), "{report}");
    let (_, told) = include_str!("../../README.md").split_once("$ cargo run -q -- doctor\n").unwrap();
    assert_eq!(checks(told), checks(&report), "the README shows what comes");
    let (_, told) = include_str!("../../deploy/RUNBOOK.md").split_once("$ tenantry doctor\n").unwrap();
    let of_own_database: Vec<_> = checks(&report).into_iter().filter(|check| *check != "database").collect();
    assert_eq!(checks(told), of_own_database, "and so does the runbook");

    let cluster = Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    let names = Names::read(&mut superuser).await;
    for guards in GUARDS {
        let takes_out: String = guards.iter().map(|guard| names.fill(guard.takes_out) + ";").collect();
        superuser.execute(AssertSqlSafe(takes_out.as_str())).await.unwrap();
        let report = place.run("doctor --json");
        assert_eq!(report.code, 1, "{takes_out}");
        let report: Value = serde_json::from_str(&report.stdout).unwrap();
        let problems: Vec<_> =
            report["findings"].as_array().unwrap().iter().filter(|it| it["level"] == "problem").collect();
        let noticed_by: BTreeSet<_> = problems.iter().map(|it| it["check"].as_str().unwrap()).collect();
        let expected = guards.iter().flat_map(|guard| guard.noticed_by).copied().collect();
        assert_eq!(noticed_by, expected, "{takes_out}: {problems:#?}");
        for Guard { says, .. } in guards {
            let said = problems.iter().any(|it| it["found"].as_str().unwrap().contains(says));
            assert!(said, "{says}: {problems:#?}");
        }
        assert!(
            problems.iter().all(|it| it["code"].is_string() && it["advice"].is_string()),
            "{problems:#?}"
        );
        let fixed = place.run("doctor --fix --json").json();
        assert_ne!(fixed["mended"]["done"], json!([]), "{takes_out}");
        assert_eq!(fixed["mended"]["refused"], json!([]), "{takes_out}");
        assert_eq!(fixed["warnings"], 0, "{takes_out}: {fixed:#}");
        let reopened = superuser
            .execute("UPDATE tenantry.tenants SET status = 'active' WHERE status <> 'active'")
            .await
            .unwrap();
        if reopened.rows_affected() > 0 {
            place.run("doctor --fix").ok();
        }
    }
    let nothing = place.run("doctor --fix").ok();
    assert!(nothing.starts_with("There was nothing to fix.\n"), "{nothing}");
    let login = json!({"username": "owner", "password": PASSWORD});
    serve.request("alpha", "POST", "/api/login/").json(&login).expect(200).await;
    assert_eq!(place.run("doctor --json").json()["problems"], 0);

    migrate_a_database_of_ones_own(&cluster, superuser).await;
    assert_eq!(serve.terminate(), Some(0));
}

struct Names {
    alpha: String,
    beta: String,
    lane: String,
    other_lane: String,
    catalog: String,
    group: String,
}

impl Names {
    async fn read(connection: &mut PgConnection) -> Self {
        let row = connection
            .fetch_one(
                "SELECT a.schema_name AS alpha, b.schema_name AS beta, format('tenantry_%s_', installation.id) AS prefix, a.lane \
                 FROM tenantry.tenants a, tenantry.tenants b, tenantry.installation \
                 WHERE a.slug = 'alpha' AND b.slug = 'beta'",
            )
            .await
            .unwrap();
        let (prefix, lane): (String, i16) = (row.get("prefix"), row.get("lane"));
        Self {
            alpha: row.get("alpha"),
            beta: row.get("beta"),
            lane: format!("{prefix}lane_{lane}"),
            other_lane: format!("{prefix}lane_{}", (lane + 1) % 8),
            catalog: format!("{prefix}catalog"),
            group: format!("{prefix}tenants"),
        }
    }

    fn fill(&self, sql: &str) -> String {
        let Self { alpha, beta, lane, other_lane, catalog, group } = self;
        let names = [("{a}", alpha), ("{b}", beta), ("{lane}", lane), ("{other_lane}", other_lane)];
        let names = names.into_iter().chain([("{catalog}", catalog), ("{group}", group)]);
        names.fold(sql.to_owned(), |sql, (name, value)| sql.replace(name, value))
    }
}

/// Where the login is no superuser, what it may not do is left to one, in words that one can run.
async fn migrate_a_database_of_ones_own(cluster: &Cluster, mut superuser: PgConnection) {
    superuser.execute("CREATE ROLE ann LOGIN CREATEROLE PASSWORD 'secret'").await.unwrap();
    superuser.execute("CREATE DATABASE own OWNER ann").await.unwrap();
    superuser.close().await.unwrap();
    let url = cluster.url("ann", &"secret".into(), "own");
    let place = Workplace::new()
        .with("TENANTRY_DATABASE_URL", url.expose_secret())
        .with("TENANTRY_MASTER_KEY", MASTER_KEY)
        .with("TENANTRY_MAIL", "file");

    assert_eq!(
        place.run("tenant list").failure(1),
        "error: the database is not set up: run `tenantry migrate`\n"
    );
    let check = place.run("migrate --check --json");
    assert_eq!(check.code, 1);
    let check: Value = serde_json::from_str(&check.stdout).unwrap();
    let report = place.run("migrate --json").json();
    assert_eq!(report["catalog"], check["catalog"]);
    let statements = report["not_hardened"].as_array().unwrap();
    let set_config = "REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text,text,boolean) FROM PUBLIC";
    assert!(statements.iter().any(|it| it == set_config), "{statements:?}");
    let text = place.run("migrate").ok();
    assert!(text.starts_with("The database is up to date.\n\nThis login may not take"), "{text}");
    assert!(text.contains(&format!("\n  {set_config};\n")), "{text}");
    // What only a superuser can take is no problem where there is none.
    let report = place.run("doctor").ok();
    assert!(report.contains("PUBLIC has rights that an SQL injection could use"), "{report}");
    assert!(report.ends_with("\nNo problems, 1 warning.\n"), "{report}");

    let mut superuser = superuser_of(&cluster.superuser_url("own")).await;
    for statement in statements {
        superuser.execute(AssertSqlSafe(statement.as_str().unwrap().to_owned())).await.unwrap();
    }
    superuser.close().await.unwrap();
    assert_eq!(place.run("migrate").ok(), "The database is up to date.\n");
    assert_eq!(place.run("migrate --check --json").json()["up_to_date"], true);
    assert!(place.run("doctor").ok().ends_with("\nAll is well.\n"));
    what_only_a_superuser_can_is_named(cluster, &place).await;

    let place = place.with("TENANTRY_MASTER_KEY", "MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXY=");
    let error = place.run("tenant list").failure(1);
    assert_eq!(error, "error: the master key is not the one this database was set up with\n");
}

/// And not advised to be tried again.
async fn what_only_a_superuser_can_is_named(cluster: &Cluster, place: &Workplace) {
    let mut superuser = superuser_of(&cluster.superuser_url("own")).await;
    superuser.execute("ALTER DATABASE own SET session_replication_role TO replica").await.unwrap();
    let report = place.run("doctor").stdout;
    assert!(report.contains("→ `tenantry doctor --fix` puts it right; then start every"), "{report}");
    let fixed = place.run("doctor --fix");
    assert_eq!(fixed.code, 1, "{fixed:?}");
    let reset = "ALTER DATABASE own RESET session_replication_role";
    let refused =
        format!("refused  {reset}: permission denied to set parameter \"session_replication_role\"\n");
    assert!(fixed.stdout.starts_with(&refused), "{}", fixed.stdout);
    let told = format!("Have a superuser run, in this database:\n\n  {reset};\n");
    assert!(fixed.stdout.contains(&told), "{}", fixed.stdout);
    let advice = format!("→ have a superuser run, in this database: {reset}\n");
    assert!(fixed.stdout.contains(&advice) && !fixed.stdout.contains("--fix"), "{}", fixed.stdout);
    superuser.execute(reset).await.unwrap();
    superuser.close().await.unwrap();
    assert!(place.run("doctor").ok().ends_with("\nAll is well.\n"));
}

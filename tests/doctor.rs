//! What somebody did to the database by hand is found, and what can be made again is.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tenantry::clock::Clock;
use tenants::{
    NewTenant, SlugChoice, Tenancy,
    doctor::{self, Finding, Level, Mended},
};

use crate::support::{Database, Fleet, superuser_of};

/// What somebody does, and what becomes of it.
struct Deed {
    sql: &'static str,
    /// The finding.
    code: &'static str,
    level: Level,
    says: &'static str,
    after: After,
}

/// What becomes of it.
enum After {
    /// `--fix` puts it right.
    Mended,
    /// Only a superuser can put it right, by this statement.
    Superuser(&'static str),
    /// It stays until this is run.
    Stays(&'static str),
}
use After::{Mended as Mends, Stays, Superuser};

const fn problem(code: &'static str, sql: &'static str, says: &'static str, after: After) -> Deed {
    Deed { sql, code, level: Level::Problem, says, after }
}

const fn warning(code: &'static str, sql: &'static str, says: &'static str, after: After) -> Deed {
    Deed { sql, code, level: Level::Warning, says, after }
}

/// `{a}` and `{b}` are the schemas of `t-0` and `t-1`, `{lane}` a login, `{db}` the database, `{other}` a stranger.
const TABLES: [Deed; 13] = [
    problem(
        "tables_missing",
        "ALTER TABLE {a}.digests SET SCHEMA public",
        "tables are missing: t-0: digests",
        Stays("ALTER TABLE public.digests SET SCHEMA {a}"),
    ),
    problem(
        "columns_changed",
        "ALTER TABLE {a}.users RENAME COLUMN locale TO language",
        "t-0: users.locale is missing",
        Stays("ALTER TABLE {a}.users RENAME COLUMN language TO locale"),
    ),
    problem(
        "columns_changed",
        "ALTER TABLE {a}.settings ALTER COLUMN name TYPE varchar(80)",
        "t-0: settings.name is `character varying(80) NOT NULL` and not `text NOT NULL`",
        Stays("ALTER TABLE {a}.settings ALTER COLUMN name TYPE text"),
    ),
    problem(
        "columns_changed",
        "ALTER TABLE {a}.users ALTER COLUMN comment_count DROP DEFAULT",
        "t-0: users.comment_count is `integer NOT NULL` and not `integer DEFAULT 0 NOT NULL`",
        Stays("ALTER TABLE {a}.users ALTER COLUMN comment_count SET DEFAULT 0"),
    ),
    problem(
        "columns_changed",
        "ALTER TABLE {a}.throttles SET UNLOGGED",
        "t-0: throttles is `unlogged table` and not `table`",
        Stays("ALTER TABLE {a}.throttles SET LOGGED"),
    ),
    problem("indexes_missing", "DROP INDEX {a}.audit_created_at", "t-0: audit_created_at on audit", Mends),
    problem(
        "indexes_missing",
        "ALTER TABLE {a}.users DROP CONSTRAINT users_pkey CASCADE",
        "t-0: activities_actor_pk_fkey on activities, ",
        Mends,
    ),
    problem(
        "indexes_missing",
        "ALTER TABLE {a}.audit DROP CONSTRAINT audit_actor_check",
        "t-0: audit_actor_check on audit",
        Mends,
    ),
    problem(
        "indexes_changed",
        "ALTER TABLE {a}.audit DROP CONSTRAINT audit_actor_check, ADD CONSTRAINT audit_actor_check CHECK (true)",
        "t-0: audit_actor_check on audit is `CHECK (true)` and not `CHECK ",
        Stays("ALTER TABLE {a}.audit DROP CONSTRAINT audit_actor_check"),
    ),
    warning(
        "unexpected",
        "CREATE TABLE {a}.copy_of_users AS TABLE {a}.users; CREATE VIEW {b}.spies AS SELECT * FROM {b}.users; \
         ALTER TABLE {b}.users ADD COLUMN note text; CREATE INDEX slow ON {b}.users (last_name)",
        "t-0: copy_of_users (t_",
        Stays(
            "DROP TABLE {a}.copy_of_users; DROP VIEW {b}.spies; ALTER TABLE {b}.users DROP COLUMN note; \
             DROP INDEX {b}.slow",
        ),
    ),
    problem(
        "versions_wrong",
        "UPDATE tenantry.tenants SET schema_version = 3 WHERE slug = 't-0'",
        "the catalog has another version than the schema: t-0 has that of 4 and not of 3",
        Mends,
    ),
    problem(
        "tenants_not_served",
        "UPDATE tenantry.tenants SET schema_version = 3 WHERE slug = 't-0'",
        "are answered 503: t-0",
        Mends,
    ),
    problem(
        "tenants_ahead",
        "UPDATE tenantry.tenants SET schema_version = 5 WHERE slug = 't-0'",
        "newer version of tenantry, and are not served: t-0",
        Stays("UPDATE tenantry.tenants SET schema_version = 4 WHERE slug = 't-0'"),
    ),
];

const CATALOG: [Deed; 8] = [
    problem(
        "indexes_missing",
        "ALTER TABLE tenantry.tenants DROP CONSTRAINT tenants_slug_key; DROP INDEX tenantry.tenants_plan",
        "the catalog: tenants_slug_key on tenants, the catalog: tenants_plan on tenants",
        Mends,
    ),
    problem(
        "indexes_changed",
        "ALTER TABLE tenantry.tenants DROP CONSTRAINT tenants_status_check, \
         ADD CONSTRAINT tenants_status_check CHECK (true)",
        "the catalog: tenants_status_check on tenants is `CHECK (true)`",
        Stays("ALTER TABLE tenantry.tenants DROP CONSTRAINT tenants_status_check"),
    ),
    problem(
        "columns_changed",
        "ALTER TABLE tenantry.tenants ALTER COLUMN status SET DEFAULT 'suspended'",
        "the catalog: tenants.status is `text DEFAULT 'suspended'::text NOT NULL` and not ",
        Stays("ALTER TABLE tenantry.tenants ALTER COLUMN status SET DEFAULT 'active'"),
    ),
    problem(
        "columns_changed",
        "ALTER TABLE tenantry.tenants RENAME COLUMN mails_held TO held",
        "the catalog: tenants.mails_held is missing",
        Stays("ALTER TABLE tenantry.tenants RENAME COLUMN held TO mails_held"),
    ),
    problem(
        "tables_missing",
        "ALTER TABLE tenantry.throttles SET SCHEMA public",
        "the catalog: throttles",
        Stays("ALTER TABLE public.throttles SET SCHEMA tenantry"),
    ),
    warning(
        "unexpected",
        "CREATE TABLE tenantry.notes (note text); ALTER TABLE tenantry.notes OWNER TO {owner}",
        "the catalog: notes (tenantry)",
        Stays("DROP TABLE tenantry.notes"),
    ),
    problem("migrations_noted", "DELETE FROM {a}.schema_migrations", "t-0 has noted 0 of 4", Mends),
    problem(
        "migrations_noted",
        "INSERT INTO {a}.schema_migrations VALUES ('m0009_x', 1); \
         DELETE FROM {b}.schema_migrations WHERE version LIKE 'm0002%'",
        "t-0 has noted 5 of 4, t-1 has noted 3 of 4",
        Mends,
    ),
];

const OWNERS_AND_SETTINGS: [Deed; 11] = [
    problem(
        "tables_owned",
        "ALTER TABLE {a}.users OWNER TO {other}",
        ".users of t-0: {other}",
        Superuser("ALTER TABLE {a}.users OWNER TO "),
    ),
    problem(
        "schemas_owned",
        "ALTER SCHEMA {a} OWNER TO {other}",
        " of t-0: {other}",
        Superuser("ALTER SCHEMA {a} OWNER TO "),
    ),
    problem(
        "catalog_owned",
        "ALTER TABLE tenantry.tenants OWNER TO {other}",
        "so nothing in it can be read",
        Superuser("ALTER TABLE tenantry.tenants OWNER TO "),
    ),
    problem(
        "functions_owned",
        "ALTER FUNCTION tenantry.rename_tenant OWNER TO {other}",
        "tenantry.rename_tenant(text) of the catalog: {other}",
        Superuser("ALTER ROUTINE tenantry.rename_tenant(text) OWNER TO "),
    ),
    problem(
        "overrides",
        "ALTER DATABASE {db} SET session_replication_role TO replica",
        "ALTER DATABASE {db} SET session_replication_role = replica",
        Superuser("ALTER DATABASE {db} RESET session_replication_role"),
    ),
    problem(
        "overrides",
        "ALTER ROLE {lane} SET search_path TO {b}",
        "ALTER ROLE {lane} SET search_path = ",
        Mends,
    ),
    problem(
        "overrides",
        "ALTER ROLE {a} SET statement_timeout TO '1ms'",
        "ALTER ROLE {a} SET statement_timeout = 1ms",
        Mends,
    ),
    problem(
        "overrides",
        "ALTER ROLE {lane} IN DATABASE {db} SET row_security TO off",
        "ALTER ROLE {lane} IN DATABASE {db} SET row_security = off",
        Mends,
    ),
    problem(
        "overrides",
        "ALTER DATABASE {db} SET default_transaction_read_only TO on",
        "ALTER DATABASE {db} SET default_transaction_read_only = on",
        Mends,
    ),
    problem("logins_limited", "ALTER ROLE {lane} VALID UNTIL '2100-01-01'", "{lane}", Mends),
    problem(
        "powerful_roles",
        "ALTER ROLE {lane} BYPASSRLS",
        "roles have rights over the whole server: {lane}",
        Superuser("ALTER ROLE {lane} NOSUPERUSER NOREPLICATION NOBYPASSRLS"),
    ),
];

const CODE: [Deed; 11] = [
    problem(
        "triggers",
        "CREATE FUNCTION {a}.spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; \
         CREATE TRIGGER spy BEFORE INSERT ON {b}.users FOR EACH ROW EXECUTE FUNCTION {a}.spy()",
        "triggers that are not ours run with what is written: spy on {b}.users of t-1",
        Stays("DROP FUNCTION {a}.spy CASCADE"),
    ),
    problem(
        "rewrite_rules",
        "CREATE RULE keep AS ON DELETE TO {a}.sessions DO INSTEAD NOTHING",
        "keep on {a}.sessions of t-0",
        Stays("DROP RULE keep ON {a}.sessions"),
    ),
    problem(
        "references_off",
        "ALTER TABLE {a}.sessions DISABLE TRIGGER ALL",
        "references between tables are not checked: {a}.sessions of t-0",
        Superuser("ALTER TABLE {a}.sessions ENABLE TRIGGER ALL"),
    ),
    problem(
        "row_security",
        "ALTER TABLE {a}.users ENABLE ROW LEVEL SECURITY",
        "row security hides rows: {a}.users of t-0",
        Mends,
    ),
    problem(
        "functions",
        "CREATE FUNCTION {a}.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "{a}.lower(text) of t-0",
        Stays("DROP FUNCTION {a}.lower"),
    ),
    problem(
        "functions",
        "CREATE FUNCTION tenantry.enqueue(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "tenantry.enqueue(text) of the catalog",
        Stays("DROP FUNCTION tenantry.enqueue(text)"),
    ),
    problem(
        "functions_missing",
        "DROP FUNCTION tenantry.rename_tenant",
        "tenants cannot write: tenantry.rename_tenant(text)",
        Mends,
    ),
    problem(
        "functions_changed",
        "ALTER FUNCTION tenantry.rename_tenant RESET search_path",
        "see who changed them: tenantry.rename_tenant(text)",
        Mends,
    ),
    problem(
        "functions_changed",
        "CREATE OR REPLACE FUNCTION tenantry.bound_tenant() RETURNS uuid LANGUAGE plpgsql STABLE SECURITY DEFINER \
         SET search_path = pg_catalog, tenantry, pg_temp \
         AS 'BEGIN RETURN (SELECT id FROM tenants WHERE slug = ''t-1''); END'",
        "see who changed them: tenantry.bound_tenant()",
        Mends,
    ),
    problem(
        "definer_functions",
        "CREATE FUNCTION public.all_tenants() RETURNS text LANGUAGE sql SECURITY DEFINER \
         AS 'SELECT string_agg(name, '','') FROM tenantry.tenants'",
        "all_tenants() of ",
        Stays("DROP FUNCTION public.all_tenants"),
    ),
    warning(
        "functions_in_public",
        "CREATE FUNCTION public.one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "one()",
        Stays("DROP FUNCTION public.one"),
    ),
];

/// Two rows name each other's schema.
const CROSS: &str = "UPDATE tenantry.tenants SET schema_name = 'x' WHERE slug = 't-0'; \
    UPDATE tenantry.tenants SET schema_name = '{a}' WHERE slug = 't-1'; \
    UPDATE tenantry.tenants SET schema_name = '{b}' WHERE slug = 't-0'";

const HALF_DONE: [Deed; 7] = [
    problem(
        "indexes_invalid",
        "SET allow_system_table_mods TO on; UPDATE pg_index SET indisvalid = false, indisready = false \
         WHERE indexrelid = '{a}.comments_pkey'::regclass",
        "keys may come twice: {a}.comments_pkey of t-0",
        Mends,
    ),
    problem(
        "indexes_invalid",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tenantry.tenants_slug_key'::regclass",
        "tenantry.tenants_slug_key of the catalog",
        Mends,
    ),
    problem(
        "default_privileges",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON TABLES TO PUBLIC",
        "TABLES: INSERT for PUBLIC",
        Mends,
    ),
    problem(
        "default_privileges",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {a} GRANT SELECT ON TABLES TO {b}, PUBLIC",
        "TABLES in {a}: SELECT for PUBLIC, TABLES in {a}: SELECT for {b}",
        Mends,
    ),
    problem(
        "database_limited",
        "ALTER DATABASE {db} CONNECTION LIMIT 5",
        "and the database lets 5 in",
        Stays("ALTER DATABASE {db} CONNECTION LIMIT -1"),
    ),
    problem(
        "database_owned",
        "ALTER DATABASE {db} OWNER TO {other}",
        "may make no schemas in it: {db}: {other}",
        Superuser("ALTER DATABASE {db} OWNER TO "),
    ),
    problem(
        "schemas_crossed",
        CROSS,
        "t-0 has {b} and not {a}, t-1 has {a} and not {b}",
        Stays(
            "UPDATE tenantry.tenants SET schema_name = 'x' WHERE slug = 't-0'; \
             UPDATE tenantry.tenants SET schema_name = '{b}' WHERE slug = 't-1'; \
             UPDATE tenantry.tenants SET schema_name = '{a}' WHERE slug = 't-0'",
        ),
    ),
];

/// An installation of one's own: what others do to the roles of theirs is not found here.
struct Place {
    database: Database,
    superuser: PgConnection,
    names: Vec<(&'static str, String)>,
}

impl Place {
    async fn new() -> Self {
        let (database, clock) = (Database::empty().await, Clock::system());
        Tenancy::migrate_catalog(&database.settings, clock.now()).await.unwrap();
        let tenancy = Tenancy::open(&database.settings).await.unwrap();
        for slug in ["t-0", "t-1"] {
            let slug = SlugChoice::Exactly(slug.parse().unwrap());
            let new = NewTenant { id: clock.uuid_v7(), slug, name: "Acme".into(), now: clock.now() };
            tenancy.provision(new).await.unwrap().commit().await.unwrap();
        }
        let mut superuser = superuser_of(&database.superuser).await;
        let (a, b, lane, db, owner): (String, String, String, String, String) = sqlx::query_as(
            "SELECT a.schema_name, b.schema_name, format('tenantry_%s_lane_0', installation.id), \
             current_database()::text, (SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'tenantry') \
             FROM tenantry.tenants a, tenantry.tenants b, tenantry.installation WHERE a.slug = 't-0' AND b.slug = 't-1'",
        )
        .fetch_one(&mut superuser)
        .await
        .unwrap();
        let other = format!("stranger_of_{db}");
        superuser.execute(AssertSqlSafe(format!("CREATE ROLE {other}"))).await.unwrap();
        let names = vec![
            ("{a}", a),
            ("{b}", b),
            ("{lane}", lane),
            ("{db}", db),
            ("{other}", other),
            ("{owner}", owner),
        ];
        Self { database, superuser, names }
    }

    fn fill(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    async fn run(&mut self, sql: &str) {
        let sql = self.fill(sql);
        self.superuser.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    async fn findings(&self) -> Vec<Finding> {
        let findings = doctor::examine(&self.database.settings, true, || Clock::system().now()).await;
        findings.into_iter().filter(|it| it.level > Level::Ok).collect()
    }

    async fn mend(&self) -> Mended {
        doctor::mend(&self.database.settings, None).await.unwrap()
    }

    async fn try_all(&mut self, deeds: &[Deed]) {
        assert_eq!(self.findings().await, []);
        for Deed { sql, code, level, says, after } in deeds {
            self.run(sql).await;
            let found = self.findings().await;
            let about = found.iter().find(|it| it.code == Some(code));
            let about = about.unwrap_or_else(|| panic!("{sql}: no {code}: {found:#?}"));
            assert_eq!(about.level, *level, "{sql}");
            let says = self.fill(says);
            assert!(about.found.contains(&says), "{sql}: {says}: {about:#?}");
            assert!(about.advice.as_ref().is_some_and(|it| !it.is_empty()), "{about:#?}");
            let mended = self.mend().await;
            match after {
                Mends => {
                    assert!(!mended.done.is_empty() && mended.refused.is_empty(), "{sql}: {mended:#?}");
                }
                Superuser(statement) => self.leave_to_a_superuser(&mended, code, statement).await,
                Stays(undo) => {
                    let left = self.findings().await;
                    assert!(left.iter().any(|it| it.code == Some(code)), "{sql}: {mended:#?}");
                    self.run(undo).await;
                    // What was dropped for it is made anew.
                    self.mend().await;
                }
            }
            assert_eq!(self.findings().await, [], "{sql}");
        }
        assert_eq!(self.mend().await, Mended::default());
    }

    /// The owner's login names the statement; the superuser of a server of ours runs it.
    async fn leave_to_a_superuser(&mut self, mended: &Mended, code: &str, statement: &str) {
        let statement = self.fill(statement);
        let [refused] = &mended.refused[..] else { panic!("{mended:#?}") };
        assert!(refused.statement.starts_with(&statement) && refused.needs_superuser, "{refused:?}");
        let mut findings = self.findings().await;
        doctor::advise_after(mended, &mut findings);
        let advice = findings.iter().find(|it| it.code == Some(code)).unwrap().advice.clone().unwrap();
        assert_eq!(advice, format!("have a superuser run, in this database: {}", refused.statement));
        let superuser = &self.database.superuser;
        let mended = doctor::mend(&self.database.settings, Some(superuser)).await.unwrap();
        assert_eq!(mended.refused, [], "{statement}");
        assert!(mended.done.iter().any(|it| it.starts_with(&statement)), "{mended:#?}");
    }
}

#[tokio::test]
async fn tables_are_compared_with_what_the_migrations_make() {
    Place::new().await.try_all(&TABLES).await;
}

#[tokio::test]
async fn the_catalog_is_compared_with_what_its_migrations_make() {
    Place::new().await.try_all(&CATALOG).await;
}

/// What is replayed to compare with takes no lock on anything that somebody works with.
#[tokio::test]
async fn comparing_waits_for_nobody_who_works_in_the_catalog() {
    let mut place = Place::new().await;
    let locks = "BEGIN; LOCK TABLE tenantry.jobs, tenantry.tenants, {a}.users IN EXCLUSIVE MODE";
    place.run(locks).await;
    let mut findings = place.findings().await;
    // That one really tries to change rows.
    findings.retain(|it| it.check != "isolation");
    assert_eq!(findings, []);
    place.run("ROLLBACK").await;
}

#[tokio::test]
async fn owners_and_settings_of_roles_are_looked_at() {
    Place::new().await.try_all(&OWNERS_AND_SETTINGS).await;
}

#[tokio::test]
async fn indexes_defaults_and_rows_of_the_catalog_are_looked_at() {
    Place::new().await.try_all(&HALF_DONE).await;
}

/// Nothing of what is wrong with such tenants, or of what follows from it, is put right by granting roles.
#[tokio::test]
async fn tenants_whose_rows_name_each_other_s_schemas_are_left_alone() {
    let mut place = Place::new().await;
    let grants = "SELECT count(*) FROM pg_auth_members WHERE roleid IN ('{a}'::regrole, '{b}'::regrole)";
    place.run("REVOKE {a} FROM {lane}").await;
    place.run(CROSS).await;
    let count = place.fill(grants);
    let before: i64 =
        sqlx::query_scalar(AssertSqlSafe(count.clone())).fetch_one(&mut place.superuser).await.unwrap();
    assert_eq!(place.mend().await, Mended::default());
    let after: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut place.superuser).await.unwrap();
    assert_eq!(after, before);
    let found = place.findings().await;
    assert_eq!(found.first().and_then(|it| it.code), Some("schemas_crossed"), "{found:#?}");
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[tokio::test]
async fn code_that_is_not_ours_is_told() {
    Place::new().await.try_all(&CODE).await;
}

/// Nothing is told of tenants that are as their version has them, and it costs no query for each.
#[tokio::test]
async fn a_fleet_that_is_half_migrated_has_the_tables_of_its_versions() {
    let mut fleet = Fleet::behind(12).await;
    fleet.make("new").await;
    let examine = async |fleet: &Fleet| {
        let findings = doctor::examine(fleet.app.settings(), true, || Clock::system().now()).await;
        // Other tests share its roles.
        let ours =
            findings.into_iter().filter(|it| !matches!(it.check, "roles" | "connections" | "overrides"));
        ours.filter(|it| it.level > Level::Ok && it.code != Some("roles_without_tenant")).collect::<Vec<_>>()
    };
    let found = examine(&fleet).await;
    let [not_served] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(not_served.code, Some("tenants_not_served"));
    assert!(not_served.found.ends_with(": t-0, t-1, t-10, t-11, t-2 and 7 more"), "{not_served:?}");
    assert_eq!(not_served.advice.as_deref(), Some("run `tenantry migrate`"));

    for slug in ["t-3", "t-4", "t-5", "t-6", "t-7", "t-8", "new"] {
        let schema = fleet.schema(slug).await;
        fleet.run_sql(format!("DROP TABLE {schema}.digests")).await;
    }
    let found = examine(&fleet).await;
    let missing = found.iter().find(|it| it.code == Some("tables_missing")).unwrap();
    assert!(
        missing
            .found
            .ends_with(": new: digests, t-3: digests, t-4: digests, t-5: digests, t-6: digests and 2 more")
    );
}

//! What the service asks PostgreSQL, and how many rows that reads.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};

use super::{Organization, TestApp};

/// Fills an organization with so much that happened, a minute after the other, by its users in turn and with the verbs in
/// turn. What happened before is forgotten.
pub(crate) async fn fill_activity(app: &TestApp, organization: &Organization, count: u32) {
    let sql = format!(
        r#"SET search_path TO "{}";
        DELETE FROM activities;
        DELETE FROM lists WHERE kind LIKE 'activity%';
        INSERT INTO activities (number, id, actor_pk, actor_number, verb, verb_number, actor_verb_number, object_type, object_id,
                target_type, target_text, created_at)
            SELECT n, gen_random_uuid(), actor, row_number() OVER (PARTITION BY actor ORDER BY n), verb,
                row_number() OVER (PARTITION BY verb ORDER BY n), row_number() OVER (PARTITION BY actor, verb ORDER BY n),
                'user', actor, 'role', 'admin', timestamptz '2025-12-01Z' + n * interval '1 minute'
            FROM generate_series(1, {count}) AS n,
                LATERAL (SELECT (ARRAY['joined', 'invited', 'role_changed', 'profile_updated', 'commented', 'replied', 'mentioned'])
                    [1 + n % 7] AS verb) AS verbs,
                LATERAL (SELECT pks[1 + (n / 3) % cardinality(pks)] AS actor
                    FROM (SELECT array_agg(pk ORDER BY pk) AS pks FROM (SELECT pk FROM users ORDER BY date_joined, pk LIMIT 50) AS u) AS us)
                    AS actors;
        INSERT INTO lists (kind, owner, numbered, numbered_at)
            SELECT 'activity' || coalesce(' ' || verb, ''), coalesce(actor_pk, '00000000-0000-0000-0000-000000000000'),
                count(*), max(created_at)
            FROM activities GROUP BY CUBE (verb, actor_pk);
        RESET search_path"#,
        organization.schema()
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
}

/// Listens to what is asked in one database, in PostgreSQL's own log: what is asked there is what is asked in production.
pub(crate) struct Statements {
    superuser: PgConnection,
    database: String,
    log: PathBuf,
}

impl Statements {
    /// Has the connections that are made from now on logged, and looks at the rows of this organization.
    pub(crate) async fn of(app: &TestApp, organization: &Organization) -> Self {
        let mut superuser = app.superuser().await;
        let row = superuser
            .fetch_one("SELECT current_database()::text, current_setting('data_directory')")
            .await
            .unwrap();
        let (database, data) = (row.get::<String, _>(0), PathBuf::from(row.get::<String, _>(1)));
        superuser
            .execute(AssertSqlSafe(format!("ALTER DATABASE {database} SET log_statement = 'all'")))
            .await
            .unwrap();
        superuser
            .execute(AssertSqlSafe(format!(
                r#"SET search_path TO "{}", tenantry; SET log_statement = 'none'"#,
                organization.schema()
            )))
            .await
            .unwrap();
        let log = data.ancestors().map(|directory| directory.join("postgresql.log")).find(|log| log.exists());
        Self { superuser, database, log: log.unwrap() }
    }

    /// Where the log ends.
    pub(crate) fn mark(&self) -> usize {
        fs::read(&self.log).unwrap().len()
    }

    /// The statements since then, with their values in them.
    pub(crate) fn executed_since(&self, mark: usize) -> Vec<String> {
        let log = fs::read(&self.log).unwrap();
        let log = String::from_utf8_lossy(&log[mark..]).into_owned();
        let ours = format!("@{} ", self.database);
        let mut queries: Vec<String> = Vec::new();
        for line in log.lines().filter(|line| line.contains(&ours)) {
            if let Some((_, execution)) = line.split_once("LOG:  execute ") {
                queries.push(execution.split_once(": ").unwrap().1.to_owned());
            } else if let Some((_, values)) = line.to_lowercase().split_once("detail:  parameters: ") {
                let query = queries.last_mut().unwrap();
                *query = with_values(query, &line[line.len() - values.len()..]);
            }
        }
        queries
    }

    /// How many rows of each table the queries since then read, asked once more, and how PostgreSQL goes about it.
    pub(crate) async fn read_since(&mut self, mark: usize) -> (BTreeMap<String, u64>, String) {
        let (mut rows, mut plans) = (BTreeMap::new(), String::new());
        for query in self.executed_since(mark).into_iter().filter(|query| query.starts_with("SELECT")) {
            let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) {query}");
            let row = self.superuser.fetch_one(AssertSqlSafe(explain)).await.unwrap();
            let plan: Value = row.get(0);
            add_rows(&plan[0]["Plan"], &mut rows);
            writeln!(plans, "{query}\n{plan:#}").unwrap();
        }
        (rows, plans)
    }
}

/// `$1` and so on replaced by what the log says they were, highest number first.
fn with_values(query: &str, values: &str) -> String {
    let mut rest = values;
    let mut literals = Vec::new();
    while let Some((name, behind)) = rest.split_once(" = ") {
        let end = if behind.starts_with('\'') {
            let mut end = 1;
            while behind[end..].starts_with("''") || !behind[end..].starts_with('\'') {
                end += if behind[end..].starts_with("''") { 2 } else { 1 };
            }
            end + 1
        } else {
            behind.find(',').unwrap_or(behind.len())
        };
        literals.push((name.trim_start_matches(", ").to_owned(), behind[..end].to_owned()));
        rest = &behind[end..];
    }
    literals.into_iter().rev().fold(query.to_owned(), |query, (name, literal)| query.replace(&name, &literal))
}

fn add_rows(plan: &Value, rows: &mut BTreeMap<String, u64>) {
    if let Some(table) = plan["Relation Name"].as_str() {
        let number = |name: &str| plan[name].as_f64().unwrap_or(0.0);
        let read = number("Actual Rows")
            + number("Rows Removed by Filter")
            + number("Rows Removed by Index Recheck");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows")]
        let read = (read * number("Actual Loops")).ceil() as u64;
        *rows.entry(table.to_owned()).or_default() += read;
    }
    for part in plan["Plans"].as_array().into_iter().flatten() {
        add_rows(part, rows);
    }
}

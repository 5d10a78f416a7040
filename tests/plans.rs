//! A page reads no more than a page, however long the list is.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use crate::support::{Organization, Statements, TestApp, User, fill_activity};

/// How many users and activities there are.
const MANY: u32 = 20_000;
/// What a request reads beside its page: who asks, his session, the counts.
const BESIDE: u64 = 20;

/// As many users as there are activities: one in a hundred an admin, one in a thousand inactive.
async fn fill_users(app: &TestApp, organization: &Organization) {
    let sql = format!(
        r#"SET search_path TO "{}";
        INSERT INTO users (pk, username, username_key, email, email_key, password_hash, first_name, last_name, role, is_active,
                comment_count, date_joined)
            SELECT gen_random_uuid(), 'user' || n, 'user' || n, n || '@a.example', n || '@a.example', '', 'First' || n % 100,
                'Last' || n % 90, CASE WHEN n % 100 = 0 THEN 'admin' ELSE 'member' END, n % 1000 <> 0, n % 30,
                timestamptz '2025-01-01Z' + n * interval '1 minute'
            FROM generate_series(1, {MANY}) AS n;
        DELETE FROM lists WHERE kind LIKE 'users%';
        INSERT INTO lists (kind, owner, numbered, numbered_at)
            SELECT 'users ' || role || ' ' || is_active::text, '00000000-0000-0000-0000-000000000000', count(*), now()
            FROM users GROUP BY role, is_active;
        RESET search_path"#,
        organization.schema()
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
}

async fn analyze(app: &TestApp) {
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut app.superuser().await).await.unwrap();
}

struct Looks {
    statements: Statements,
    user: User,
}

impl Looks {
    async fn at(app: &TestApp, organization: &Organization) -> (TestApp, Self) {
        analyze(app).await;
        let statements = Statements::of(app, organization).await;
        // Its connections are logged.
        let beside = app.beside().await;
        let user = organization.owner.at(&beside);
        // What is asked once a process is asked now.
        user.get("/api/current_user/").await;
        (beside, Self { statements, user })
    }

    /// What a page reads, by table.
    async fn read(&mut self, path: &str) -> (u64, BTreeMap<String, u64>, String) {
        let mark = self.statements.mark();
        let page = self.user.get(path).await;
        let (rows, plans) = self.statements.read_since(mark).await;
        (page["results"].as_array().unwrap().len() as u64, rows, plans)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_what_happened_reads_a_page() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    fill_users(&app, &acme).await;
    fill_activity(&app, &acme, MANY).await;
    let (_beside, mut looks) = Looks::at(&app, &acme).await;
    let of_user = {
        let rows = looks.user.get("/api/activity/").await;
        format!("/api/users/{}/activity/", rows["results"][0]["actor"]["pk"].as_str().unwrap())
    };
    for path in ["/api/activity/", &of_user] {
        for filter in ["", "&verb=commented"] {
            for page in ["page=1", "page=3", "page=last", "page=last&ordering=created_at"] {
                let path = format!("{path}?page_size=10&{page}{filter}");
                let (shown, rows, plans) = looks.read(&path).await;
                assert!(shown > 0, "{path}");
                assert_eq!(rows.get("activities"), Some(&shown), "{path}: {rows:?}\n{plans}");
                // The actor of each, and what it is about.
                assert!(rows["users"] <= 2 * shown + BESIDE, "{path}: {rows:?}\n{plans}");
                assert!(rows["lists"] <= BESIDE, "{path}: {rows:?}\n{plans}");
            }
            let path =
                format!("{path}?page_size=10{filter}&since=2025-12-03T00:00:00Z&until=2025-12-12T07:08:09Z");
            let (shown, rows, plans) = looks.read(&path).await;
            assert_eq!(shown, 10, "{path}");
            // Three rounds of 32 rows for each boundary.
            assert!(rows["activities"] <= shown + 2 * 3 * 32, "{path}: {rows:?}\n{plans}");
        }
    }
    let (shown, rows, plans) = looks.read("/api/activity/?page=1000").await;
    assert_eq!((shown, rows.get("activities")), (20, Some(&20)), "{plans}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_users_reads_a_page_in_every_order() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    fill_users(&app, &acme).await;
    let (_beside, mut looks) = Looks::at(&app, &acme).await;
    for order in ["username", "email", "first_name", "last_name", "date_joined", "comment_count"] {
        for sign in ["", "-"] {
            // The last page is read from the end.
            for page in ["1", "last"] {
                let path = format!("/api/users/?page_size=20&ordering={sign}{order}&page={page}");
                let (shown, rows, plans) = looks.read(&path).await;
                assert!(shown > 0, "{path}");
                assert!(rows["users"] <= shown + BESIDE, "{path}: {rows:?}\n{plans}");
            }
            // In between, what comes before is passed over, in the index: no more than half of the list, and never all of it
            // to sort it.
            let path = format!("/api/users/?page_size=20&ordering={sign}{order}&page=700");
            let (_, rows, plans) = looks.read(&path).await;
            assert!(rows["users"] <= u64::from(MANY) * 3 / 10 + BESIDE + 20, "{path}: {rows:?}\n{plans}");
            assert!(!plans.contains("Sort Key"), "{path}: {plans}");
        }
    }
    for filter in ["role=admin", "role=member", "role=owner", "is_active=true", "is_active=false"] {
        let path = format!("/api/users/?page_size=20&{filter}");
        let (shown, rows, plans) = looks.read(&path).await;
        assert!(shown > 0, "{path}");
        assert!(rows["users"] <= shown + BESIDE, "{path}: {rows:?}\n{plans}");
    }
}

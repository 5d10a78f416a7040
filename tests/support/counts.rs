//! That what is counted is what is there.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};

use super::{Organization, TestApp};

/// The rows of every numbered list, as the tables have them.
const ROWS: &str = "rows (kind, owner, number, at, unread) AS (
        SELECT 'page', user_pk, number, created_at, false FROM comments WHERE parent IS NULL
        UNION ALL SELECT 'replies', parent, number, created_at, false FROM comments WHERE parent IS NOT NULL
        UNION ALL SELECT 'inbox', user_pk, number, created_at, read_at IS NULL FROM notifications
            WHERE number IS NOT NULL
        UNION ALL SELECT 'activity', nil, number, created_at, false FROM activities
        UNION ALL SELECT 'activity ' || verb, nil, verb_number, created_at, false FROM activities
        UNION ALL SELECT 'activity', actor_pk, actor_number, created_at, false FROM activities
            WHERE actor_pk IS NOT NULL
        UNION ALL SELECT 'activity ' || verb, actor_pk, actor_verb_number, created_at, false FROM activities
            WHERE actor_pk IS NOT NULL)";

/// What is wrong, one sentence a row.
const WRONG: &str = "
    SELECT format('%s has %s comments, counted as %s', username, there, comment_count) FROM (
        SELECT username, comment_count, (SELECT count(*) FROM comments WHERE user_pk = pk AND NOT is_deleted) AS there
        FROM users) AS u WHERE there <> comment_count
    UNION ALL SELECT format('comment %s has %s replies, counted as %s', id, there, reply_count) FROM (
        SELECT id, reply_count, (SELECT count(*) FROM comments AS r WHERE r.parent = c.id) AS there
        FROM comments AS c) AS c WHERE there <> reply_count
    UNION ALL SELECT format('comment %s is deleted and has no replies', id) FROM comments
        WHERE is_deleted AND reply_count = 0
    UNION ALL SELECT format('list %s of %s: %s rows up to %s at %s, counted as %s up to %s at %s', kind, owner, there,
            last, latest, numbered - removed, numbered, numbered_at)
        FROM (SELECT kind, owner, count(*) AS there, max(number) AS last, max(at) AS latest FROM rows
            GROUP BY kind, owner) AS r
        FULL JOIN (SELECT * FROM lists WHERE kind IN ('page', 'replies', 'inbox') OR kind LIKE 'activity%') AS l
            USING (kind, owner)
        WHERE coalesce(there, 0) IS DISTINCT FROM numbered - removed OR last > numbered
            -- What is in several lists has the time of the one of all.
            OR latest > numbered_at AND (kind NOT LIKE 'activity%' OR kind = 'activity' AND owner = nil)
    UNION ALL SELECT format('block %s of %s of %s: %s rows, %s unread, counted as %s, %s', block, kind, owner, there,
            not_read, total, unread)
        FROM (SELECT kind, owner, number / 1024 AS block, count(*) AS there, count(*) FILTER (WHERE unread) AS not_read
            FROM rows WHERE kind IN ('page', 'replies', 'inbox') GROUP BY kind, owner, block) AS r
        FULL JOIN list_blocks USING (kind, owner, block)
        WHERE coalesce(there, 0) IS DISTINCT FROM total OR coalesce(not_read, 0) IS DISTINCT FROM unread
    UNION ALL SELECT format('%s of %s: number %s is not later than the one before', kind, owner, number)
        FROM (SELECT *, lag(at) OVER (PARTITION BY kind, owner ORDER BY number) AS before FROM rows) AS r
        WHERE before >= at
    UNION ALL SELECT format('list %s is of nobody: %s', kind, owner) FROM lists
        WHERE owner <> nil AND owner NOT IN (SELECT pk FROM users UNION SELECT id FROM comments)
    UNION ALL SELECT format('a block of list %s is of nobody: %s', kind, owner) FROM list_blocks
        WHERE owner NOT IN (SELECT pk FROM users UNION SELECT id FROM comments)";

/// What is counted otherwise in a schema than it is there, one sentence each.
pub(crate) async fn wrong_counts(superuser: &mut PgConnection, schema: &str) -> Vec<String> {
    superuser.execute(AssertSqlSafe(format!(r#"SET search_path TO "{schema}""#))).await.unwrap();
    let nil = "'00000000-0000-0000-0000-000000000000'::uuid";
    let sql = format!("WITH {ROWS} {WRONG}").replace("nil", nil);
    let rows = superuser.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Compares all that is counted in an organization with the rows: comments of users, replies, lists and their blocks; and
/// that each list is in the order of its times.
#[track_caller]
pub(crate) fn assert_counts<'a>(
    app: &'a TestApp,
    organization: &'a Organization,
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let wrong = wrong_counts(&mut app.superuser().await, organization.schema().as_str()).await;
        assert!(wrong.is_empty(), "at {caller}:\n{}", wrong.join("\n"));
    }
}

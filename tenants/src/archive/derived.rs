//! What follows from the rows of a tenant is made anew: how many there are of what, and which place each has in its lists.
//! The archive has no say in it, so it cannot be wrong, whoever wrote it; and a tenant whose counts had gone wrong comes back
//! with right ones.
//!
//! What is right already is only read: of an archive that is as it was written, nothing but the lists is written here.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::error::ArchiveError;
use crate::{
    db::CatalogTx,
    lists::{
        BLOCK,
        kinds::{ACTIVITY, INBOX, PAGE, REPLIES, USERS},
    },
};

/// What waits to be mailed is in no archive.
const NO_MAIL_WAITS: &str = "UPDATE notifications SET mail = NULL WHERE mail IS NOT NULL";

/// What is counted where it is shown: the comments on a page that are not deleted, and the replies to a comment.
const COUNTS: [&str; 4] = [
    "UPDATE users u SET comment_count = c.count FROM (\
         SELECT user_pk, count(*)::int AS count FROM comments WHERE NOT is_deleted GROUP BY user_pk) AS c \
     WHERE u.pk = c.user_pk AND u.comment_count <> c.count",
    "UPDATE users u SET comment_count = 0 WHERE comment_count <> 0 \
     AND NOT EXISTS (SELECT FROM comments c WHERE c.user_pk = u.pk AND NOT c.is_deleted)",
    "UPDATE comments p SET reply_count = r.count FROM (\
         SELECT parent, count(*)::int AS count FROM comments WHERE parent IS NOT NULL GROUP BY parent) AS r \
     WHERE p.id = r.parent AND p.reply_count <> r.count",
    "UPDATE comments p SET reply_count = 0 WHERE reply_count <> 0 \
     AND NOT EXISTS (SELECT FROM comments r WHERE r.parent = p.id)",
];

/// Whether what happened is not numbered as it has to be in one of its four lists: one after the other, as it happened. Each
/// list is read in the order of an index.
const IS_MISNUMBERED: [&str; 4] = [
    "SELECT 1 AS found FROM (SELECT number, created_at, lag(number) OVER w AS before, lag(created_at) OVER w AS earlier \
         FROM activities WINDOW w AS (ORDER BY number)) AS a \
     WHERE number <> before + 1 OR created_at < earlier LIMIT 1",
    "SELECT 1 AS found FROM (SELECT number, verb_number AS n, lag(verb_number) OVER w AS before, lag(number) OVER w AS earlier \
         FROM activities WINDOW w AS (PARTITION BY verb ORDER BY verb_number)) AS a \
     WHERE n <> before + 1 OR number < earlier LIMIT 1",
    "SELECT 1 AS found FROM (SELECT number, actor_number AS n, lag(actor_number) OVER w AS before, lag(number) OVER w AS earlier \
         FROM activities WHERE actor_pk IS NOT NULL WINDOW w AS (PARTITION BY actor_pk ORDER BY actor_number)) AS a \
     WHERE n IS NULL OR n <> before + 1 OR number < earlier LIMIT 1",
    "SELECT 1 AS found FROM (\
         SELECT number, actor_verb_number AS n, lag(actor_verb_number) OVER w AS before, lag(number) OVER w AS earlier \
         FROM activities WHERE actor_pk IS NOT NULL \
         WINDOW w AS (PARTITION BY actor_pk, verb ORDER BY actor_verb_number)) AS a \
     WHERE n IS NULL OR n <> before + 1 OR number < earlier LIMIT 1",
];

/// Numbers what happened anew, in all lists. The key is unique at every moment, so new numbers are negative until none of
/// the old ones is left.
const NUMBER_ANEW: [&str; 2] = [
    "UPDATE activities a SET number = -n.number, verb_number = n.verb_number, actor_number = n.actor_number, \
         actor_verb_number = n.actor_verb_number \
     FROM (SELECT number AS old, row_number() OVER (ORDER BY created_at, number) AS number, \
             row_number() OVER (PARTITION BY verb ORDER BY created_at, number) AS verb_number, \
             row_number() OVER (PARTITION BY actor_pk ORDER BY created_at, number) AS actor_number, \
             row_number() OVER (PARTITION BY actor_pk, verb ORDER BY created_at, number) AS actor_verb_number \
         FROM activities) AS n WHERE a.number = n.old",
    "UPDATE activities SET number = -number",
];

/// The owner of what belongs to all.
const ALL: &str = "'00000000-0000-0000-0000-000000000000'::uuid";

/// The statements that count the rows of all lists.
fn lists() -> [String; 5] {
    let comments = format!(
        "CASE WHEN parent IS NULL THEN '{PAGE}' ELSE '{REPLIES}' END AS kind, coalesce(parent, user_pk) AS owner"
    );
    [
        "DELETE FROM lists; DELETE FROM list_blocks".to_owned(),
        // What is only counted has no numbers, and needs no time either.
        format!(
            "INSERT INTO lists (kind, owner, numbered, numbered_at) \
             SELECT '{USERS} ' || role || ' ' || is_active::text, {ALL}, count(*), to_timestamp(0) \
             FROM users GROUP BY role, is_active"
        ),
        // Lists that lose rows anywhere: by blocks first, for the whole is what its blocks are together.
        format!(
            "WITH blocks AS (\
                 SELECT {comments}, number / {BLOCK} AS block, count(*)::int AS total, 0 AS unread, \
                     max(number) AS numbered, max(created_at) AS numbered_at FROM comments GROUP BY 1, 2, 3 \
                 UNION ALL SELECT '{INBOX}', user_pk, number / {BLOCK}, count(*)::int, \
                     count(*) FILTER (WHERE read_at IS NULL)::int, max(number), max(created_at) \
                     FROM notifications WHERE number IS NOT NULL GROUP BY 2, 3), \
             written AS (INSERT INTO list_blocks (kind, owner, block, total, unread) \
                 SELECT kind, owner, block, total, unread FROM blocks) \
             INSERT INTO lists (kind, owner, numbered, removed, numbered_at) \
             SELECT kind, owner, max(numbered), max(numbered) - sum(total), max(numbered_at) FROM blocks GROUP BY kind, owner"
        ),
        // Lists that lose only their oldest rows: of all, of a verb, of an actor, of both.
        format!(
            "INSERT INTO lists (kind, owner, numbered, removed, numbered_at) \
             SELECT '{ACTIVITY}' || CASE WHEN GROUPING(verb) = 0 THEN ' ' || verb ELSE '' END, \
                 CASE WHEN GROUPING(actor_pk) = 0 THEN actor_pk ELSE {ALL} END, \
                 CASE GROUPING(actor_pk, verb) WHEN 3 THEN max(number) WHEN 2 THEN max(verb_number) \
                     WHEN 1 THEN max(actor_number) ELSE max(actor_verb_number) END, \
                 CASE GROUPING(actor_pk, verb) WHEN 3 THEN min(number) WHEN 2 THEN min(verb_number) \
                     WHEN 1 THEN min(actor_number) ELSE min(actor_verb_number) END - 1, \
                 max(created_at) \
             FROM activities GROUP BY GROUPING SETS ((), (verb), (actor_pk), (actor_pk, verb)) \
             HAVING count(*) > 0 AND (GROUPING(actor_pk) = 1 OR actor_pk IS NOT NULL)"
        ),
        "ANALYZE lists, list_blocks".to_owned(),
    ]
}

/// Makes anew what follows from the rows. The path leads to the schema.
pub(super) async fn settle(transaction: &CatalogTx) -> Result<(), ArchiveError> {
    // What is written is text of this program; what it comes to may be too large for its column, because the rows are such.
    let run = async |sql: &str| transaction.batch(sql).await.map_err(ArchiveError::of_contents);
    for sql in [NO_MAIL_WAITS].iter().chain(&COUNTS) {
        run(sql).await?;
    }
    if is_misnumbered(transaction).await? {
        for sql in NUMBER_ANEW {
            run(sql).await?;
        }
    }
    for sql in lists() {
        run(&sql).await?;
    }
    Ok(())
}

async fn is_misnumbered(transaction: &CatalogTx) -> Result<bool, DbErr> {
    for sql in IS_MISNUMBERED {
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        if transaction.query_one_raw(statement).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

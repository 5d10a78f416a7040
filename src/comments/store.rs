//! The rows of comments.
//!
//! Each change counts itself, in one statement: on the page's owner and on the comment that is replied to.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, IntoActiveModel as _,
    PaginatorTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect, QueryTrait, RelationTrait, Select,
    sea_query::{
        CommonTableExpression, Expr, ExprTrait as _, JoinType, Order, Query, SimpleExpr, SubQueryStatement,
        UpdateStatement, WithClause,
    },
};
use serde_json::Value;
use tenants::{
    TenantTx,
    lists::{self, List, Start, kinds},
};
use uuid::Uuid;

use crate::{
    entity::{
        comments::{ActiveModel, Column, Entity, Model, Relation},
        users,
    },
    http::page::Window,
    search::all_words,
    users::PersonOut,
};

/// A comment and who wrote it.
pub(super) struct Signed {
    pub(super) comment: Model,
    pub(super) author: Option<PersonOut>,
}

/// What the author's columns are called beside the comment's.
const AUTHOR: [(users::Column, &str); 3] = [
    (users::Column::Username, "author_username"),
    (users::Column::FirstName, "author_first_name"),
    (users::Column::LastName, "author_last_name"),
];

impl FromQueryResult for Signed {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let comment = Model::from_query_result(row, prefix)?;
        let [username, first_name, last_name] = AUTHOR.map(|(_, name)| row.try_get(prefix, name));
        let author = PersonOut::joined(comment.author_pk, username?, first_name?, last_name?);
        Ok(Self { comment, author })
    }
}

fn signed(select: Select<Entity>) -> Select<Entity> {
    let select = select.join(JoinType::LeftJoin, Relation::Author.def());
    AUTHOR.into_iter().fold(select, |select, (column, name)| select.column_as(column, name))
}

/// One of the lists that comments are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thread {
    /// What stands on this user's page, without the replies.
    Page(Uuid),
    /// The replies to this comment.
    Replies(Uuid),
}

impl Thread {
    /// The list a comment is in.
    pub(super) fn of(comment: &Model) -> Self {
        comment.parent.map_or(Self::Page(comment.user_pk), Self::Replies)
    }

    /// Its numbers.
    pub(super) fn list(self) -> List {
        match self {
            Self::Page(user) => List::of(kinds::PAGE, user),
            Self::Replies(comment) => List::of(kinds::REPLIES, comment),
        }
    }

    fn select(self) -> Select<Entity> {
        match self {
            Self::Page(user) => {
                Entity::find().filter(Column::UserPk.eq(user)).filter(Column::Parent.is_null())
            }
            Self::Replies(comment) => Entity::find().filter(Column::Parent.eq(comment)),
        }
    }
}

/// A comment.
pub(super) async fn find(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Signed>, DbErr> {
    signed(Entity::find_by_id(id)).into_model().one(db).await
}

/// A comment and the one it replies to, that one first. Neither is locked.
pub(super) async fn look_at(db: &impl ConnectionTrait, id: Uuid) -> Result<Vec<Model>, DbErr> {
    let parent = Entity::find_by_id(id).select_only().column(Column::Parent).into_query();
    // `= (SELECT …)`, which is looked up by the index; `IN (SELECT …)` beside an OR reads the whole table.
    let parent = SimpleExpr::SubQuery(None, Box::new(parent.into()));
    let either = Condition::any().add(Column::Id.eq(id)).add(Column::Id.into_expr().eq(parent));
    parents_first(Entity::find().filter(either)).all(db).await
}

/// Those of these comments that are there, what is replied to first, whom nobody else changes before the end of this
/// transaction.
pub(super) async fn lock(tx: &TenantTx, ids: impl IntoIterator<Item = Uuid>) -> Result<Vec<Model>, DbErr> {
    parents_first(Entity::find().filter(Column::Id.is_in(ids))).lock_exclusive().all(tx).await
}

fn parents_first(select: Select<Entity>) -> Select<Entity> {
    // Whoever is no reply has no parent, and PostgreSQL puts that first when it goes downwards.
    select.order_by_desc(Column::Parent).order_by_asc(Column::Id)
}

/// How many replies a comment has; `None` if it is not there.
pub(super) async fn reply_count(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<i32>, DbErr> {
    Entity::find_by_id(id).select_only().column(Column::ReplyCount).into_tuple().one(db).await
}

/// How many of a thread have all of these words.
pub(super) async fn count(db: &impl ConnectionTrait, thread: Thread, words: &[String]) -> Result<u64, DbErr> {
    thread.select().filter(all_words(words, &[Column::Body])).count(db).await
}

/// A page of a thread, of those with all of these words.
pub(super) async fn list(
    db: &impl ConnectionTrait,
    thread: Thread,
    words: &[String],
    start: Start,
    descending: bool,
    window: &Window,
) -> Result<Vec<Signed>, DbErr> {
    let (from, order) = if descending {
        (Column::Number.lte(start.number), Order::Desc)
    } else {
        (Column::Number.gte(start.number), Order::Asc)
    };
    let these = thread.select().filter(from).filter(all_words(words, &[Column::Body]));
    let these = these.order_by(Column::Number, order).offset(start.skip).limit(window.limit);
    signed(these).into_model().all(db).await
}

/// Writes a comment.
pub(super) async fn insert(tx: &TenantTx, comment: Model) -> Result<(), DbErr> {
    let counts = counts(&comment, 1);
    let insert = Entity::insert(comment.into_active_model()).into_query();
    counted(tx, counts, insert).await
}

/// Deletes a comment that has no replies.
pub(super) async fn delete(tx: &TenantTx, comment: &Model) -> Result<(), DbErr> {
    let delete = Entity::delete_by_id(comment.id).into_query();
    counted(tx, counts(comment, -1), delete).await
}

/// Deletes the place of a comment whose last reply is gone. It was not counted any more.
pub(super) async fn delete_place(tx: &TenantTx, id: Uuid) -> Result<(), DbErr> {
    Entity::delete_by_id(id).exec(tx).await.map(|_| ())
}

/// Leaves nothing of a comment but its place.
pub(super) async fn bury(tx: &TenantTx, comment: &Model) -> Result<(), DbErr> {
    let buried = ActiveModel {
        body: Set(String::new()),
        author_pk: Set(None),
        mentions: Set(Value::Array(Vec::new())),
        is_deleted: Set(true),
        edited_at: Set(None),
        ..Default::default()
    };
    let bury = Entity::update_many().set(buried).filter(Column::Id.eq(comment.id)).into_query();
    counted(tx, counts(comment, -1), bury).await
}

/// Changes the text of a comment.
pub(super) async fn edit(
    tx: &TenantTx,
    id: Uuid,
    body: String,
    mentions: Value,
    now: DateTime<Utc>,
) -> Result<Model, DbErr> {
    let edited = ActiveModel {
        id: Set(id),
        body: Set(body),
        mentions: Set(mentions),
        edited_at: Set(Some(now)),
        ..Default::default()
    };
    edited.update(tx).await
}

/// What counts a comment: one more or one less.
fn counts(comment: &Model, by: i32) -> Vec<UpdateStatement> {
    let on_page = Query::update()
        .table(users::Entity)
        .value(users::Column::CommentCount, Expr::col(users::Column::CommentCount).add(by))
        .and_where(users::Column::Pk.eq(comment.user_pk))
        .take();
    let replies = comment.parent.map(|parent| {
        Query::update()
            .table(Entity)
            .value(Column::ReplyCount, Expr::col(Column::ReplyCount).add(by))
            .and_where(Column::Id.eq(parent))
            .take()
    });
    [on_page].into_iter().chain(replies).collect()
}

/// One statement instead of three: each is a way to the database and back, while others wait for the locks.
async fn counted(
    tx: &TenantTx,
    counts: Vec<UpdateStatement>,
    change: impl Into<SubQueryStatement>,
) -> Result<(), DbErr> {
    let mut with = WithClause::new();
    for (count, name) in counts.into_iter().zip(["on_page", "replies"]) {
        with.cte(CommonTableExpression::new().table_name(name).query(count).to_owned());
    }
    tx.execute(&with.query(change)).await.map(|_| ())
}

/// Deletes all that stands on the page of a user who is locked and about to go, and forgets how long the threads were.
/// Before the user himself: his row would take all of it along, but not the numbers of the threads.
///
/// # Errors
/// Those of the database.
pub async fn forget_page(tx: &TenantTx, user: Uuid) -> Result<(), DbErr> {
    let threads = Thread::Page(user).select().select_only().column(Column::Id).into_query();
    lists::forget_of(tx, threads).await?;
    let on_page = Entity::delete_many().filter(Column::UserPk.eq(user));
    // Replies first: then there are none for each comment to take along.
    on_page.clone().filter(Column::Parent.is_not_null()).exec(tx).await?;
    on_page.exec(tx).await.map(|_| ())
}

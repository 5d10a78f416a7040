//! The list of users, and how many there are.
//!
//! Users are counted by role and by whether they may sign in, in the transactions that change that, so that no list has to
//! be read to know how long it is.

use sea_orm::{
    ActiveEnum as _, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, Iterable as _, Order as Direction,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select, sea_query::Expr,
};
use tenants::lists::{self, List, kinds};

use super::{
    Account,
    api::{UserOut, Users},
};
use crate::{
    entity::users::{Column, Entity, Role},
    error::ServiceError,
    http::{
        Page, PageQuery, Problem,
        page::{Order, Window},
    },
    search::all_words,
};

/// How many users a search finds at most. To count them it looks at everybody, if need be; who finds that many looks for
/// something else.
const MAX_FOUND: u64 = 10_000;

/// What users with this standing are counted by.
pub(super) fn list_of(role: Role, is_active: bool) -> List {
    List::the(format!("{} {} {is_active}", kinds::USERS, role.to_value()))
}

/// How many users there are.
///
/// # Errors
/// Those of the database.
pub async fn count_all(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    count(db, Filter { words: &[], role: None, is_active: None }).await
}

/// Which users a list shows.
#[derive(Clone, Copy, Debug)]
struct Filter<'a> {
    words: &'a [String],
    role: Option<Role>,
    is_active: Option<bool>,
}

impl Filter<'_> {
    fn select(&self) -> Select<Entity> {
        use sea_orm::sea_query::ExprTrait as _;

        const SEARCHED: [Column; 4] = [Column::Username, Column::Email, Column::FirstName, Column::LastName];
        let condition = all_words(self.words, &SEARCHED)
            .add_option(self.role.map(|role| Column::Role.eq(role)))
            // Said so that it is what the index of the few is made of.
            .add_option(self.is_active.map(|is_active| {
                let is = Expr::col((Entity, Column::IsActive));
                if is_active { is } else { is.not() }
            }));
        Entity::find().filter(condition)
    }
}

/// How many users a list shows. A search has to look at them, and finds no more than [`MAX_FOUND`].
async fn count(db: &impl ConnectionTrait, filter: Filter<'_>) -> Result<u64, DbErr> {
    if !filter.words.is_empty() {
        return filter.select().limit(MAX_FOUND).count(db).await;
    }
    let roles = Role::iter().filter(|role| filter.role.is_none_or(|wanted| wanted == *role));
    let standings = roles.flat_map(|role| [(role, true), (role, false)]);
    let wanted =
        standings.filter(|(_, is_active)| filter.is_active.is_none_or(|wanted| wanted == *is_active));
    let counted: Vec<List> = wanted.map(|(role, is_active)| list_of(role, is_active)).collect();
    lists::count(db, &counted).await
}

/// A page of a list that shows so many users. What lies behind its middle is read from its end, which is nearer.
async fn list(
    db: &impl ConnectionTrait,
    filter: Filter<'_>,
    order: &[Order],
    window: &Window,
    count: u64,
) -> Result<Vec<Account>, DbErr> {
    let limit = window.limit.min(count.saturating_sub(window.offset));
    if limit == 0 {
        return Ok(Vec::new());
    }
    let behind = count - window.offset - limit;
    // What a search finds has more behind it than was counted.
    let backwards = behind < window.offset && filter.words.is_empty();
    let direction = |order: &Order| {
        if order.descending == backwards { Direction::Asc } else { Direction::Desc }
    };
    let mut select = filter.select();
    for order in order {
        select = select.order_by(column(order.field), direction(order));
    }
    // No two users have the same: the order is total, and that of the index.
    let is_unique = |order: &Order| matches!(order.field, "username" | "email");
    if !order.iter().any(is_unique) {
        // In the direction of the first criterion, so that one index serves both ways.
        select = select.order_by(Column::Pk, order.first().map_or(Direction::Asc, direction));
    }
    let select = select.offset(if backwards { behind } else { window.offset }).limit(limit);
    let mut users = select.into_partial_model::<Account>().all(db).await?;
    if backwards {
        users.reverse();
    }
    Ok(users)
}

/// A page of the users of the tenant in whose schema this connection runs.
///
/// # Errors
/// There is no such page, or those of the database.
pub async fn page(
    db: &impl ConnectionTrait,
    query: &PageQuery<Users>,
    role: Option<Role>,
    is_active: Option<bool>,
) -> Result<Page<UserOut>, Problem> {
    let filter = Filter { words: query.words(), role, is_active };
    let count = count(db, filter).await.map_err(ServiceError::from)?;
    let window = query.window(count)?;
    let users = list(db, filter, query.order(), &window, count).await.map_err(ServiceError::from)?;
    Ok(query.page(&window, users.into_iter().map(Into::into).collect()))
}

/// The column a field of the contract is ordered by. Names are ordered as they are compared: whatever their case.
fn column(field: &str) -> Column {
    match field {
        "username" => Column::UsernameKey,
        "email" => Column::EmailKey,
        "first_name" => Column::FirstName,
        "last_name" => Column::LastName,
        "comment_count" => Column::CommentCount,
        _ => Column::DateJoined,
    }
}

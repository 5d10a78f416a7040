//! The rows of both logs.

use std::{fmt, str::FromStr};

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, ExprTrait as _, Query, UnionType},
};
use tenants::{Slug, entity::audit as installation};
use uuid::Uuid;

use crate::{
    entity::{audit, users},
    http::page::{Window, direction},
};

pub(super) async fn insert(db: &impl ConnectionTrait, row: installation::Model) -> Result<(), DbErr> {
    installation::Entity::insert(row.into_active_model()).exec_without_returning(db).await.map(|_| ())
}

pub(super) async fn insert_own(db: &impl ConnectionTrait, row: audit::Model) -> Result<(), DbErr> {
    audit::Entity::insert(row.into_active_model()).exec_without_returning(db).await.map(|_| ())
}

/// The tenant that entries are about, by its id or a slug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    // A slug may look like an id.
    id: Option<Uuid>,
    slug: Option<Slug>,
}

/// A text that is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id or the slug of a tenant is required")]
pub struct NobodysName;

impl FromStr for About {
    type Err = NobodysName;

    fn from_str(text: &str) -> Result<Self, NobodysName> {
        let about = Self { id: Uuid::try_parse(text).ok(), slug: text.parse().ok() };
        if about == (Self { id: None, slug: None }) { Err(NobodysName) } else { Ok(about) }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { slug: Some(slug), .. } => slug.fmt(f),
            Self { id, .. } => id.unwrap_or_default().fmt(f),
        }
    }
}

impl About {
    /// The tenants that are meant, none if nobody ever had the slug: the one of this id, and each that has the slug, or had it when something was done to it,
    /// whether it was renamed or purged since. Asked by itself, because they are few, which the planner does not see: with
    /// this as a subquery it reads the index of all entries (0.2 s of 1,000,000, and not 1 ms).
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tenants(&self, db: &impl ConnectionTrait) -> Result<Vec<Uuid>, DbErr> {
        let mut ids: Vec<Uuid> = self.id.into_iter().collect();
        if let Some(slug) = &self.slug {
            let now = Query::select()
                .column(Alias::new("id"))
                .from(Alias::new("tenants"))
                .and_where(Expr::col(Alias::new("slug")).eq(slug.as_str()))
                .take();
            let named = Query::select()
                .column(installation::Column::TenantId)
                .from(installation::Entity)
                .and_where(installation::Column::TenantSlug.eq(slug.as_str()))
                .union(UnionType::Distinct, now)
                .take();
            for row in db.query_all(&named).await? {
                ids.push(row.try_get_by_index(0)?);
            }
        }
        Ok(ids)
    }
}

fn of_tenants(ids: Option<&[Uuid]>) -> Condition {
    let these = ids.map(|ids| installation::Column::TenantId.is_in(ids.iter().copied()));
    Condition::all().add_option(these)
}

/// How many there are. An index alone answers: 0.1 s of 1,000,000 entries, and of one tenant's a thousand times less.
pub(super) async fn count(db: &impl ConnectionTrait, tenants: Option<&[Uuid]>) -> Result<u64, DbErr> {
    installation::Entity::find().filter(of_tenants(tenants)).count(db).await
}

pub(super) async fn list(
    db: &impl ConnectionTrait,
    tenants: Option<&[Uuid]>,
    descending: bool,
    window: &Window,
) -> Result<Vec<installation::Model>, DbErr> {
    installation::Entity::find()
        .filter(of_tenants(tenants))
        .order_by(installation::Column::CreatedAt, direction(descending))
        .order_by(installation::Column::Id, direction(descending))
        .offset(window.offset)
        .limit(window.limit)
        .all(db)
        .await
}

/// The latest entries of the installation's log, or of what it says of these tenants; the newest first.
///
/// # Errors
/// Those of the database.
pub async fn latest(
    db: &impl ConnectionTrait,
    tenants: Option<&[Uuid]>,
    limit: u64,
) -> Result<Vec<installation::Model>, DbErr> {
    installation::Entity::find()
        .filter(of_tenants(tenants))
        .order_by_desc(installation::Column::CreatedAt)
        .order_by_desc(installation::Column::Id)
        .limit(limit)
        .all(db)
        .await
}

/// The last entry that tells of this action, of a tenant of this id or slug.
///
/// # Errors
/// Those of the database.
pub async fn last_of(
    db: &impl ConnectionTrait,
    action: super::Action,
    id: Option<Uuid>,
    slug: Option<&str>,
) -> Result<Option<installation::Model>, DbErr> {
    installation::Entity::find()
        .filter(Condition::all().add_option(id.map(|id| installation::Column::TenantId.eq(id))))
        .filter(Condition::all().add_option(slug.map(|slug| installation::Column::TenantSlug.eq(slug))))
        .filter(installation::Column::Action.eq(action.as_str()))
        .order_by_desc(installation::Column::CreatedAt)
        .order_by_desc(installation::Column::Id)
        .one(db)
        .await
}

pub(super) async fn count_own(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    audit::Entity::find().count(db).await
}

/// Entries of the tenant's own log, and who did what they tell of.
pub(super) async fn list_own(
    db: &impl ConnectionTrait,
    descending: bool,
    window: &Window,
) -> Result<Vec<(audit::Model, Option<users::Model>)>, DbErr> {
    audit::Entity::find()
        .find_also_related(users::Entity)
        .order_by(audit::Column::CreatedAt, direction(descending))
        .order_by(audit::Column::Id, direction(descending))
        .offset(window.offset)
        .limit(window.limit)
        .all(db)
        .await
}

//! The one row of settings.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait as _},
};
use tenants::{Reached, TenantTx};

use crate::entity::settings::{ActiveModel, Column, Entity, Model, SignUpPolicy};

const SINGLETON: i16 = 1;

/// Writes the settings of a new tenant.
///
/// # Errors
/// Those of the database.
pub async fn create_settings(
    db: &impl ConnectionTrait,
    name: String,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = ActiveModel {
        singleton: Set(SINGLETON),
        name: Set(name),
        created_at: Set(now),
        ..Default::default()
    };
    Entity::insert(row).exec_without_returning(db).await.map(|_| ())
}

/// The organization's name, as its people know it.
///
/// # Errors
/// Those of the database.
pub async fn name(db: &impl ConnectionTrait) -> Result<String, DbErr> {
    Ok(settings(db).await?.map(|settings| settings.name).unwrap_or_default())
}

/// Whether operators may work in the names of the organization's people.
///
/// # Errors
/// Those of the database.
pub async fn allows_impersonation(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    Ok(settings(db).await?.is_some_and(|settings| settings.allow_impersonation))
}

/// For how many days what happened is kept.
///
/// # Errors
/// Those of the database.
pub async fn activity_retention(db: &impl ConnectionTrait) -> Result<Option<i32>, DbErr> {
    Ok(settings(db).await?.map(|settings| settings.activity_retention_days))
}

/// Decides for how many days what happened is kept.
///
/// # Errors
/// Those of the database.
pub async fn set_activity_retention(db: &impl ConnectionTrait, days: u16) -> Result<(), DbErr> {
    let row = ActiveModel { activity_retention_days: Set(days.into()), ..Default::default() };
    Entity::update_many().set(row).filter(Column::Singleton.eq(SINGLETON)).exec(db).await.map(|_| ())
}

pub(super) async fn settings(db: &impl ConnectionTrait) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(SINGLETON).one(db).await
}

/// The settings, which nobody else changes before the end of this transaction.
pub(super) async fn lock(tx: &TenantTx) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(SINGLETON).lock_exclusive().one(tx).await
}

/// Takes the settings for a change from outside, whatever else the schema's version has: nobody in the tenant changes them
/// before the end of this transaction.
///
/// # Errors
/// Those of the database.
pub async fn hold_settings(db: &Reached) -> Result<(), DbErr> {
    let row = Entity::find_by_id(SINGLETON).select_only().column(Column::Singleton).lock_exclusive();
    row.into_tuple::<i16>().one(db).await.map(|_| ())
}

/// Gives the organization another name, as its people know it.
///
/// # Errors
/// Those of the database.
pub async fn set_name(db: &Reached, name: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::Name, Expr::value(name));
    update.filter(Column::Singleton.eq(SINGLETON)).exec(db).await.map(|_| ())
}

/// Counts one more invitation, and returns the settings with it. Nobody else counts before the end of this transaction.
pub(super) async fn count_invitation(tx: &TenantTx) -> Result<Option<Model>, DbErr> {
    let one_more = Expr::col(Column::InvitationsSent).add(1);
    let update = Entity::update_many().col_expr(Column::InvitationsSent, one_more);
    Ok(update.filter(Column::Singleton.eq(SINGLETON)).exec_with_returning(tx).await?.pop())
}

/// What of the settings is to change.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) name: Option<String>,
    pub(super) sign_up_policy: Option<SignUpPolicy>,
    pub(super) allowed_email_domains: Option<Vec<String>>,
    pub(super) allow_impersonation: Option<bool>,
}

/// Changes the settings and returns them.
pub(super) async fn update(tx: &TenantTx, changes: Changes) -> Result<Option<Model>, DbErr> {
    let row = ActiveModel {
        name: set(changes.name),
        sign_up_policy: set(changes.sign_up_policy),
        allowed_email_domains: set(changes.allowed_email_domains.map(Into::into)),
        allow_impersonation: set(changes.allow_impersonation),
        ..Default::default()
    };
    if !row.is_changed() {
        return settings(tx).await;
    }
    let this = Column::Singleton.eq(SINGLETON);
    Ok(Entity::update_many().set(row).filter(this).exec_with_returning(tx).await?.pop())
}

fn set<T: Into<sea_orm::Value>>(value: Option<T>) -> ActiveValue<T> {
    value.map_or(ActiveValue::NotSet, Set)
}

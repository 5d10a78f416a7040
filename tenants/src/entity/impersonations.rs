//! Where operators work in the names of users.

use sea_orm::entity::prelude::*;

/// An operator's session in a user's name.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
// With its schema: written in transactions that run in a tenant's, too.
#[sea_orm(schema_name = "tenantry", table_name = "impersonations")]
pub struct Model {
    /// UUID v7; the id of the session in the tenant's schema.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// In which tenant.
    pub tenant_id: Uuid,
    /// In whose name.
    pub user_pk: Uuid,
    /// What that user was called then.
    pub username: String,
    /// The operator, if it is one.
    pub operator_id: Option<Uuid>,
    /// For people: the operator's address, or what else it is.
    pub actor: String,
    /// The API key it was asked for with.
    pub api_key_id: Option<Uuid>,
    /// What that is called.
    pub api_key_name: Option<String>,
    /// What for.
    pub reason: String,
    /// Whether nothing can be changed in it.
    pub is_read_only: bool,
    /// When it began.
    pub created_at: DateTimeUtc,
    /// When it ends by itself.
    pub expires_at: DateTimeUtc,
}

/// It relates to no other table.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

//! Keys by which programs act for an operator.

use sea_orm::entity::prelude::*;

/// An API key. The key itself is shown once and not kept.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    /// UUID v7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose it is.
    pub operator_id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// SHA-256 of the key. It has 256 random bits, so it needs neither salt nor work factor.
    pub key_hash: Vec<u8>,
    /// A list of `read`, `provision`, `destroy`.
    pub scopes: Json,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// From when on it is refused.
    pub expires_at: Option<DateTimeUtc>,
    /// When it was last seen.
    pub last_used_at: Option<DateTimeUtc>,
}

/// How keys relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Whose it is.
    #[sea_orm(
        belongs_to = "super::operators::Entity",
        from = "Column::OperatorId",
        to = "super::operators::Column::Id"
    )]
    Operators,
}

impl Related<super::operators::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Operators.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

//! Links that were mailed to users.

use sea_orm::entity::prelude::*;

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Purpose {
    /// To prove the address of an account.
    #[sea_orm(string_value = "verify_email")]
    VerifyEmail,
    /// To give an account another address.
    #[sea_orm(string_value = "change_email")]
    ChangeEmail,
    /// To choose another password.
    #[sea_orm(string_value = "reset_password")]
    ResetPassword,
}

/// A link: it works once, until it expires or a newer one for the same purpose is made.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub struct Model {
    /// The hash of the token in the link.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hash: Vec<u8>,
    /// Whose account it is about.
    pub user_pk: Uuid,
    /// What it is for.
    pub purpose: Purpose,
    /// The address it was mailed to: the new one, where it gives the account one.
    pub email: Option<String>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it stops working.
    pub expires_at: DateTimeUtc,
}

/// How tokens relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Whose it is.
    #[sea_orm(belongs_to = "super::users::Entity", from = "Column::UserPk", to = "super::users::Column::Pk")]
    Users,
}

impl Related<super::users::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Users.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

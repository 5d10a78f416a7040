//! The people of a tenant.

use poem_openapi::Enum;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// What somebody may do in the organization. In the database it is a text with a CHECK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Role {
    /// May do everything, make other owners too.
    #[sea_orm(string_value = "owner")]
    Owner,
    /// Manages people and settings.
    #[sea_orm(string_value = "admin")]
    Admin,
    /// Works here.
    #[sea_orm(string_value = "member")]
    Member,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// UUID v7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub pk: Uuid,
    /// As it was given.
    pub username: String,
    /// The username as it is compared: NFKC, case folded.
    pub username_key: String,
    /// As it was given; mails go to this.
    pub email: String,
    /// The e-mail as it is compared: lower case, the domain in its ASCII form.
    pub email_key: String,
    /// In the PHC string format.
    pub password_hash: String,
    /// May be empty.
    pub first_name: String,
    /// May be empty.
    pub last_name: String,
    /// What the person may do.
    pub role: Role,
    /// Whether the person may sign in.
    pub is_active: bool,
    /// When the address was proven to be the person's.
    pub email_verified_at: Option<DateTimeUtc>,
    /// A BCP 47 language tag.
    pub locale: String,
    /// A name of the IANA time zone database.
    pub timezone: String,
    /// The comments on the person's page that are not deleted.
    pub comment_count: i32,
    /// When the account was made.
    pub date_joined: DateTimeUtc,
}

/// How users relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Where the person is signed in.
    #[sea_orm(has_many = "super::sessions::Entity")]
    Sessions,
}

impl Related<super::sessions::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Sessions.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

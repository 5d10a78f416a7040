//! What a tenant decided about itself.

use poem_openapi::Enum;
use sea_orm::entity::prelude::*;
use serde::Serialize;

/// Who may sign up by himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Enum, Serialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum SignUpPolicy {
    /// Who was invited, or has an address in one of the allowed domains.
    #[sea_orm(string_value = "invite_only")]
    InviteOnly,
    /// Everybody.
    #[sea_orm(string_value = "open")]
    Open,
}

/// The one row of settings.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "settings")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub singleton: i16,
    /// The organization's name.
    pub name: String,
    /// Who may sign up.
    pub sign_up_policy: SignUpPolicy,
    /// A list of domains.
    pub allowed_email_domains: Json,
    /// Whether operators may act as a user.
    pub allow_impersonation: bool,
    /// When the organization was made: signed up, imported or cloned. The catalog has the same.
    pub created_at: DateTimeUtc,
    /// How many invitations were ever sent.
    pub invitations_sent: i32,
    /// For how many days what happened is kept.
    pub activity_retention_days: i32,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

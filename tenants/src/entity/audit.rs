//! What operators did. Entries are added; nobody may change or delete one.

use sea_orm::entity::prelude::*;

/// One deed. It says by itself who and what it was about, because all of them may be gone when somebody reads it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
// With its schema: written in transactions that run in a tenant's, too.
#[sea_orm(schema_name = "tenantry", table_name = "audit")]
pub struct Model {
    /// UUID v7. What concerns a tenant has the same one in the tenant's own log.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Who: the operator, if it was one.
    pub operator_id: Option<Uuid>,
    /// Who, for people: an e-mail address, or what else acted.
    pub actor: String,
    /// The API key it was done with.
    pub api_key_id: Option<Uuid>,
    /// What that key was called.
    pub api_key_name: Option<String>,
    /// What was done.
    pub action: String,
    /// To which tenant.
    pub tenant_id: Option<Uuid>,
    /// What the tenant was called when it began.
    pub tenant_slug: Option<String>,
    /// More, by the action; of a change what was before and after.
    pub detail: Json,
    /// From which address.
    pub ip: Option<String>,
    /// When.
    pub created_at: DateTimeUtc,
}

/// None: what an entry names may be gone.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

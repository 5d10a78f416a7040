//! What outlasts a request.

use sea_orm::entity::prelude::*;

/// One of them. It says by itself who began it and on what tenant, because both may be gone when somebody reads it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
// With its schema: left in transactions that run in a tenant's, too.
#[sea_orm(schema_name = "tenantry", table_name = "operations")]
pub struct Model {
    /// UUID v7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What is done.
    pub kind: String,
    /// To which tenant.
    pub tenant_id: Option<Uuid>,
    /// What the tenant was called when it was left.
    pub tenant_slug: Option<String>,
    /// Whether it changes the tenant as a whole, so that no other such may be under way.
    pub is_exclusive: bool,
    /// With what. No secrets.
    pub params: Json,
    /// `queued`, `running`, `succeeded` or `failed`.
    pub status: String,
    /// How much is done, in whatever it counts.
    pub done: i64,
    /// Of how much; null while nobody knows.
    pub total: Option<i64>,
    /// What came of it.
    pub result: Option<Json>,
    /// Why it failed, or the last attempt of it.
    pub error: Option<String>,
    /// Who left it, as the audit log has it: the operator, if it was one.
    pub operator_id: Option<Uuid>,
    /// Who, for people.
    pub actor: String,
    /// The API key it was left with.
    pub api_key_id: Option<Uuid>,
    /// What that key was called.
    pub api_key_name: Option<String>,
    /// From which address.
    pub ip: Option<String>,
    /// How often it was begun. It tells one holder of the lease from the next.
    pub attempts: i32,
    /// Until when whoever has it has it to himself; of a queued one, until when nobody takes it.
    pub leased_until: Option<DateTimeUtc>,
    /// When it was left.
    pub created_at: DateTimeUtc,
    /// When it was first begun.
    pub started_at: Option<DateTimeUtc>,
    /// When it succeeded or failed.
    pub finished_at: Option<DateTimeUtc>,
}

/// None: what an operation names may be gone.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

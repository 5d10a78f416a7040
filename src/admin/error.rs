//! Where the rules about tenants meet status codes.

use sea_orm::DbErr;
use tenants::Slug;

use crate::{error::ServiceError, http::Problem};

/// Why something could not be done with a tenant.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no such tenant.
    #[error("there is no such tenant")]
    NotFound,
    /// It is on its way out.
    #[error("the tenant is being deleted: restore it first")]
    Deleting,
    /// Something of it is gone already.
    #[error("the tenant is being purged: nothing brings it back")]
    BeingPurged,
    /// Another tenant has the slug, or had it not long ago.
    #[error("the slug {0} is taken")]
    SlugTaken(Slug),
    /// There is no such plan.
    #[error("there is no plan `{0}`")]
    NoSuchPlan(String),
    /// Somebody owns it.
    #[error("the tenant has an owner, who invites whom he wants")]
    HasOwner,
    /// Nobody said whom to invite, and nobody was invited before.
    #[error("nobody was invited before: say whom to invite")]
    NobodyToInvite,
    /// Its schema is older or newer than what this program reads.
    #[error(
        "the tenant's schema is at version {0}, which this program does not read: run `tenantry migrate`"
    )]
    NotServed(i32),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for AdminError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<tenants::Error> for AdminError {
    fn from(error: tenants::Error) -> Self {
        match error {
            tenants::Error::BeingPurged => Self::BeingPurged,
            error => Self::Service(error.into()),
        }
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NotFound => Self::not_found(),
            AdminError::Deleting => {
                Self::conflict("tenant_deleting", "The organization is being deleted: restore it first.")
            }
            AdminError::BeingPurged => {
                Self::conflict("tenant_purging", "The organization is being purged: nothing brings it back.")
            }
            AdminError::SlugTaken(slug) => Self::conflict("slug_taken", format!("The slug {slug} is taken.")),
            AdminError::NoSuchPlan(_) => Self::field("plan", "There is no such plan."),
            AdminError::HasOwner => {
                Self::conflict("has_owner", "The organization has an owner, who can invite others.")
            }
            AdminError::NobodyToInvite => Self::field("email", "This field is required."),
            AdminError::NotServed(_) => Self::unavailable(std::time::Duration::from_secs(30)),
            AdminError::Service(error) => error.into(),
        }
    }
}

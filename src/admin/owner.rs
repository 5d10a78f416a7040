//! The owner of an organization that an operator has made, and whose invitation was lost or has expired.

use serde_json::json;
use tenants::{Slug, Status, TenantAction};

use super::AdminError;
use crate::{
    audit::{self, Action, Actor},
    error::ServiceError,
    invitations::{self, OwnerInvited},
    state::App,
    users::{self, identity::Email},
};

/// Invites the owner of an organization that has none, up to the commit: this one, or whoever was invited before. The link
/// before stops working. The tenant's settings are to be taken first, so that of two who do it at once one comes second.
///
/// # Errors
/// [`AdminError::HasOwner`], [`AdminError::NobodyToInvite`], the tenant is not one to be joined, or those of the database.
pub async fn invite_owner(
    app: &App,
    action: &TenantAction,
    email: Option<&Email>,
    by: &Actor,
) -> Result<OwnerInvited, AdminError> {
    match action.status()? {
        Status::Deleting => return Err(AdminError::Deleting),
        Status::Purging => return Err(AdminError::BeingPurged),
        Status::Active | Status::Suspended => {}
    }
    let (reached, tenant) = (action.reached(), action.tenant());
    if !tenants::served_versions().contains(&tenant.schema_version) {
        return Err(AdminError::NotServed(tenant.schema_version));
    }
    // First, because it waits for somebody who is about to accept it: then he is seen as the owner he has become.
    let before = invitations::take_back_owner(reached, app.clock.now()).await?;
    if users::has_owner(reached).await? {
        return Err(AdminError::HasOwner);
    }
    let damaged = |what: &str| ServiceError::from(tenants::Error::Damaged(what.to_owned()));
    let again = match (email, &before) {
        (Some(email), _) => email.clone(),
        (None, Some(before)) => Email::parse(before).map_err(|_| damaged("an invitation's address"))?,
        (None, None) => return Err(AdminError::NobodyToInvite),
    };
    let slug: Slug = tenant.slug.parse().map_err(|_| damaged("a tenant's slug"))?;
    let invited = invitations::invite_owner(app, reached, (&slug, &tenant.name), &again).await?;
    let owner = |email: &str| json!({"owner": email});
    let detail = json!({"before": before.as_deref().map(owner), "after": owner(&invited.email)});
    let named = (tenant.id, tenant.slug.as_str(), tenant.schema_version);
    audit::record_of_tenant(app, reached, named, by, Action::TenantOwnerInvited, detail).await?;
    Ok(invited)
}

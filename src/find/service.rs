//! Looks a person's organizations up and writes to that person.

use std::collections::BTreeMap;

use tenants::{Status, TenantName};

use crate::{
    error::ServiceError,
    mail::{self, Letter, Mail, OrganizationLink, Recipient},
    state::App,
    tenant,
    throttle::{self, MAILS, ThrottleError},
    users::{self, identity::Email},
};

/// Mails the organizations that have an active user with this address to the address as they have it: what somebody typed
/// into a form is nobody's address. Nothing goes out if there are none.
pub(crate) async fn tell(app: &App, email: &str) -> Result<(), ServiceError> {
    let Ok(email) = Email::parse(email) else { return Ok(()) };
    let blind = users::blind(app, email.as_str());
    let mut found: BTreeMap<String, (Recipient, Vec<OrganizationLink>)> = BTreeMap::new();
    for id in app.tenancy.tenants_with_email(&blind).await? {
        let tenant = app.tenancy.resolver().resolve(TenantName::Id(id)).await?;
        let open = |tenant: &tenants::Tenant| tenant.status == Status::Active && tenant.is_served();
        let Some(tenant) = tenant.filter(|tenant| open(tenant)) else { continue };
        let url = app.site.tenant_url(&tenant.slug);
        let db = app.tenancy.database_of(tenant);
        // The index says where to look; whether the person is there, only the organization knows.
        let account = users::find_by_email(&db, &email).await?.filter(|account| account.is_active);
        let Some(account) = account else { continue };
        let link = OrganizationLink { name: tenant::name(&db).await?, url };
        found
            .entry(account.email.clone())
            .or_insert_with(|| (Recipient::from(&account), Vec::new()))
            .1
            .push(link);
    }
    // More than one only where organizations have the address in different capitals, which may be different mailboxes.
    for (to, organizations) in found.into_values() {
        match throttle::admit(app, app.tenancy.catalog(), &[(MAILS, &format!("find {}", to.email))]).await {
            Ok(_) => {}
            Err(ThrottleError::Throttled(_)) => continue,
            Err(ThrottleError::Service(error)) => return Err(error),
        }
        let letter = Letter { to, mail: Mail::Organizations { organizations }, expires_at: None };
        mail::post(app, app.tenancy.catalog(), letter).await?;
    }
    Ok(())
}

//! Looks a person's organizations up and writes to that person.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use tenants::{DataKey, LeasedJob, Status, TenantName};
use uuid::Uuid;

use crate::{
    error::ServiceError,
    jobs::{self, Task},
    mail::{Letter, Mail, OrganizationLink, Recipient},
    state::App,
    tenant,
    users::{self, identity::Email},
};

/// How often an organization that cannot be asked is asked again before the others are listed without it: a minute or
/// two, longer than most of what ends by itself.
const ATTEMPTS: i32 = 3;

/// Mails the organizations that have an active user with this address to the address as they have it: what somebody typed
/// into a form is nobody's address. Nothing goes out if there are none. Done again, it mails nobody twice.
pub(crate) async fn tell(app: &App, job: &LeasedJob, email: &str) -> Result<(), ServiceError> {
    let Ok(email) = Email::parse(email) else { return Ok(()) };
    let blind = users::blind(app, email.as_str());
    let mut found: BTreeMap<String, (Recipient, Vec<OrganizationLink>)> = BTreeMap::new();
    for id in app.tenancy.tenants_with_email(&blind).await? {
        match ask(app, id, &email).await {
            Ok(Some((to, organization))) => {
                found.entry(to.email.clone()).or_insert_with(|| (to, Vec::new())).1.push(organization);
            }
            Ok(None) => {}
            Err(error) if job.attempts < ATTEMPTS => return Err(error),
            Err(error) => tracing::warn!(tenant = %id, %error, "somebody is not told of an organization"),
        }
    }
    // More than one only where organizations have the address in different capitals, which may be different mailboxes.
    for (to, organizations) in found.into_values() {
        write(app, job, to, organizations).await?;
    }
    Ok(())
}

/// Whether this organization has an active user with this address, as it has it.
async fn ask(
    app: &App,
    id: Uuid,
    email: &Email,
) -> Result<Option<(Recipient, OrganizationLink)>, ServiceError> {
    let tenant = app.tenancy.resolver().resolve(TenantName::Id(id)).await?;
    let open = |tenant: &tenants::Tenant| tenant.status == Status::Active && tenant.is_served();
    let Some(tenant) = tenant.filter(|tenant| open(tenant)) else { return Ok(None) };
    let url = app.site.tenant_url(&tenant.slug);
    let db = app.tenancy.database_of(tenant);
    // The index says where to look; whether the person is there, only the organization knows.
    let account = users::find_by_email(&db, email).await?.filter(|account| account.is_active);
    let Some(account) = account else { return Ok(None) };
    let name = tenant::name(&db).await?;
    Ok(Some((Recipient::from(&account), OrganizationLink { name, url })))
}

/// Leaves the mail, or, where there were too many, all of it for later.
async fn write(
    app: &App,
    job: &LeasedJob,
    to: Recipient,
    organizations: Vec<OrganizationLink>,
) -> Result<(), ServiceError> {
    let counted = format!("find {}", to.email);
    let tx = app.tenancy.catalog().begin().await?;
    if let Some(wait) = jobs::mail_room(app, &tx, &counted).await? {
        drop(tx);
        let task = Task::FindOrganizations { email: to.email };
        return jobs::put_off(app, app.tenancy.catalog(), &task, &counted, wait).await;
    }
    // No address stands in a key in clear.
    let once = format!("mail of\0{}\0{}", job.id, to.email);
    let once = HEXLOWER.encode(&app.tenancy.key(DataKey::BlindIndex).mac(once.as_bytes()));
    let letter = Letter { to, mail: Mail::Organizations { organizations }, expires_at: None };
    if jobs::leave(app, &tx, &Task::Mail(letter), Some(format!("mail {once}"))).await? {
        tx.commit().await?;
    }
    Ok(())
}

//! The rules of a tenant's settings.

use std::collections::HashSet;

use sea_orm::ConnectionTrait;
use serde_json::{Map, Value, json};
use tenants::{Status, TenantTx, Which};
use uuid::Uuid;

use super::store::{self, Changes};
use crate::{
    activity::{self, Entry, Verb},
    audit::{self, Action},
    auth::Caller,
    entity::{
        settings::{Model, SignUpPolicy},
        users::Role,
    },
    error::ServiceError,
    http::Problem,
    references::Reference,
    state::App,
    users::{self, identity::Email},
};

/// Who may sign up by himself.
#[derive(Clone, Debug)]
pub struct SignUpRules {
    policy: SignUpPolicy,
    domains: HashSet<String>,
    /// The organization's name.
    pub organization: String,
}

impl SignUpRules {
    /// Whether there is anybody at all who may.
    #[must_use]
    pub fn admit_somebody(&self) -> bool {
        self.policy == SignUpPolicy::Open || !self.domains.is_empty()
    }

    /// Whether somebody with this address may.
    #[must_use]
    pub fn admit(&self, email: &Email) -> bool {
        self.policy == SignUpPolicy::Open || self.domains.contains(email.domain())
    }
}

/// Who may sign up by himself, and where.
///
/// # Errors
/// Those of the database.
pub async fn sign_up_rules(db: &impl ConnectionTrait) -> Result<SignUpRules, ServiceError> {
    let settings = store::settings(db).await?.ok_or_else(no_settings)?;
    let domains = serde_json::from_value(settings.allowed_email_domains)
        .map_err(|error| tenants::Error::Damaged(format!("the allowed domains of a tenant: {error}")))?;
    Ok(SignUpRules { policy: settings.sign_up_policy, domains, organization: settings.name })
}

/// Counts one more invitation, and says how many that makes. Nobody else counts before the end of this transaction.
///
/// # Errors
/// Those of the database.
pub async fn count_invitation(tx: &TenantTx) -> Result<i32, ServiceError> {
    Ok(store::count_invitation(tx).await?.ok_or_else(no_settings)?.invitations_sent)
}

fn no_settings() -> ServiceError {
    tenants::Error::Damaged("a tenant has no row of settings".into()).into()
}

/// Closes the organization, whose settings are locked: from the next request on nobody finds it. An operator can restore it
/// while its grace period lasts.
pub(super) async fn close(app: &App, tx: TenantTx, owner: &Caller) -> Result<(), Problem> {
    let account = users::lock(&tx, owner.account.pk).await.map_err(ServiceError::from)?;
    match account.filter(|account| account.is_active).map(|account| account.role) {
        Some(Role::Owner) => {}
        Some(_) => return Err(Problem::permission_denied()),
        None => return Err(Problem::token_not_valid()),
    }
    // By the login that owns the schema, in a transaction of its own: a tenant's role can't take its own right away. What is
    // locked here stays so until that is done.
    let id = tx.tenant().id;
    close_from_outside(app, id, owner).await?;
    tracing::info!(tenant = %id, user = %owner.account.pk, "an organization was closed");
    Ok(())
}

/// Locks the settings for an admin who is about to change them, and before that himself: he is named in what is recorded.
pub(super) async fn lock_for(tx: &TenantTx, admin: &Caller) -> Result<Option<Model>, Problem> {
    let held = users::hold(tx, &[admin.account.pk], []).await.map_err(ServiceError::from)?;
    if held.is_empty() {
        return Err(Problem::token_not_valid());
    }
    Ok(store::lock(tx).await.map_err(ServiceError::from)?)
}

async fn close_from_outside(app: &App, id: Uuid, owner: &Caller) -> Result<(), Problem> {
    let action = app.tenancy.act_on(Which::Id(id)).await.map_err(ServiceError::from)?;
    let mut action = action.ok_or_else(Problem::tenant_not_found)?;
    match action.status().map_err(ServiceError::from)? {
        Status::Active => {}
        Status::Suspended => return Err(Problem::tenant_suspended()),
        Status::Deleting | Status::Purging => return Err(Problem::tenant_not_found()),
    }
    action.set_status(Status::Deleting, app.clock.now()).await.map_err(ServiceError::from)?;
    audit::note_in(app, action.reached(), owner, Action::TenantClosed, json!({}))
        .await
        .map_err(ServiceError::from)?;
    action.commit().await.map_err(ServiceError::from)?;
    Ok(())
}

/// Changes the settings, whose row is locked. The name is written where the tenant's people see it and where operators
/// do: of two renames at once, the later one is the later one in both places.
///
/// # Errors
/// Those of the database.
pub(super) async fn update(
    app: &App,
    tx: &TenantTx,
    admin: &Caller,
    before: &Model,
    changes: Changes,
) -> Result<Option<Model>, ServiceError> {
    let name = changes.name.clone();
    let settings = store::update(tx, changes).await?;
    if let Some(name) = name {
        tx.rename_tenant(&name).await?;
    }
    if let Some(difference) = settings.as_ref().and_then(|settings| difference(before, settings)) {
        audit::note(app, tx, admin, Action::SettingsChanged, difference).await?;
        let organization = Reference::organization(tx.tenant().id);
        let (id, by) = (app.clock.uuid_v7(), admin.account.pk);
        let entry = Entry::new(id, by, Verb::SettingsUpdated, organization);
        activity::record(tx, &[entry], app.clock.now()).await?;
    }
    Ok(settings)
}

/// What a change made other, as the audit log shows it; `None` if nothing.
fn difference(before: &Model, after: &Model) -> Option<Value> {
    let [mut was, mut is] = [Map::new(), Map::new()];
    for (setting, before, after) in [
        ("name", json!(before.name), json!(after.name)),
        ("sign_up_policy", json!(before.sign_up_policy), json!(after.sign_up_policy)),
        ("allowed_email_domains", before.allowed_email_domains.clone(), after.allowed_email_domains.clone()),
        ("allow_impersonation", json!(before.allow_impersonation), json!(after.allow_impersonation)),
    ] {
        if before != after {
            was.insert(setting.to_owned(), before);
            is.insert(setting.to_owned(), after);
        }
    }
    (!is.is_empty()).then(|| json!({"before": was, "after": is}))
}

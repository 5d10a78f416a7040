//! The rules of working in somebody's name.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sea_orm::DbErr;
use secrecy::SecretString;
use serde_json::json;
use tenants::{CatalogTx, Reached, Status, Which, entity::impersonations::Model};
use uuid::Uuid;

use super::{ImpersonationError, store};
use crate::{
    admin::{self, AdminError},
    audit::{self, Action, Actor},
    auth::{self, Act, Subject},
    state::App,
    tenant,
    users::{self, Account, Login},
};

/// In whose name, and what for.
#[derive(Debug)]
pub struct NewImpersonation {
    /// The user.
    pub user: Named,
    /// Why, for the organization to read.
    pub reason: String,
    /// Whether anything may be changed.
    pub write: bool,
}

/// How an operator names a user.
#[derive(Debug)]
pub enum Named {
    /// By his pk.
    Pk(Uuid),
    /// As he signs in.
    Login(Login),
}

/// A session in somebody's name, and the token that opens it.
#[derive(Debug)]
pub struct Impersonation {
    /// The session.
    pub session: Model,
    /// Its token: there is no other, and none to draw another one with.
    pub token: SecretString,
    /// When it ends.
    pub token_expiration: DateTime<Utc>,
}

/// Begins to work in a user's name.
///
/// # Errors
/// See [`ImpersonationError`].
pub async fn begin(
    app: &App,
    which: Which<'_>,
    new: NewImpersonation,
    by: &Actor,
) -> Result<Impersonation, ImpersonationError> {
    let NewImpersonation { user, reason, write } = new;
    let reached = admin::reach(app, which).await?;
    let tenant = reached.tenant().clone();
    if tenant.status.parse::<Status>()? != Status::Active {
        return Err(ImpersonationError::NotActive);
    }
    if !tenants::served_versions().contains(&tenant.schema_version) {
        return Err(AdminError::NotServed(tenant.schema_version).into());
    }
    if !tenant::allows_impersonation(&reached).await? {
        return Err(ImpersonationError::Forbidden);
    }
    let account = find(&reached, &user).await?.filter(|account| account.is_active);
    let account = account.ok_or(ImpersonationError::NoSuchUser)?;
    let subject =
        Subject { user: account.pk, tenant: tenant.id, session: app.clock.uuid_v7(), role: account.role };
    let act = Act { sub: by.operator.map_or_else(|| by.name.clone(), |operator| operator.to_string()) };
    // What the user finds in the list of his sessions.
    let shown = format!("Operator of {}: {reason}", app.site.base_domain);
    let (token, token_expiration) = auth::open_impersonated(app, &reached, &subject, act, &shown).await?;
    let (api_key_id, api_key_name) = by.api_key.clone().unzip();
    let session = Model {
        id: subject.session,
        tenant_id: tenant.id,
        user_pk: account.pk,
        username: account.username,
        operator_id: by.operator,
        actor: by.name.clone(),
        api_key_id,
        api_key_name,
        reason,
        is_read_only: !write,
        created_at: app.clock.now(),
        expires_at: token_expiration,
    };
    store::delete_over(&reached, app.clock.now()).await?;
    store::insert(&reached, session.clone()).await?;
    record(app, &reached, by, Action::ImpersonationBegun, &session).await?;
    reached.commit().await?;
    Ok(Impersonation { session, token: token.into(), token_expiration })
}

async fn find(reached: &Reached, user: &Named) -> Result<Option<Account>, ImpersonationError> {
    let pk = match user {
        Named::Pk(pk) => Some(*pk),
        Named::Login(login) => users::find_credentials(reached, login).await?.map(|found| found.pk),
    };
    Ok(match pk {
        Some(pk) => users::find(reached, pk).await?,
        None => None,
    })
}

/// The sessions of operators in the names of a tenant's users that have not ended, the newest first.
///
/// # Errors
/// There is no such tenant, or those of the database.
pub async fn under_way(app: &App, which: Which<'_>) -> Result<Vec<Model>, ImpersonationError> {
    let reached = admin::reach(app, which).await?;
    let mut rows = store::of_tenant(&reached, reached.tenant().id, app.clock.now()).await?;
    // The user may have ended it, or changed his password.
    let there: HashSet<Uuid> = auth::sessions_among(&reached, rows.iter().map(|row| row.id)).await?;
    rows.retain(|row| there.contains(&row.id));
    Ok(rows)
}

/// Ends a session in a user's name, from the next request on.
///
/// # Errors
/// [`ImpersonationError::Over`], there is no such tenant, or those of the database.
pub async fn end(app: &App, which: Which<'_>, id: Uuid, by: &Actor) -> Result<Model, ImpersonationError> {
    let reached = admin::reach(app, which).await?;
    let tenant = reached.tenant().id;
    let found = store::find(&reached, id).await?.filter(|found| found.tenant_id == tenant);
    let session = found.ok_or(ImpersonationError::Over)?;
    let was_there = auth::end_own(&reached, id, session.user_pk, app.clock.now()).await?;
    store::delete(&reached, id).await?;
    if was_there {
        record(app, &reached, by, Action::ImpersonationEnded, &session).await?;
    }
    reached.commit().await?;
    if was_there { Ok(session) } else { Err(ImpersonationError::Over) }
}

/// Ends what an operator has begun in users' names with tokens that end now: the password they were made for is another.
///
/// # Errors
/// Those of the database.
pub async fn end_those_of(tx: &CatalogTx, operator: Uuid) -> Result<(), DbErr> {
    store::delete_of_operator(tx, operator).await
}

async fn record(
    app: &App,
    reached: &Reached,
    by: &Actor,
    what: Action,
    session: &Model,
) -> Result<(), ImpersonationError> {
    let tenant = reached.tenant();
    let tenant = (tenant.id, tenant.slug.as_str(), tenant.schema_version);
    let detail = json!({
        "session": session.id,
        "user": {"pk": session.user_pk, "username": session.username},
        "reason": session.reason,
        "write": !session.is_read_only,
    });
    Ok(audit::record_of_tenant(app, reached, tenant, by, what, detail).await?)
}

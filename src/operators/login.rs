//! Signing in as an operator.
//!
//! As for users: whatever is wrong, the answer is the same bytes after the same work, one password hash and the same
//! statements; and how often it may be wrong is limited by what the client says, whether there is such an operator or
//! not. Refusals are in the audit log, without what was typed: people type passwords into the wrong field.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::json;
use tenants::entity::operators;
use uuid::Uuid;

use super::{gate, store};
use crate::{
    audit::{self, Action, Actor},
    error::ServiceError,
    http::{ClientAddr, Problem},
    state::App,
    throttle::{self, Attempt, LOGINS_OF_ADDRESS, LOGINS_OF_ADDRESS_TO_ACCOUNT, LOGINS_TO_ACCOUNT},
    users::identity::Email,
};

/// What somebody says of himself.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    /// `None` where what was written cannot be anybody's address.
    pub(super) email: Option<Email>,
    pub(super) written: &'a str,
    pub(super) password: SecretString,
}

/// An operator who signed in.
#[derive(Debug)]
pub(super) struct SignedIn {
    pub(super) id: Uuid,
    pub(super) email: String,
    pub(super) token: SecretString,
    pub(super) token_expiration: DateTime<Utc>,
}

/// Signs an operator in by password.
pub(super) async fn login(app: &App, claim: Claim<'_>, client: ClientAddr) -> Result<SignedIn, Problem> {
    let network = client.network_text();
    let account = match &claim.email {
        Some(email) => format!("operator {}", email.key()),
        None => format!("no operator {}", claim.written),
    };
    let pair = format!("{network} {account}");
    let _turn = app.throttles.turn(Uuid::nil(), &account, &network).await;
    app.throttles.remembered(&app.throttles.failed_logins, client.network(), app.clock.now())?;
    let catalog = app.tenancy.catalog();
    let limits = [
        (LOGINS_OF_ADDRESS, network.as_str()),
        (LOGINS_OF_ADDRESS_TO_ACCOUNT, pair.as_str()),
        (LOGINS_TO_ACCOUNT, account.as_str()),
    ];
    let attempt = throttle::admit(app, catalog, &limits).await?;
    match decide(app, claim, client, &attempt).await {
        Ok(Some(signed_in)) => Ok(signed_in),
        Ok(None) => {
            app.throttles.failed_logins.note(client.network(), app.clock.now());
            Err(Problem::non_field("Unable to log in with provided credentials."))
        }
        Err(error) => {
            // Nobody knows whether it was wrong. If this fails too, it counts as if it had been.
            if let Err(error) = attempt.withdraw(catalog).await {
                tracing::warn!(error = %error, "a login that was not decided counts as a failed one");
            }
            Err(error.into())
        }
    }
}

/// `None` if anything is wrong, which is in the audit log then.
async fn decide(
    app: &App,
    claim: Claim<'_>,
    client: ClientAddr,
    attempt: &Attempt,
) -> Result<Option<SignedIn>, ServiceError> {
    let catalog = app.tenancy.catalog();
    let found = match &claim.email {
        Some(email) => store::operator_by_email(catalog, email.key()).await?,
        None => None,
    };
    let hash = found.as_ref().map(|operator| operator.password_hash.clone());
    let matches = app.hasher.verify(claim.password.clone(), hash).await?;
    let rehashed = match &found {
        Some(operator) if matches && app.hasher.is_outdated(&operator.password_hash) => {
            Some(app.hasher.hash(claim.password).await?)
        }
        _ => None,
    };
    let actor = match &found {
        Some(operator) => Actor {
            operator: Some(operator.id),
            name: operator.email.clone(),
            api_key: None,
            ip: Some(client.0),
        },
        None => Actor::nobody(client.0),
    };
    let Some(operator) = found.filter(|_| matches) else {
        audit::record(app, catalog, &actor, Action::LoginRefused, json!({})).await?;
        return Ok(None);
    };
    sign_in(app, operator, rehashed, &actor, attempt).await
}

async fn sign_in(
    app: &App,
    operator: operators::Model,
    rehashed: Option<String>,
    actor: &Actor,
    attempt: &Attempt,
) -> Result<Option<SignedIn>, ServiceError> {
    let hash = rehashed.as_ref().unwrap_or(&operator.password_hash);
    // Removed meanwhile, or with another password, he has a token that opens nothing.
    let mark = gate::password_mark(app, hash);
    let (token, token_expiration) = app.tokens.issue_to_operator(operator.id, mark).await?;
    let tx = app.tenancy.catalog().begin().await?;
    if let Some(rehashed) = rehashed {
        store::set_password(&tx, &operator, rehashed).await?;
    }
    audit::record(app, &tx, actor, Action::Login, json!({})).await?;
    // Last: the row of an address is shared by all who come from there.
    attempt.withdraw(&tx).await?;
    tx.commit().await?;
    Ok(Some(SignedIn { id: operator.id, email: operator.email, token: token.into(), token_expiration }))
}

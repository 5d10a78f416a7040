//! The rules of signing in.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ConnectionTrait;
use tenants::{DataKey, TenantDb};
use uuid::Uuid;

use super::{
    Act, Device, Subject, devices,
    refresh::{Chain, RefreshToken, Standing},
    sessions::{self, NewSession, REFRESH_LIFETIME},
};
use crate::{
    error::ServiceError,
    state::App,
    users::{Account, UserBrief},
};

/// For how long a refresh token that was used gives the same successor again: an answer was lost, or two tabs refreshed
/// at once. The contract's.
const GRACE: TimeDelta = TimeDelta::seconds(10);

crate::output! {
    /// Tokens for a new session, and whose it is.
    pub struct LoginOut {
        /// The access token, to be sent as `Authorization: Bearer …`.
        pub token: String,
        /// When the access token ends.
        pub token_expiration: DateTime<Utc>,
        /// The refresh token; it can be used once.
        pub refresh: String,
        /// When the refresh token ends, unless it is used before.
        pub refresh_expiration: DateTime<Utc>,
        /// Who signed in.
        pub user: UserBrief,
    }
}

crate::output! {
    /// The tokens of a session.
    pub struct TokensOut {
        /// The access token, to be sent as `Authorization: Bearer …`.
        pub token: String,
        /// When the access token ends.
        pub token_expiration: DateTime<Utc>,
        /// The refresh token; it can be used once.
        pub refresh: String,
        /// When the refresh token ends, unless it is used before.
        pub refresh_expiration: DateTime<Utc>,
    }
}

impl TokensOut {
    /// The contract's login answer.
    #[must_use]
    pub fn answer(self, account: &Account) -> LoginOut {
        LoginOut {
            token: self.token,
            token_expiration: self.token_expiration,
            refresh: self.refresh,
            refresh_expiration: self.refresh_expiration,
            user: account.into(),
        }
    }
}

/// Makes a session for this user, on this connection, and its tokens, and notes the device.
///
/// # Errors
/// Those of the database; or the token could not be signed.
pub async fn sign_in(
    app: &App,
    db: &impl ConnectionTrait,
    tenant: Uuid,
    account: &Account,
    device: &Device,
) -> Result<TokensOut, ServiceError> {
    let (_, tokens) = open_session(app, db, tenant, account, device).await?;
    devices::note(db, account.pk, device, app.clock.now()).await?;
    Ok(tokens)
}

/// The session's id and its tokens.
pub(super) async fn open_session(
    app: &App,
    db: &impl ConnectionTrait,
    tenant: Uuid,
    account: &Account,
    device: &Device,
) -> Result<(Uuid, TokensOut), ServiceError> {
    let now = app.clock.now();
    let session = app.clock.uuid_v7();
    let refresh = RefreshToken::first(session);
    let refresh_hash = Chain { key: app.tenancy.key(DataKey::Refresh), tenant }.hash(&refresh);
    let subject = Subject { user: account.pk, tenant, session, role: account.role };
    let (token, token_expiration) = app.tokens.issue(&subject).await?;
    let refresh_expiration = now + REFRESH_LIFETIME;
    let new = NewSession {
        id: session,
        user: account.pk,
        refresh_hash,
        ip: device.ip(),
        user_agent: device.user_agent(),
        now,
        expires_at: refresh_expiration,
    };
    sessions::create(db, new).await?;
    Ok((session, TokensOut { token, token_expiration, refresh: refresh.encode(), refresh_expiration }))
}

/// Makes a session for somebody who acts in a user's name, and its one token. It ends with the token; no refresh token
/// leads to it. `shown` is what the user finds in the list of his sessions.
///
/// # Errors
/// Those of the database; or the token could not be signed.
pub async fn open_impersonated(
    app: &App,
    db: &impl ConnectionTrait,
    subject: &Subject,
    act: Act,
    shown: &str,
) -> Result<(String, DateTime<Utc>), ServiceError> {
    let (token, expires_at) = app.tokens.issue_to_impersonator(subject, act).await?;
    let new = NewSession {
        id: subject.session,
        user: subject.user,
        // The hash of nothing that anybody has.
        refresh_hash: rand::random(),
        ip: "",
        user_agent: shown,
        now: app.clock.now(),
        expires_at,
    };
    sessions::create(db, new).await?;
    Ok((token, expires_at))
}

/// Draws new tokens for the session of a refresh token; `None` if that is not valid.
///
/// A token that was used before ends its session: either it or its successor is in the wrong hands, and nobody can tell
/// which. But for [`GRACE`] after its first use it gives the successor once more, unless that was used.
pub(super) async fn refresh(
    app: &App,
    db: &TenantDb,
    presented: &str,
    device: &Device,
) -> Result<Option<TokensOut>, ServiceError> {
    let Some(presented) = RefreshToken::parse(presented) else { return Ok(None) };
    let chain = Chain { key: app.tenancy.key(DataKey::Refresh), tenant: db.tenant().id };
    let Some(successor) = chain.successor(&presented) else { return Ok(None) };
    let now = app.clock.now();
    let tx = db.begin().await?;
    let Some(session) = sessions::lock(&tx, presented.session, now).await? else { return Ok(None) };
    let refresh_expiration = match chain.standing(&presented, session.generation, &session.refresh_hash) {
        Standing::Current => {
            let expiration = sessions::rotate(&tx, &session, chain.hash(&successor), device, now).await?;
            tx.commit().await?;
            expiration
        }
        Standing::Previous if now - session.rotated_at <= GRACE => session.expires_at,
        Standing::Previous | Standing::Spent => {
            sessions::end(&tx, session.id, session.user_pk).await?;
            tx.commit().await?;
            let (generation, current) = (presented.generation, session.generation);
            tracing::warn!(
                tenant = %db.tenant().id, session = %session.id, user = %session.user_pk, generation, current,
                "a refresh token was used again, so its session has ended"
            );
            return Ok(None);
        }
        // Knowing a session's id is no right to end it.
        Standing::Forged => return Ok(None),
    };
    let subject =
        Subject { user: session.user_pk, tenant: db.tenant().id, session: session.id, role: session.role };
    let (token, token_expiration) = app.tokens.issue(&subject).await?;
    Ok(Some(TokensOut { token, token_expiration, refresh: successor.encode(), refresh_expiration }))
}

//! The rules of signing in.

use chrono::{DateTime, Utc};
use data_encoding::BASE64URL_NOPAD;
use sea_orm::ConnectionTrait;
use secrecy::SecretString;
use tenants::{DataKey, TenantDb};
use uuid::Uuid;

use super::{
    Device, Subject,
    sessions::{self, NewSession, REFRESH_LIFETIME},
};
use crate::{
    error::ServiceError,
    http::Problem,
    state::App,
    users::{self, Account, Login, UserBrief},
};

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

/// The tokens of a new session.
#[derive(Debug)]
pub struct SignedIn {
    /// The access token.
    pub token: String,
    /// When it ends.
    pub token_expiration: DateTime<Utc>,
    /// The refresh token.
    pub refresh: String,
    /// When it ends.
    pub refresh_expiration: DateTime<Utc>,
}

impl SignedIn {
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

/// Makes a session for this user, on this connection, and its tokens.
///
/// # Errors
/// Those of the database; or the token could not be signed.
pub async fn sign_in(
    app: &App,
    db: &impl ConnectionTrait,
    tenant: Uuid,
    account: &Account,
    device: &Device,
) -> Result<SignedIn, ServiceError> {
    let now = app.clock.now();
    let session = app.clock.uuid_v7();
    let refresh = BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>());
    let refresh_hash = app.tenancy.key(DataKey::Refresh).mac(refresh.as_bytes());
    let subject = Subject { user: account.pk, tenant, session, role: account.role };
    let (token, token_expiration) = app.tokens.issue(&subject).await?;
    sessions::create(db, NewSession { id: session, user: account.pk, refresh_hash, device, now }).await?;
    Ok(SignedIn { token, token_expiration, refresh, refresh_expiration: now + REFRESH_LIFETIME })
}

/// Signs somebody in by password. Whatever is wrong, the answer is the same, and takes as long.
pub(crate) async fn login(
    app: &App,
    db: &TenantDb,
    login: Option<&Login>,
    password: SecretString,
    device: &Device,
) -> Result<LoginOut, Problem> {
    // What cannot be a name at all is nobody's, like one that nobody has.
    let found = match login {
        Some(login) => users::find_credentials(db, login).await.map_err(ServiceError::from)?,
        None => None,
    };
    let hash = found.as_ref().map(|found| found.password_hash.clone());
    let matches = app.hasher.verify(password, hash).await.map_err(ServiceError::from)?;
    match found {
        Some(found) if matches && found.is_active => {
            let account = users::find(db, found.pk).await.map_err(ServiceError::from)?;
            // Gone between the two queries: as wrong as before.
            let account = account.ok_or_else(wrong_credentials)?;
            Ok(sign_in(app, db, db.tenant().id, &account, device).await?.answer(&account))
        }
        _ => Err(wrong_credentials()),
    }
}

fn wrong_credentials() -> Problem {
    Problem::non_field("Unable to log in with provided credentials.")
}

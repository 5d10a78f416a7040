//! Signing in and out.

use chrono::{DateTime, Utc};
use data_encoding::BASE64URL_NOPAD;
use poem::web::Data;
use poem_openapi::{OpenApi, param::Path, payload::Response};
use tenants::TenantDb;
use uuid::Uuid;

use super::{
    Caller, Device, LoginOut, TokensOut,
    keyring::JWKS_MAX_AGE,
    login::{self, Claim},
    service,
    sessions::{self, Shown},
};
use crate::{
    app::Tag,
    error::ServiceError,
    http::{Body, Json, Listing, NoContent, OptionalBody, Page, PageQuery, Problem, Text},
    state::App,
    users::{
        Login,
        identity::{Credential, Email, Identifier, Username},
    },
};

crate::input! {
    /// Who signs in: by username or by e-mail address, and with which password.
    pub struct LoginIn {
        /// The username. Either this or `email` is needed.
        pub username: Option<Identifier>,
        /// The e-mail address. Either this or `username` is needed.
        pub email: Option<Identifier>,
        /// The password.
        pub password: Credential,
    }
}

crate::input! {
    /// How far a logout goes.
    pub struct LogoutIn {
        /// End every session of this user, not only this one.
        pub everywhere: Option<bool>,
    }
}

crate::input! {
    /// A token to be checked.
    pub struct TokenIn {
        /// An access token.
        pub token: Text<1, 4096>,
    }
}

crate::input! {
    /// A token to be used.
    pub struct RefreshIn {
        /// The refresh token.
        pub refresh: Text<1, 4096>,
    }
}

crate::output! {
    /// Where the user is signed in.
    pub struct SessionOut {
        /// The session's id.
        pub id: Uuid,
        /// When the user signed in.
        pub created_at: DateTime<Utc>,
        /// When tokens were last drawn, by the login or a refresh. It is up to ten minutes behind while somebody works.
        pub last_used_at: DateTime<Utc>,
        /// The address from which they were drawn.
        pub ip: String,
        /// What the client called itself then.
        pub user_agent: String,
        /// Whether this request belongs to it.
        pub current: bool,
    }
}

crate::output! {
    /// A sentence for a person.
    pub struct DetailOut {
        /// What was done.
        pub detail: String,
    }
}

crate::output! {
    /// Nothing more to say.
    pub struct EmptyOut {}
}

crate::output! {
    /// The public keys that verify access tokens (RFC 7517).
    pub struct KeySetOut {
        /// The keys.
        pub keys: Vec<KeyOut>,
    }
}

crate::output! {
    /// A public key (RFC 8037).
    pub struct KeyOut {
        /// Always `OKP`.
        pub kty: &'static str,
        /// Always `Ed25519`.
        pub crv: &'static str,
        /// The public key, in base64url.
        pub x: String,
        /// The key's id: its thumbprint (RFC 7638).
        pub kid: String,
        /// Always `EdDSA`.
        pub alg: &'static str,
    }
}

impl SessionOut {
    fn of(row: Shown, caller: &Caller) -> Self {
        Self {
            id: row.id,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            ip: row.ip,
            user_agent: row.user_agent,
            current: row.id == caller.session,
        }
    }
}

/// All sessions of a caller, the newest first.
///
/// # Errors
/// Those of the database.
pub async fn sessions_of(
    db: &TenantDb,
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<Vec<SessionOut>, ServiceError> {
    let rows = sessions::all(db, caller.account.pk, now).await?;
    Ok(rows.into_iter().map(|row| SessionOut::of(row, caller)).collect())
}

/// The list of sessions.
pub struct Sessions;

impl Listing for Sessions {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct AuthApi(pub App);

#[OpenApi(tag = "Tag::Session")]
impl AuthApi {
    /// Sign in
    ///
    /// By username or by e-mail address. Whatever is wrong, the answer is the same.
    #[oai(path = "/api/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        Data(db): Data<&TenantDb>,
        device: Device,
        body: Body<LoginIn>,
    ) -> Result<Response<Json<LoginOut>>, Problem> {
        let LoginIn { username, email, password } = body.0;
        let (login, written) = match (&username, &email) {
            (Some(username), _) => (Username::parse(username).ok().map(Login::Username), username),
            (None, Some(email)) => (Email::parse(email).ok().map(Login::Email), email),
            (None, None) => return Err(Problem::non_field("Must include \"username\" or \"email\".")),
        };
        let claim = Claim { login, written, password: password.secret().clone() };
        Ok(no_store(Json(login::login(&self.0, db, claim, &device).await?)))
    }

    /// Sign out
    ///
    /// Ends this session, or with `everywhere` all sessions of this user, from the next request on.
    #[oai(path = "/api/logout", method = "post", operation_id = "logout")]
    async fn logout(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        body: OptionalBody<LogoutIn>,
    ) -> Result<Json<DetailOut>, Problem> {
        let everywhere = body.0.and_then(|body| body.everywhere).unwrap_or(false);
        let ended = if everywhere {
            sessions::end_sessions(db, caller.account.pk, None).await
        } else {
            sessions::end(db, caller.session, caller.account.pk).await
        };
        ended.map_err(ServiceError::from)?;
        Ok(Json(DetailOut { detail: "Successfully logged out.".into() }))
    }

    /// Draw new tokens
    ///
    /// Each use of a refresh token gives another one. Within ten seconds, and while that one is unused, the same token
    /// gives it again: an answer was lost, or two tabs refreshed at once. Used later, it ends the session. A session that
    /// is not refreshed ends after 30 days, and any session 90 days after its login.
    #[oai(path = "/api/token/refresh", method = "post", operation_id = "refreshToken")]
    async fn refresh(
        &self,
        Data(db): Data<&TenantDb>,
        device: Device,
        body: Body<RefreshIn>,
    ) -> Result<Response<Json<TokensOut>>, Problem> {
        let tokens = service::refresh(&self.0, db, &body.0.refresh, &device).await?;
        Ok(no_store(Json(tokens.ok_or_else(Problem::token_not_valid)?)))
    }

    /// Check an access token
    ///
    /// Answers with an empty object if the token is valid here and now, its session included.
    #[oai(path = "/api/token/verify", method = "post", operation_id = "verifyToken")]
    async fn verify(
        &self,
        Data(db): Data<&TenantDb>,
        body: Body<TokenIn>,
    ) -> Result<Json<EmptyOut>, Problem> {
        let claims = self.0.tokens.verify(&body.0.token).await.map_err(ServiceError::from)?;
        let claims =
            claims.filter(|claims| claims.tenant == db.tenant().id).ok_or_else(Problem::token_not_valid)?;
        let account = sessions::account_of(db, claims.sid, claims.sub, self.0.clock.now()).await;
        account.map_err(ServiceError::from)?.ok_or_else(Problem::token_not_valid)?;
        Ok(Json(EmptyOut {}))
    }

    /// Where the signed-in user is signed in
    #[oai(path = "/api/sessions", method = "get", operation_id = "listSessions")]
    async fn list(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        query: PageQuery<Sessions>,
    ) -> Result<Json<Page<SessionOut>>, Problem> {
        let (user, now) = (caller.account.pk, self.0.clock.now());
        let window = query.window(sessions::count(db, user, now).await.map_err(ServiceError::from)?)?;
        let rows = sessions::list(db, user, now, query.is_descending(), &window)
            .await
            .map_err(ServiceError::from)?;
        let sessions = rows.into_iter().map(|row| SessionOut::of(row, &caller));
        Ok(Json(query.page(&window, sessions.collect())))
    }

    /// End a session
    ///
    /// One of the signed-in user's own, this one too, from the next request on.
    #[oai(path = "/api/sessions/:id", method = "delete", operation_id = "endSession")]
    async fn end(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The session's id.
        id: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        let ended = sessions::end_own(db, id.0, caller.account.pk, self.0.clock.now()).await;
        if ended.map_err(ServiceError::from)? { Ok(NoContent) } else { Err(Problem::not_found()) }
    }

    /// The keys that verify access tokens
    #[oai(path = "/.well-known/jwks.json", method = "get", operation_id = "jwks")]
    async fn jwks(&self) -> Result<Response<Json<KeySetOut>>, Problem> {
        let keys =
            self.0.tokens.public_keys().await.map_err(ServiceError::from)?.into_iter().map(|key| KeyOut {
                kty: "OKP",
                crv: "Ed25519",
                x: BASE64URL_NOPAD.encode(&key.bytes),
                kid: key.kid,
                alg: "EdDSA",
            });
        let keys = keys.collect();
        let caching = format!("public, max-age={}", JWKS_MAX_AGE.num_seconds());
        Ok(Response::new(Json(KeySetOut { keys })).header("cache-control", caching))
    }
}

/// Tokens are in no cache.
pub(crate) fn no_store<T>(answer: T) -> Response<T> {
    Response::new(answer).header("cache-control", "no-store")
}

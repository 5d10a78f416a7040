//! Signing in and out.

use data_encoding::BASE64URL_NOPAD;
use poem::web::Data;
use poem_openapi::{OpenApi, payload::Response};
use tenants::TenantDb;

use super::{Caller, Device, LoginOut, keyring::JWKS_MAX_AGE, service, sessions};
use crate::{
    app::Tag,
    error::ServiceError,
    http::{Body, Json, OptionalBody, Problem, Text},
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
        let login = match (&username, &email) {
            (Some(username), _) => Username::parse(username).ok().map(Login::Username),
            (None, Some(email)) => Email::parse(email).ok().map(Login::Email),
            (None, None) => return Err(Problem::non_field("Must include \"username\" or \"email\".")),
        };
        let password = password.secret().clone();
        Ok(no_store(Json(service::login(&self.0, db, login.as_ref(), password, &device).await?)))
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
            sessions::end_all(db, caller.account.pk).await
        } else {
            sessions::end(db, caller.session).await
        };
        ended.map_err(ServiceError::from)?;
        Ok(Json(DetailOut { detail: "Successfully logged out.".into() }))
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

//! The endpoints of operators, their API keys and the signing keys.

use chrono::{DateTime, Utc};
use poem_openapi::{OpenApi, param::Path, payload::Response};
use secrecy::ExposeSecret as _;
use tenants::entity::{api_keys, operators};
use uuid::Uuid;

use super::{
    CreatedKey, Destroys, DoesEverything, InPerson, NewKey, NewOperator, OperatorError, Provisions, Reads,
    Scope, login, password, service, store,
};
use crate::{
    app::Tag,
    auth::{KeySummary, Rotation, Start, no_store},
    error::ServiceError,
    http::{
        Body, ClientAddr, Created, Json, Listing, Name, NoContent, OptionalBody, Page, PageQuery, Problem,
        input::List,
    },
    state::App,
    users::identity::{Credential, Email, Identifier, Password},
};

crate::input! {
    /// Who signs in.
    pub struct OperatorLoginIn {
        /// The operator's e-mail address.
        pub email: Identifier,
        /// The password.
        pub password: Credential,
    }
}

crate::output! {
    /// A token, and whose it is.
    pub struct OperatorLoginOut {
        /// The token, to be sent as `Authorization: Bearer …`.
        pub token: String,
        /// When it ends. There is nothing to refresh: sign in again, or use an API key.
        pub token_expiration: DateTime<Utc>,
        /// Who signed in.
        pub operator: OperatorBrief,
    }
}

crate::output! {
    /// An operator, in short.
    pub struct OperatorBrief {
        /// The operator's id.
        pub id: Uuid,
        /// The e-mail address.
        pub email: String,
    }
}

impl From<login::SignedIn> for OperatorLoginOut {
    fn from(signed_in: login::SignedIn) -> Self {
        let login::SignedIn { id, email, token, token_expiration } = signed_in;
        Self {
            token: token.expose_secret().to_owned(),
            token_expiration,
            operator: OperatorBrief { id, email },
        }
    }
}

crate::input! {
    /// Another password.
    pub struct OperatorPasswordIn {
        /// The present password.
        pub old_password: Credential,
        /// The new password.
        pub new_password: Password,
    }
}

crate::input! {
    /// A new operator.
    pub struct OperatorIn {
        /// The e-mail address to sign in with.
        pub email: Email,
        /// The password.
        pub password: Password,
    }
}

crate::output! {
    /// An operator.
    pub struct OperatorOut {
        /// The operator's id.
        pub id: Uuid,
        /// The e-mail address.
        pub email: String,
        /// When the account was made.
        pub created_at: DateTime<Utc>,
    }
}

crate::input! {
    /// A new API key of the operator who asks for it.
    pub struct ApiKeyIn {
        /// What to call it.
        pub name: Name<1, 100>,
        /// What it may be used for; no more than the key it is asked for with, if it is.
        pub scopes: List<Scope, 3>,
        /// From when on it is refused. Left out: never, or like the key it is asked for with.
        pub expires_at: Option<DateTime<Utc>>,
    }
}

crate::output! {
    /// An API key. The key itself is kept nowhere.
    pub struct ApiKeyOut {
        /// The key's id.
        pub id: Uuid,
        /// What it is called.
        pub name: String,
        /// What it may be used for.
        pub scopes: Vec<Scope>,
        /// Whose it is.
        pub operator: OperatorBrief,
        /// When it was made.
        pub created_at: DateTime<Utc>,
        /// From when on it is refused; null for never.
        pub expires_at: Option<DateTime<Utc>>,
        /// When it was last seen, to the minute; null for never.
        pub last_used_at: Option<DateTime<Utc>>,
    }
}

crate::output! {
    /// A new API key.
    pub struct NewApiKeyOut {
        /// The key's id.
        pub id: Uuid,
        /// What it is called.
        pub name: String,
        /// What it may be used for.
        pub scopes: Vec<Scope>,
        /// The key, to be sent as `Authorization: Bearer …`. It is shown now and never again.
        pub key: String,
        /// When it was made.
        pub created_at: DateTime<Utc>,
        /// From when on it is refused; null for never.
        pub expires_at: Option<DateTime<Utc>>,
    }
}

crate::input! {
    /// How fast the signing keys change.
    pub struct KeysRotateIn {
        /// Sign with the new key at once, before everybody who checks tokens has had the time to fetch it.
        pub now: Option<bool>,
    }
}

crate::output! {
    /// What a rotation did.
    pub struct KeysRotateOut {
        /// The key that signs next, or now.
        pub key: SigningKeyOut,
        /// Whether it was made by this rotation, and not by one before that is still under way.
        pub is_new: bool,
    }
}

crate::output! {
    /// A signing key, without its secret.
    pub struct SigningKeyOut {
        /// Its id: its thumbprint (RFC 7638).
        pub kid: String,
        /// What it does: `next` or `signing`.
        pub state: String,
        /// When it was made, and published.
        pub created_at: DateTime<Utc>,
        /// From when on it signs.
        pub signs_from: DateTime<Utc>,
        /// Until when it verifies; null as long as no other follows it.
        pub verifies_until: Option<DateTime<Utc>>,
    }
}

impl From<operators::Model> for OperatorOut {
    fn from(row: operators::Model) -> Self {
        Self { id: row.id, email: row.email, created_at: row.created_at }
    }
}

impl ApiKeyOut {
    fn new((key, operator): (api_keys::Model, operators::Model)) -> Result<Self, Problem> {
        Ok(Self {
            id: key.id,
            name: key.name,
            scopes: service::scopes_of(&key.scopes)?.list(),
            operator: OperatorBrief { id: operator.id, email: operator.email },
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        })
    }
}

impl From<Rotation> for KeysRotateOut {
    fn from(Rotation { key, is_new }: Rotation) -> Self {
        let KeySummary { kid, state, created_at, signs_from, verifies_until } = key;
        let state = state.as_str().to_owned();
        Self { key: SigningKeyOut { kid, state, created_at, signs_from, verifies_until }, is_new }
    }
}

/// The list of operators.
pub struct Operators;

impl Listing for Operators {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The list of API keys.
pub struct ApiKeys;

impl Listing for ApiKeys {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct OperatorsApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl OperatorsApi {
    /// Sign in as an operator
    ///
    /// The token is valid for 15 minutes, and may do everything. It ends with the operator's account, and with the password.
    #[oai(path = "/api/admin/login", method = "post", operation_id = "loginOperator")]
    async fn login(
        &self,
        client: ClientAddr,
        Body(input): Body<OperatorLoginIn>,
    ) -> Result<Response<Json<OperatorLoginOut>>, Problem> {
        let claim = login::Claim {
            email: Email::parse(&input.email).ok(),
            written: &input.email,
            password: input.password.secret().clone(),
        };
        Ok(no_store(Json(login::login(&self.0, claim, client).await?.into())))
    }

    /// Change one's password
    ///
    /// For operators who have signed in; not for API keys, which go on. All tokens made with the password before end, this one
    /// too: the answer has another.
    #[oai(path = "/api/admin/operators/password", method = "post", operation_id = "changeOperatorPassword")]
    async fn change_password(
        &self,
        operator: InPerson,
        Body(input): Body<OperatorPasswordIn>,
    ) -> Result<Response<Json<OperatorLoginOut>>, Problem> {
        let old = input.old_password.secret().clone();
        let changed = password::change(&self.0, &operator.0, old, &input.new_password).await;
        let signed_in = changed.map_err(|error| match error {
            OperatorError::Password(error) => error.about("new_password"),
            error => error.into(),
        })?;
        Ok(no_store(Json(signed_in.into())))
    }

    /// The operators
    ///
    /// Scope `read`.
    #[oai(path = "/api/admin/operators", method = "get", operation_id = "listOperators")]
    async fn operators(
        &self,
        _operator: Reads,
        query: PageQuery<Operators>,
    ) -> Result<Json<Page<OperatorOut>>, Problem> {
        let catalog = self.0.tenancy.catalog();
        let window = query.window(store::count_operators(catalog).await.map_err(ServiceError::from)?)?;
        let rows =
            store::operators(catalog, query.is_descending(), &window).await.map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, rows.into_iter().map(Into::into).collect())))
    }

    /// Make an operator
    ///
    /// All scopes: a new operator may do everything.
    #[oai(path = "/api/admin/operators", method = "post", operation_id = "createOperator")]
    async fn create_operator(
        &self,
        operator: DoesEverything,
        Body(input): Body<OperatorIn>,
    ) -> Result<Created<OperatorOut>, Problem> {
        let new = NewOperator { email: input.email, password: input.password };
        Ok(Created(service::create_operator(&self.0, new, &operator.0.actor).await?.into()))
    }

    /// Remove an operator
    ///
    /// All scopes: an operator may do everything. The tokens and API keys of who is removed are refused from the next request
    /// on. There is always one left.
    #[oai(path = "/api/admin/operators/:id", method = "delete", operation_id = "deleteOperator")]
    async fn delete_operator(
        &self,
        operator: DoesEverything,
        /// The operator's id.
        id: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        service::delete_operator(&self.0, id.0, &operator.0.actor).await?;
        Ok(NoContent)
    }

    /// The API keys of all operators
    ///
    /// Scope `read`.
    #[oai(path = "/api/admin/api_keys", method = "get", operation_id = "listApiKeys")]
    async fn api_keys(
        &self,
        _operator: Reads,
        query: PageQuery<ApiKeys>,
    ) -> Result<Json<Page<ApiKeyOut>>, Problem> {
        let catalog = self.0.tenancy.catalog();
        let window = query.window(store::count_keys(catalog).await.map_err(ServiceError::from)?)?;
        let rows =
            store::keys(catalog, query.is_descending(), Some(&window)).await.map_err(ServiceError::from)?;
        let keys = rows.into_iter().map(ApiKeyOut::new).collect::<Result<_, _>>()?;
        Ok(Json(query.page(&window, keys)))
    }

    /// Make an API key
    ///
    /// Scope `provision`. A key cannot make one that may do more than itself, or that outlives it.
    #[oai(path = "/api/admin/api_keys", method = "post", operation_id = "createApiKey")]
    async fn create_api_key(
        &self,
        operator: Provisions,
        Body(input): Body<ApiKeyIn>,
    ) -> Result<Response<Created<NewApiKeyOut>>, Problem> {
        if input.scopes.0.is_empty() {
            return Err(Problem::field("scopes", "This list may not be empty."));
        }
        let with = operator.0.key.as_deref();
        let new = NewKey {
            operator: operator.0.operator,
            name: input.name.into_string(),
            scopes: input.scopes.0.into_iter().collect(),
            expires_at: input.expires_at.or_else(|| with.and_then(|with| with.expires_at)),
        };
        let created = service::create_key(&self.0, new, &operator.0.actor, with).await?;
        let CreatedKey { row, key } = created;
        Ok(no_store(Created(NewApiKeyOut {
            id: row.id,
            name: row.name,
            scopes: service::scopes_of(&row.scopes)?.list(),
            key: key.expose_secret().to_owned(),
            created_at: row.created_at,
            expires_at: row.expires_at,
        })))
    }

    /// Delete an API key
    ///
    /// Scope `destroy`. It is refused from the next request on. A key cannot delete one that may do more than itself.
    #[oai(path = "/api/admin/api_keys/:id", method = "delete", operation_id = "deleteApiKey")]
    async fn delete_api_key(
        &self,
        operator: Destroys,
        /// The key's id.
        id: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        service::delete_key(&self.0, id.0, &operator.0.actor, operator.0.key.as_deref()).await?;
        Ok(NoContent)
    }

    /// Rotate the keys that sign tokens
    ///
    /// Scope `provision`. The new key is published first and signs once nobody has older keys any more, unless it is to sign
    /// now; the old one verifies until its tokens have expired. While a rotation is under way, another one changes nothing.
    #[oai(path = "/api/admin/keys/rotate", method = "post", operation_id = "rotateKeys")]
    async fn rotate_keys(
        &self,
        operator: Provisions,
        OptionalBody(input): OptionalBody<KeysRotateIn>,
    ) -> Result<Json<KeysRotateOut>, Problem> {
        let now = input.and_then(|input| input.now).unwrap_or(false);
        let start = if now { Start::Now } else { Start::WhenPublished };
        Ok(Json(service::rotate_keys(&self.0, start, &operator.0.actor).await?.into()))
    }
}

//! The endpoints of users.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use serde_json::Value;
use tenants::TenantDb;
use uuid::Uuid;

use super::{
    Account,
    identity::Username,
    listing,
    profile::{Locale, Timezone},
    service::{self, Change},
    store::{self, Changes, Standing},
};
use crate::{
    app::Tag,
    auth::{AdminCaller, Caller},
    entity::users::{self, Role},
    error::ServiceError,
    http::{
        Body, IfMatch, Json, Listing, Name, NoContent, Page, PageQuery, Problem,
        input::{Field, Wrong, choice},
    },
    state::App,
};

crate::output! {
    /// A user, as other users of the tenant see him.
    pub struct UserOut {
        /// The user's id.
        pub pk: Uuid,
        /// The username.
        pub username: String,
        /// The e-mail address.
        pub email: String,
        /// May be empty.
        pub first_name: String,
        /// May be empty.
        pub last_name: String,
        /// What the user may do.
        pub role: Role,
        /// Whether the user may sign in.
        pub is_active: bool,
        /// When the account was made.
        pub date_joined: DateTime<Utc>,
        /// How many comments stand on the user's page.
        pub comment_count: i32,
    }
}

crate::output! {
    /// The signed-in user.
    pub struct CurrentUserOut {
        /// The user's id.
        pub pk: Uuid,
        /// The username.
        pub username: String,
        /// The e-mail address.
        pub email: String,
        /// May be empty.
        pub first_name: String,
        /// May be empty.
        pub last_name: String,
        /// What the user may do.
        pub role: Role,
        /// Whether the address was proven to be the user's.
        pub email_verified: bool,
        /// The language mails are written in: a tag of BCP 47.
        pub locale: String,
        /// A name of the IANA time zone database.
        pub timezone: String,
        /// When the account was made.
        pub date_joined: DateTime<Utc>,
    }
}

crate::output! {
    /// Who signed in.
    pub struct UserBrief {
        /// The user's id.
        pub pk: Uuid,
        /// The username.
        pub username: String,
        /// The e-mail address.
        pub email: String,
        /// May be empty.
        pub first_name: String,
        /// May be empty.
        pub last_name: String,
    }
}

crate::output! {
    /// A user, as others see who did something.
    pub struct PersonOut {
        /// The user's id.
        pub pk: Uuid,
        /// The username.
        pub username: String,
        /// May be empty.
        pub first_name: String,
        /// May be empty.
        pub last_name: String,
    }
}

crate::input! {
    /// What to change of one's own profile. What is left out stays.
    pub struct CurrentUserPatch {
        /// Another username.
        pub username: Option<Username>,
        /// Another first name; may be empty.
        pub first_name: Option<Name<0, 150>>,
        /// Another last name; may be empty.
        pub last_name: Option<Name<0, 150>>,
        /// Another language.
        pub locale: Option<Locale>,
        /// Another time zone.
        pub timezone: Option<Timezone>,
    }
}

crate::input! {
    /// What to change of another user. What is left out stays.
    pub struct UserPatch {
        /// What the user may do from the next request on.
        pub role: Option<Role>,
        /// Whether the user may sign in. Who may not is signed out everywhere.
        pub is_active: Option<bool>,
    }
}

impl Field for Role {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        choice(value)
    }
}

impl From<Account> for UserOut {
    fn from(account: Account) -> Self {
        Self {
            pk: account.pk,
            username: account.username,
            email: account.email,
            first_name: account.first_name,
            last_name: account.last_name,
            role: account.role,
            is_active: account.is_active,
            date_joined: account.date_joined,
            comment_count: account.comment_count,
        }
    }
}

impl From<&Account> for CurrentUserOut {
    fn from(account: &Account) -> Self {
        Self {
            pk: account.pk,
            username: account.username.clone(),
            email: account.email.clone(),
            first_name: account.first_name.clone(),
            last_name: account.last_name.clone(),
            role: account.role,
            email_verified: account.email_verified_at.is_some(),
            locale: account.locale.clone(),
            timezone: account.timezone.clone(),
            date_joined: account.date_joined,
        }
    }
}

impl From<&Account> for UserBrief {
    fn from(account: &Account) -> Self {
        Self {
            pk: account.pk,
            username: account.username.clone(),
            email: account.email.clone(),
            first_name: account.first_name.clone(),
            last_name: account.last_name.clone(),
        }
    }
}

impl From<&Account> for PersonOut {
    fn from(account: &Account) -> Self {
        Self {
            pk: account.pk,
            username: account.username.clone(),
            first_name: account.first_name.clone(),
            last_name: account.last_name.clone(),
        }
    }
}

impl From<users::Model> for PersonOut {
    fn from(user: users::Model) -> Self {
        Self { pk: user.pk, username: user.username, first_name: user.first_name, last_name: user.last_name }
    }
}

impl PersonOut {
    /// The user that a row was joined with; `None` where there is none any more.
    #[must_use]
    pub fn joined(
        pk: Option<Uuid>,
        username: Option<String>,
        first_name: Option<String>,
        last_name: Option<String>,
    ) -> Option<Self> {
        Some(Self { pk: pk?, username: username?, first_name: first_name?, last_name: last_name? })
    }

    /// What others call the user: the names, or else the username.
    #[must_use]
    pub fn full_name(&self) -> String {
        let name = format!("{} {}", self.first_name, self.last_name);
        if name.trim().is_empty() { self.username.clone() } else { name.trim().to_owned() }
    }
}

/// The list of users.
pub struct Users;

impl Listing for Users {
    const FIELDS: &'static [&'static str] =
        &["username", "email", "first_name", "last_name", "date_joined", "comment_count"];
    const DEFAULT: &'static str = "-date_joined";
    const SEARCH: Option<&'static str> =
        Some("Words that username, e-mail address or names have in them, all of them.");
}

/// The endpoints of this slice.
pub struct UsersApi(pub App);

#[expect(clippy::unused_async, reason = "operations are async, whether they wait for anything or not")]
#[OpenApi(tag = "Tag::Users")]
impl UsersApi {
    /// The signed-in user
    #[oai(path = "/api/current_user", method = "get", operation_id = "getCurrentUser")]
    async fn current(&self, caller: Caller) -> Json<CurrentUserOut> {
        Json(caller.account.as_ref().into())
    }

    /// Change one's own profile
    #[oai(path = "/api/current_user", method = "patch", operation_id = "updateCurrentUser")]
    async fn update_current(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        if_match: IfMatch,
        Body(patch): Body<CurrentUserPatch>,
    ) -> Result<Json<CurrentUserOut>, Problem> {
        let changes = Changes {
            username: patch.username,
            first_name: patch.first_name.map(Name::into_string),
            last_name: patch.last_name.map(Name::into_string),
            locale: patch.locale.map(Locale::into_string),
            timezone: patch.timezone.map(|zone| zone.name().to_owned()),
        };
        let tx = db.begin().await.map_err(ServiceError::from)?;
        let current = match changes.username {
            Some(_) => store::lock_whole(&tx, caller.account.pk).await,
            None => store::lock(&tx, caller.account.pk).await,
        };
        let current = current.map_err(ServiceError::from)?;
        // Deleted since the token was checked.
        let current = current.ok_or_else(Problem::token_not_valid)?;
        if_match.check(&CurrentUserOut::from(&current))?;
        let account = service::update_profile(&self.0, &tx, current, changes).await?;
        tx.commit().await.map_err(ServiceError::from)?;
        Ok(Json((&account).into()))
    }

    /// The users of the tenant
    ///
    /// A search finds 10,000 users at most.
    #[oai(path = "/api/users", method = "get", operation_id = "listUsers")]
    async fn list(
        &self,
        _caller: Caller,
        Data(db): Data<&TenantDb>,
        query: PageQuery<Users>,
        /// Only those with this role.
        role: Query<Option<Role>>,
        /// Only those who may sign in, or only those who may not.
        is_active: Query<Option<bool>>,
    ) -> Result<Json<Page<UserOut>>, Problem> {
        Ok(Json(listing::page(db, &query, role.0, is_active.0).await?))
    }

    /// A user of the tenant
    #[oai(path = "/api/users/:pk", method = "get", operation_id = "getUser")]
    async fn detail(
        &self,
        _caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The user's id.
        pk: Path<Uuid>,
    ) -> Result<Json<UserOut>, Problem> {
        let account = store::find(db, pk.0).await.map_err(ServiceError::from)?;
        Ok(Json(account.ok_or_else(Problem::not_found)?.into()))
    }

    /// Change what a user may do
    ///
    /// For admins and owners. Only an owner makes and changes owners, and there is always one who may sign in.
    #[oai(path = "/api/users/:pk", method = "patch", operation_id = "updateUser")]
    async fn update(
        &self,
        admin: AdminCaller,
        Data(db): Data<&TenantDb>,
        /// The user's id.
        pk: Path<Uuid>,
        if_match: IfMatch,
        Body(patch): Body<UserPatch>,
    ) -> Result<Json<UserOut>, Problem> {
        let standing = Standing { role: patch.role, is_active: patch.is_active };
        let tx = db.begin().await.map_err(ServiceError::from)?;
        let current = service::lock_for(&tx, &admin.0, pk.0, Change::Standing(standing)).await?;
        if_match.check(&UserOut::from(current.clone()))?;
        let account = service::set_standing(&self.0, &tx, &admin.0, current.clone(), standing).await?;
        service::note_standing(&self.0, &tx, &admin.0, &current, &account).await?;
        service::tell_of_role(&self.0, &tx, &admin.0, &account, current.role).await?;
        tx.commit().await.map_err(ServiceError::from)?;
        Ok(Json(account.into()))
    }

    /// Remove a user
    ///
    /// For admins and owners. Only an owner removes owners, and there is always one who may sign in.
    #[oai(path = "/api/users/:pk", method = "delete", operation_id = "removeUser")]
    async fn remove(
        &self,
        admin: AdminCaller,
        Data(db): Data<&TenantDb>,
        /// The user's id.
        pk: Path<Uuid>,
        if_match: IfMatch,
    ) -> Result<NoContent, Problem> {
        let tx = db.begin().await.map_err(ServiceError::from)?;
        let account = service::lock_for(&tx, &admin.0, pk.0, Change::Removal).await?;
        if_match.check(&UserOut::from(account.clone()))?;
        service::note_removal(&self.0, &tx, &admin.0, &account).await?;
        service::remove_by(&self.0, &tx, &admin.0, &account).await?;
        tx.commit().await.map_err(ServiceError::from)?;
        Ok(NoContent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_called_by_their_names() {
        let mut person = PersonOut {
            pk: Uuid::nil(),
            username: "ann".into(),
            first_name: "Ann".into(),
            last_name: "Lee".into(),
        };
        assert_eq!(person.full_name(), "Ann Lee");
        person.first_name.clear();
        assert_eq!(person.full_name(), "Lee");
        person.last_name.clear();
        assert_eq!(person.full_name(), "ann");
    }
}

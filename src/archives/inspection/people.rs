//! The users of an archive, page by page.

use std::borrow::Cow;

use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DbErr, DerivePartialModel, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use tenants::archive::{ArchiveError, Importing};
use uuid::Uuid;

use super::{judged, sentence};
use crate::{
    entity::users::{ActiveModel, Column, Entity, Role},
    http::Name,
    password::StoredHash,
    users::{
        Locale, Timezone,
        identity::{Email, Username},
    },
};

/// How many are in memory at once.
const PAGE: u64 = 1_000;

/// All of a user that a person gave, and what follows from that.
#[derive(DerivePartialModel)]
#[sea_orm(entity = "Entity")]
struct Person {
    pk: Uuid,
    username: String,
    username_key: String,
    email: String,
    email_key: String,
    password_hash: String,
    first_name: String,
    last_name: String,
    locale: String,
    timezone: String,
}

/// By what a user is found.
#[derive(Debug, PartialEq, Eq)]
struct Keys {
    username: String,
    email: String,
}

impl Person {
    /// By what the user would be found, had he been written here; or what is wrong in which column.
    fn judge(&self) -> Result<Keys, (&'static str, Cow<'static, str>)> {
        let at = |column: &'static str| move |what: Cow<'static, str>| (column, what);
        let as_stored = |text: &str, read: &str| {
            if text == read { Ok(()) } else { Err(Cow::Borrowed("It is not as it would have been stored.")) }
        };
        let username = Username::parse(&self.username).map_err(sentence).map_err(at("username"))?;
        as_stored(&self.username, username.as_str()).map_err(at("username"))?;
        let email = Email::parse(&self.email).map_err(sentence).map_err(at("email"))?;
        as_stored(&self.email, email.as_str()).map_err(at("email"))?;
        let hash = StoredHash::parse(&self.password_hash);
        hash.map_err(|error| ("password_hash", error.to_string().into()))?;
        for (column, name) in [("first_name", &self.first_name), ("last_name", &self.last_name)] {
            judged(name, Name::<0, 150>::into_string).map_err(at(column))?;
        }
        judged(&self.locale, Locale::into_string).map_err(at("locale"))?;
        judged(&self.timezone, |zone: Timezone| zone.name().to_owned()).map_err(at("timezone"))?;
        Ok(Keys { username: username.key(), email: email.key().to_owned() })
    }
}

/// Judges all users, and puts their keys right.
pub(super) async fn inspect(tenant: &Importing) -> Result<(), ArchiveError> {
    let mut last = Uuid::nil();
    loop {
        let page = Entity::find().filter(Column::Pk.gt(last)).order_by_asc(Column::Pk).limit(PAGE);
        let people: Vec<Person> = page.into_partial_model().all(tenant).await?;
        let Some(end) = people.last() else { break };
        last = end.pk;
        for person in &people {
            let keys = person
                .judge()
                .map_err(|(column, what)| ArchiveError::unsound("users", column, person.pk, what))?;
            if (&keys.username, &keys.email) != (&person.username_key, &person.email_key) {
                // Two who would be one, PostgreSQL refuses.
                set_keys(tenant, person.pk, keys).await.map_err(ArchiveError::of_contents)?;
            }
        }
    }
    let owners = Entity::find().filter(Column::Role.eq(Role::Owner));
    let active = owners.clone().filter(Column::IsActive.eq(true)).count(tenant).await?;
    // One whose owner has not accepted the invitation yet has none, and is as good as it was.
    if active == 0 && owners.count(tenant).await? > 0 {
        let (table, column, row) = ("users", "role", String::new());
        let what = "none of the owners may sign in".to_owned();
        return Err(ArchiveError::Unsound { table, column, row, what });
    }
    Ok(())
}

async fn set_keys(tenant: &Importing, pk: Uuid, Keys { username, email }: Keys) -> Result<(), DbErr> {
    let keys = ActiveModel { username_key: Set(username), email_key: Set(email), ..Default::default() };
    Entity::update_many().set(keys).filter(Column::Pk.eq(pk)).exec(tenant).await.map(|_| ())
}

//! `tenantry tenant seed`: fills a tenant with made-up users.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::BASE32_DNSSEC;
use secrecy::SecretString;
use serde::Serialize;
use tenants::{DataKey, Slug, Status, TenantName};

use super::{
    TenantSeed,
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    entity::users::Role,
    error::ServiceError,
    http::input::Wrong,
    limits,
    state::App,
    users::{
        self, NewUser,
        identity::{Email, Username},
    },
};

/// How many users one INSERT writes. A row has 11 values, and PostgreSQL takes 65,535 in a statement.
const BATCH: u32 = 1_000;
/// One in so many is an admin.
const USERS_PER_ADMIN: u64 = 25;

/// 40 and 41: without a common divisor, so that counting both up meets every pair.
const FIRST_NAMES: [&str; 40] = [
    "Ada", "Amir", "Ana", "Ben", "Chen", "Clara", "David", "Elif", "Emma", "Farah", "Felix", "Grace", "Hana",
    "Hugo", "Ines", "Ivan", "Jana", "Jonas", "Kai", "Lara", "Leo", "Lin", "Lucia", "Maja", "Marco", "Mia",
    "Nadia", "Noah", "Nora", "Omar", "Paula", "Priya", "Ravi", "Rosa", "Sami", "Sofia", "Tariq", "Tom",
    "Yuki", "Zoe",
];
const LAST_NAMES: [&str; 41] = [
    "Adams", "Ahmed", "Baker", "Bauer", "Chan", "Costa", "Diaz", "Eriksen", "Fischer", "Garcia", "Gupta",
    "Haddad", "Hansen", "Ito", "Ivanova", "Jensen", "Kaya", "Khan", "Kim", "Kowalski", "Lee", "Lopez",
    "Martin", "Meyer", "Moreau", "Nguyen", "Novak", "Okafor", "Olsen", "Patel", "Petrov", "Rossi", "Sato",
    "Silva", "Singh", "Smith", "Tanaka", "Torres", "Weber", "Wong", "Yilmaz",
];

pub(super) async fn seed(context: &Context, arguments: &TenantSeed) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let seeded = fill(&app, &arguments.slug, arguments.users).await;
    context.output.answer(&app.finish(seeded).await?, Seeded::to_string)?;
    Ok(Exit::Ok)
}

/// Why a tenant could not be filled.
#[derive(Debug, thiserror::Error)]
enum SeedError {
    #[error("the tenant `{0}` is {1}")]
    NotActive(Slug, &'static str),
    #[error(transparent)]
    Tenancy(#[from] tenants::Error),
    #[error(transparent)]
    Hasher(#[from] crate::password::HasherError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("a made-up name is no name: {}", .0.join(" "))]
    Name(Wrong),
}

impl From<sea_orm::DbErr> for SeedError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Tenancy(error.into())
    }
}

/// Adds this many users in one transaction. Run again, it goes on where it stopped.
async fn fill(app: &App, slug: &Slug, wanted: u32) -> Result<Seeded, SeedError> {
    let tenant = app.tenancy.resolver().resolve(TenantName::Slug(slug.clone())).await?;
    let tenant = tenant.ok_or_else(|| tenants::Error::NoSuchTenant(slug.to_string()))?;
    if tenant.status != Status::Active {
        return Err(SeedError::NotActive(slug.clone(), tenant.status.as_str()));
    }
    // Random: people seed what others can reach too. One hash for all, for hashing is what takes time.
    let password = BASE32_DNSSEC.encode(&rand::random::<[u8; 10]>());
    let password_hash = app.hasher.hash(SecretString::from(password.clone())).await?;
    let now = app.clock.now();
    let db = app.tenancy.database_of(tenant).begin().await?;
    limits::room_for_users(&db, wanted.into()).await?;
    let before = users::count_all(&db).await?;

    let (mut number, mut added, mut username) = (before, 0, None);
    while added < u64::from(wanted) {
        let batch = u64::from(BATCH).min(u64::from(wanted) - added);
        let mut people = (number..number + batch)
            .map(|number| Person::new(number, slug))
            .collect::<Result<Vec<_>, _>>()
            .map_err(SeedError::Name)?;
        number += batch;
        let taken = users::taken_usernames(&db, people.iter().map(|person| &person.username)).await?;
        people.retain(|person| !taken.contains(&person.username.key()));
        if username.is_none() {
            username = people.first().map(|person| person.username.as_str().to_owned());
        }
        let hash = |person: &Person| app.tenancy.key(DataKey::BlindIndex).mac(person.email.key().as_bytes());
        let hashes: Vec<[u8; 32]> = people.iter().map(hash).collect();
        // Each a microsecond after the one before, so that the order of the list is theirs; none in the future.
        let joined = |place: u64| now - TimeDelta::microseconds(i64::from(wanted)) + micros(added + place);
        let rows = (0..).zip(people).map(|(place, person)| {
            person.into_user(app.clock.uuid_v7(), password_hash.clone(), joined(place))
        });
        added += users::insert_many(&db, rows.collect()).await?;
        db.index_emails(&hashes).await?;
    }
    db.commit().await?;
    Ok(Seeded {
        url: app.site.tenant_url(slug),
        slug: slug.to_string(),
        added,
        users: before + added,
        username: username.unwrap_or_default(),
        password,
    })
}

fn micros(count: u64) -> TimeDelta {
    TimeDelta::microseconds(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Somebody who does not exist.
struct Person {
    first_name: &'static str,
    last_name: &'static str,
    username: Username,
    email: Email,
    role: Role,
}

impl Person {
    /// The person of this number, always the same one.
    fn new(number: u64, slug: &Slug) -> Result<Self, Wrong> {
        let pick = |names: &[&'static str]| names[usize::try_from(number).unwrap_or(0) % names.len()];
        let (first_name, last_name) = (pick(&FIRST_NAMES), pick(&LAST_NAMES));
        let username = format!("{first_name}.{last_name}{number}").to_lowercase();
        Ok(Self {
            first_name,
            last_name,
            // A domain that nobody can have (RFC 2606): no mail reaches a stranger.
            email: Email::parse(&format!("{username}@{slug}.example"))?,
            username: Username::parse(&username)?,
            role: if number.is_multiple_of(USERS_PER_ADMIN) { Role::Admin } else { Role::Member },
        })
    }

    fn into_user(self, pk: uuid::Uuid, password_hash: String, joined: DateTime<Utc>) -> NewUser {
        NewUser {
            pk,
            username: self.username,
            email: self.email,
            password_hash,
            first_name: self.first_name.to_owned(),
            last_name: self.last_name.to_owned(),
            role: self.role,
            email_verified_at: Some(joined),
            date_joined: joined,
        }
    }
}

/// What was added, and how to sign in as one of them.
#[derive(Serialize)]
struct Seeded {
    slug: String,
    url: String,
    added: u64,
    users: u64,
    username: String,
    password: String,
}

impl fmt::Display for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slug, url, added, users, username, password } = self;
        let plural = if *added == 1 { "" } else { "s" };
        write!(
            f,
            "Added {added} user{plural} to {slug}, which has {users} now. Sign in as one of them; they share this password, \
             which is not shown again:\n\n  \
             curl {url}/api/login/ -H 'Content-Type: application/json' \\\n    \
             -d '{{\"username\": \"{username}\", \"password\": \"{password}\"}}'"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn everybody_has_a_name_of_his_own_and_the_same_one_every_time() {
        let slug: Slug = "acme".parse().unwrap();
        let person = |number| Person::new(number, &slug).unwrap();
        let usernames: HashSet<String> = (0..5_000).map(|number| person(number).username.key()).collect();
        assert_eq!(usernames.len(), 5_000);
        assert_eq!(person(41).username.as_str(), "amir.adams41");
        assert_eq!(person(41).email.as_str(), "amir.adams41@acme.example");
    }

    #[test]
    fn first_and_last_names_meet_in_every_pair() {
        let slug: Slug = "acme".parse().unwrap();
        let names: HashSet<_> = (0..40 * 41)
            .map(|number| Person::new(number, &slug).unwrap())
            .map(|person| (person.first_name, person.last_name))
            .collect();
        assert_eq!(names.len(), 40 * 41);
    }
}

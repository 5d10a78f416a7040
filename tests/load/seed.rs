//! Tenants to be loaded. They are made by the library, on the database of the running server: over HTTP each would cost
//! a password hash.

use std::{net::SocketAddr, path::Path};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use poem::FromRequest as _;
use tenantry::{
    auth::{self, Device, Subject},
    backend::{Backend, Use},
    clock::Clock,
    config::Config,
    entity::users::Role,
    state::App,
    tenant::create_settings,
    users::{
        self, NewUser,
        identity::{Email, Username},
    },
};
use tenants::{NewTenant, SlugChoice};
use uuid::Uuid;

use crate::Failure;

/// Everybody's.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// As many as have a connection of the pool that makes tenants.
const AT_ONCE: usize = 2;

/// A tenant, and how to be somebody in it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: Uuid,
    pub(crate) slug: String,
    pub(crate) host: String,
    /// Who is signed in.
    pub(crate) owner: Uuid,
    /// Somebody else, who is looked at and signs in, and his username.
    pub(crate) colleague: Uuid,
    pub(crate) username: String,
    pub(crate) users: u32,
    pub(crate) token: String,
    session: Uuid,
}

/// Makes tenants.
pub(crate) struct Seeder {
    app: App,
    backend: Backend,
    password_hash: String,
    port: u16,
}

impl Seeder {
    /// On the database of the server with this data directory and this URL.
    pub(crate) async fn open(data_dir: &Path, url: &str, address: SocketAddr) -> Result<Self, Failure> {
        let settings = [
            ("TENANTRY_DATA_DIR", data_dir.display().to_string()),
            ("TENANTRY_LISTEN", address.to_string()),
            // Tokens made here shall be the server's.
            ("TENANTRY_PUBLIC_URL", url.to_owned()),
        ];
        let config =
            Config::parse(None, settings.into_iter().map(|(name, value)| (name.into(), value.into())))?;
        let backend = Backend::open(&config, Use::Shared).await?;
        let app = backend.app(&config, Clock::system()).await?;
        let password_hash = app.hasher.hash(PASSWORD.into()).await?;
        Ok(Self { app, backend, password_hash, port: address.port() })
    }

    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// The database as its superuser sees it.
    pub(crate) fn superuser_url(&self) -> Result<secrecy::SecretString, Failure> {
        let cluster = self.backend.cluster().ok_or("the database is not the embedded one")?;
        Ok(cluster.superuser_url("tenantry"))
    }

    /// Makes tenants until there are so many.
    pub(crate) async fn fill(
        &self,
        targets: &mut Vec<Target>,
        tenants: u32,
        users: u32,
    ) -> Result<(), Failure> {
        let present = u32::try_from(targets.len())?;
        let made = stream::iter(present..tenants).map(|number| self.make(number, users)).buffered(AT_ONCE);
        targets.extend(made.try_collect::<Vec<_>>().await?);
        Ok(())
    }

    /// Gives everybody a new token: one lives for ten minutes, whatever the load test takes.
    pub(crate) async fn renew_tokens(&self, targets: &mut [Target]) -> Result<(), Failure> {
        for target in targets {
            let subject =
                Subject { user: target.owner, tenant: target.id, session: target.session, role: Role::Owner };
            (target.token, _) = self.app.tokens.issue(&subject).await?;
        }
        Ok(())
    }

    async fn make(&self, number: u32, users: u32) -> Result<Target, Failure> {
        let clock = &self.app.clock;
        let (id, now) = (clock.uuid_v7(), clock.now());
        let slug = format!("load-{number}");
        let new = NewTenant { id, slug: SlugChoice::Exactly(slug.parse()?), name: slug.clone(), now };
        let tenant = self.app.tenancy.provision(new).await?;
        create_settings(&tenant, slug.clone(), now).await?;
        let people = (0..users).map(|number| self.user(&slug, number)).collect::<Result<Vec<_>, _>>()?;
        let (owner, colleague) = match people.as_slice() {
            [owner, .., colleague] => (owner.pk, colleague.pk),
            _ => return Err("a tenant needs two users".into()),
        };
        users::insert_many(&tenant, people).await?;
        let account = users::find(&tenant, owner).await?.ok_or("the owner is gone")?;
        let device = Device::from_request_without_body(&poem::Request::default()).await?;
        let signed_in = auth::sign_in(&self.app, &tenant, id, &account, &device).await?;
        tenant.commit().await?;
        let claims = self.app.tokens.verify(&signed_in.token).await?.ok_or("a new token is not valid")?;
        Ok(Target {
            id,
            host: format!("{slug}.localhost:{}", self.port),
            slug,
            owner,
            // Not the owner's: of the sessions that logins make, a user keeps a hundred, and the one of this token is one.
            username: format!("user{}", users - 1),
            colleague,
            users,
            token: signed_in.token,
            session: claims.sid,
        })
    }

    fn user(&self, slug: &str, number: u32) -> Result<NewUser, Failure> {
        let username = format!("user{number}");
        let clock = &self.app.clock;
        Ok(NewUser {
            pk: clock.uuid_v7(),
            email: Email::parse(&format!("{username}@{slug}.example")).map_err(|wrong| wrong.join(" "))?,
            username: Username::parse(&username).map_err(|wrong| wrong.join(" "))?,
            password_hash: self.password_hash.clone(),
            first_name: "Ada".to_owned(),
            last_name: "Adams".to_owned(),
            role: if number == 0 { Role::Owner } else { Role::Member },
            email_verified_at: None,
            date_joined: clock.now(),
        })
    }
}

//! Setting a database up and bringing it up to date: the catalog, the installation's roles and grants, its keys.
//!
//! Everything here can be run again: what is there already stays as it is.

use chrono::{DateTime, Utc};
use migration::{CATALOG_SCHEMA, VERSION_TABLE, sea_orm_migration::MigratorTrait};
use sea_orm::SqlxPostgresConnector;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    Error,
    connection::Login,
    keys::{DataKey, DataKeys, SecretKey, scram_verifier},
    names::{InstallationId, RoleNames},
    render::current_version,
    role_maker::RoleMaker,
};

/// The oldest PostgreSQL that is supported: 14.
const OLDEST_SERVER: u32 = 140_000;

/// What PUBLIC can do in this database and must not, as the statements that take it away. Beside the rights on the
/// database and on `public`, these are the functions with which one SELECT can act as another tenant of the lane or wake
/// everybody up.
const EXPOSED: &str = "SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()) \
     WHERE has_database_privilege('public', current_database(), 'TEMPORARY') \
     UNION ALL \
     SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC' FROM pg_namespace \
     WHERE nspname = 'public' AND has_schema_privilege('public', oid, 'CREATE') \
     UNION ALL \
     SELECT * FROM ( \
         SELECT format('REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC', p.oid::regprocedure) FROM pg_proc p \
         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') \
         AND (p.proname IN ('set_config', 'pg_notify') \
             OR p.proname ~ '^(query|cursor|table|schema|database)_to_xml') \
         ORDER BY 1) AS functions";

/// The statement that lets a login connect, where it may not yet.
const CONNECT: &str = "SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), $1) \
     WHERE NOT has_database_privilege($1, current_database(), 'CONNECT')";

pub(crate) fn connect_options(url: &SecretString) -> Result<Login, Error> {
    let options: PgConnectOptions =
        url.expose_secret().parse().map_err(|error: sqlx::Error| match error {
            // The text of a parse error names the part that is wrong and not its value.
            sqlx::Error::Configuration(error) => Error::Url(error.to_string()),
            other => other.into(),
        })?;
    // Statements are traced where they are run; sqlx would log them a second time. Numbers travel in binary, so how many
    // digits their texts have makes no difference, and poolers refuse to be told.
    let options = options.application_name("tenantry").disable_statement_logging().extra_float_digits(None);
    Ok(Login(options))
}

/// On a cluster of our own: creates the database and the login that owns it, and takes from PUBLIC what only a
/// superuser can take. Doing it again changes nothing.
///
/// # Errors
/// Those of the database.
pub async fn create_database(
    superuser: &SecretString,
    database: &str,
    owner: &str,
    owner_password: &SecretString,
) -> Result<(), Error> {
    let Login(options) = connect_options(superuser)?;
    let mut connection = PgConnection::connect_with(&options).await?;
    check_server(&connection)?;
    // Two processes may come here at once; the lock ends with the connection.
    connection.execute("SELECT pg_advisory_lock(hashtextextended('tenantry.database', 0))").await?;
    if !exists(&mut connection, "SELECT FROM pg_roles WHERE rolname = $1", owner).await? {
        let verifier = scram_verifier(owner_password.expose_secret());
        run(&mut connection, format!(r#"CREATE ROLE "{owner}" LOGIN CREATEROLE PASSWORD '{verifier}'"#))
            .await?;
    }
    if !exists(&mut connection, "SELECT FROM pg_database WHERE datname = $1", database).await? {
        run(&mut connection, format!(r#"CREATE DATABASE "{database}" OWNER "{owner}""#)).await?;
    }
    // Whoever may log in may connect to these too, and would have more rights there than here.
    run(&mut connection, "REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC".to_owned()).await?;
    let mut inside = PgConnection::connect_with(&options.clone().database(database)).await?;
    harden(&mut inside).await?;
    // A DO block could SET ROLE. The owner writes the catalog's functions in it.
    run(
        &mut inside,
        format!(
            r#"REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC; GRANT USAGE ON LANGUAGE plpgsql TO "{owner}""#
        ),
    )
    .await?;
    inside.close().await?;
    connection.close().await?;
    Ok(())
}

/// Whether a cluster of our own has this login already.
///
/// # Errors
/// Those of the database.
pub async fn has_login(superuser: &SecretString, login: &str) -> Result<bool, Error> {
    let Login(options) = connect_options(superuser)?;
    let mut connection = PgConnection::connect_with(&options).await?;
    let found = exists(&mut connection, "SELECT FROM pg_roles WHERE rolname = $1", login).await?;
    connection.close().await?;
    Ok(found)
}

/// Takes from PUBLIC what tenants' roles must not have. Returns what this login has no right to take.
///
/// What is left over is looked up afterwards: a REVOKE by somebody who did not grant is a mere warning to PostgreSQL.
pub(crate) async fn harden(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    run(connection, "SET client_min_messages TO error".to_owned()).await?;
    for statement in exposed(connection).await? {
        match run(connection, statement).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {}
            result => result?,
        }
    }
    run(connection, "RESET client_min_messages".to_owned()).await?;
    Ok(exposed(connection).await?)
}

/// The statements that take from PUBLIC what it can do and must not.
pub(crate) async fn exposed(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    connection.fetch_all(EXPOSED).await?.iter().map(|row| row.try_get(0)).collect()
}

/// What [`Tenancy::migrate_catalog`](crate::Tenancy::migrate_catalog) did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MigrationReport {
    /// The catalog migrations that were applied now.
    pub catalog: Vec<String>,
    /// Hardening statements that this login has no right to: a superuser should run them once.
    pub not_hardened: Vec<String>,
}

/// Brings the catalog, the roles, the keys and the grants up to date. One process at a time does it; others wait.
///
/// # Errors
/// [`Error::WrongMasterKey`], [`Error::CatalogAhead`], or those of the database.
pub(crate) async fn migrate_catalog(
    owner: &SecretString,
    master: &SecretKey,
    lanes: u16,
    now: DateTime<Utc>,
) -> Result<MigrationReport, Error> {
    let login = connect_options(owner)?;
    let options = login.0.clone().options([("search_path", CATALOG_SCHEMA)]);
    let mut connection = PgConnection::connect_with(&options).await?;
    check_server(&connection)?;
    // Held until this connection closes, killed or not.
    lock_catalog(&mut connection).await?;
    run(&mut connection, format!("CREATE SCHEMA IF NOT EXISTS {CATALOG_SCHEMA}")).await?;

    let before = applied(&mut connection).await?;
    refuse_newer(&before)?;
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
    let database = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
    migration::Catalog::up(&database, None).await?;
    database.close().await?;
    let catalog = applied(&mut connection).await?.into_iter().filter(|name| !before.contains(name)).collect();

    let installation = Installation::create_or_load(&mut connection, master, lanes, now).await?;
    installation.create_roles(&mut connection, &login).await?;
    let not_hardened = harden(&mut connection).await?;
    connection.close().await?;
    Ok(MigrationReport { catalog, not_hardened })
}

/// Takes the lock under which the catalog is changed, and keeps it as long as the connection. Whoever waits says for whom: every
/// login can take it, one that nobody looks after too.
pub(crate) async fn lock_catalog(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    const LOCK: &str = "SELECT pg_advisory_lock(hashtextextended('tenantry.catalog', 0))";
    // Another process is done with it sooner, most often.
    connection.execute("SET lock_timeout TO '3s'").await?;
    let locked = connection.execute(LOCK).await;
    connection.execute("RESET lock_timeout").await?;
    match locked {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => {}
        locked => return locked.map(|_| ()),
    }
    let held_by: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(format('%s (pid %s)', usename, pid), ', ') FROM pg_locks JOIN pg_stat_activity USING (pid) \
         WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
         AND (classid::bigint << 32) | objid::bigint = hashtextextended('tenantry.catalog', 0) \
         AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .fetch_one(&mut *connection)
    .await?;
    let held_by = held_by.unwrap_or_else(|| "nobody any more".to_owned());
    tracing::warn!(%held_by, "waiting for the catalog, which another session has locked");
    connection.execute("SET lock_timeout TO 0").await?;
    connection.execute(LOCK).await?;
    connection.execute("RESET lock_timeout").await.map(|_| ())
}

/// The catalog migrations that this program knows, in their order.
fn known() -> Vec<String> {
    migration::Catalog::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}

fn refuse_newer(applied: &[String]) -> Result<(), Error> {
    let known = known();
    if applied.iter().all(|name| known.contains(name)) { Ok(()) } else { Err(Error::CatalogAhead) }
}

/// Whether a catalog that has had these migrations is the one this program works with.
pub(crate) fn check_catalog(applied: &[String]) -> Result<(), Error> {
    refuse_newer(applied)?;
    match (applied.len(), known().len()) {
        (0, _) => Err(Error::NotInstalled),
        (found, expected) if found < expected => Err(Error::CatalogBehind { found, expected }),
        _ => Ok(()),
    }
}

/// What `tenantry migrate` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pending {
    /// The catalog migrations that are yet to be applied.
    pub catalog: Vec<String>,
    /// The number of tenants whose schema is behind.
    pub tenants: u64,
}

impl Pending {
    /// What a database lacks that was never set up.
    #[must_use]
    pub fn all() -> Self {
        Self { catalog: known(), tenants: 0 }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.catalog.is_empty() && self.tenants == 0
    }
}

/// What a database lacks. Reads only.
pub(crate) async fn pending(owner: &SecretString) -> Result<Pending, Error> {
    let Login(options) = connect_options(owner)?;
    let mut connection = PgConnection::connect_with(&options).await?;
    check_server(&connection)?;
    let applied = applied(&mut connection).await?;
    refuse_newer(&applied)?;
    let tenants = match applied.as_slice() {
        [] => 0,
        _ => sqlx::query_scalar(
            "SELECT count(*) FROM tenantry.tenants WHERE schema_version < $1 AND status <> 'purging'",
        )
        .bind(current_version())
        .fetch_one(&mut connection)
        .await
        .map(|behind: i64| u64::try_from(behind).unwrap_or(0))?,
    };
    connection.close().await?;
    Ok(Pending { catalog: known().into_iter().filter(|name| !applied.contains(name)).collect(), tenants })
}

/// The catalog migrations that this database has had, in their order.
pub(crate) async fn applied(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let table = format!("{CATALOG_SCHEMA}.{VERSION_TABLE}");
    if !exists(connection, "SELECT 1 WHERE to_regclass($1) IS NOT NULL", &table).await? {
        return Ok(Vec::new());
    }
    let rows =
        connection.fetch_all(AssertSqlSafe(format!("SELECT version FROM {table} ORDER BY version"))).await?;
    rows.iter().map(|row| row.try_get(0).map_err(Into::into)).collect()
}

/// What the catalog says of the whole installation.
#[derive(Debug)]
pub(crate) struct Installation {
    pub(crate) roles: RoleNames,
    pub(crate) role_maker: RoleMaker,
    pub(crate) lanes: u16,
    pub(crate) keys: DataKeys,
    /// The version of the server it is on, where that says so: 150004.
    pub(crate) server: Option<u32>,
}

impl Installation {
    /// Reads the installation of a database that is up to date.
    pub(crate) async fn load(owner: &Login, master: &SecretKey) -> Result<Self, Error> {
        let options = owner.0.clone().options([("search_path", CATALOG_SCHEMA)]);
        let mut connection = PgConnection::connect_with(&options).await?;
        check_server(&connection)?;
        check_catalog(&applied(&mut connection).await?)?;
        let installation = Self::read_catalog(&mut connection, master).await?;
        connection.close().await?;
        Ok(installation)
    }

    /// Reads the installation from the catalog of any connection that may.
    pub(crate) async fn read_catalog(
        connection: &mut PgConnection,
        master: &SecretKey,
    ) -> Result<Self, Error> {
        Self::read(connection, master).await?.ok_or(Error::NotInstalled)
    }

    async fn read(connection: &mut PgConnection, master: &SecretKey) -> Result<Option<Self>, Error> {
        let Some((id, lanes)) = Self::identify(connection, master).await? else { return Ok(None) };
        let wrapped = connection.fetch_all("SELECT name, wrapped FROM tenantry.data_keys").await?;
        let wrapped = wrapped
            .iter()
            .map(|row| Ok((row.try_get("name")?, row.try_get("wrapped")?)))
            .collect::<Result<Vec<_>, sqlx::Error>>()?;
        let server = connection.server_version_num();
        let role_maker = RoleMaker::of(connection).await?;
        Ok(Some(Self {
            roles: RoleNames::of(id),
            role_maker,
            lanes,
            keys: DataKeys::unwrap(master, wrapped)?,
            server,
        }))
    }

    /// Which installation this is, and how many lanes it has, if the master key is its own.
    async fn identify(
        connection: &mut PgConnection,
        master: &SecretKey,
    ) -> Result<Option<(InstallationId, u16)>, Error> {
        let Some(row) = connection
            .fetch_optional("SELECT id, master_key_check, lanes FROM tenantry.installation")
            .await?
        else {
            return Ok(None);
        };
        let id: String = row.try_get("id")?;
        let id: InstallationId = id.parse().map_err(|_| Error::Damaged(format!("installation id {id:?}")))?;
        let check: Vec<u8> = row.try_get("master_key_check")?;
        if !master.verifies(&check_message(&id), &check) {
            return Err(Error::WrongMasterKey);
        }
        let lanes = u16::try_from(row.try_get::<i16, _>("lanes")?)
            .map_err(|error| Error::Damaged(error.to_string()))?;
        Ok(Some((id, lanes)))
    }

    async fn create_or_load(
        connection: &mut PgConnection,
        master: &SecretKey,
        lanes: u16,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        if Self::identify(connection, master).await?.is_some() {
            // One that was made by an earlier version lacks the keys that have come since.
            make_keys(connection, master, now).await?;
            return Self::read_catalog(connection, master).await;
        }
        let id = InstallationId::generate();
        let mut transaction = connection.begin().await?;
        sqlx::query(
            "INSERT INTO installation (id, master_key_check, lanes, created_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(id.to_string())
        .bind(&master.mac(&check_message(&id))[..])
        .bind(i16::try_from(lanes).map_err(|error| Error::Damaged(error.to_string()))?)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        make_keys(&mut transaction, master, now).await?;
        transaction.commit().await?;
        Self::read_catalog(connection, master).await
    }

    /// The roles and what they may do. Derived state: it can be made again from the catalog at any time. Returns those that
    /// were made now, or got another password.
    pub(crate) async fn create_roles(
        &self,
        connection: &mut PgConnection,
        owner: &Login,
    ) -> Result<Vec<String>, Error> {
        let (group, catalog) = (self.roles.tenants(), self.roles.catalog());
        let mut made = Vec::new();
        if self.create_role(connection, &group).await? {
            made.push(group.clone());
        }
        // NOINHERIT: or an unbound connection could read every tenant of the lane.
        let lanes = (0..self.lanes).map(|lane| (self.roles.lane(lane), "NOINHERIT"));
        for (login, inherits) in std::iter::once((catalog.clone(), "INHERIT")).chain(lanes) {
            if self.create_login(connection, owner, &login, inherits).await? {
                made.push(login);
            }
        }
        // To the audit log everybody adds and nobody changes anything: the owner, too, would have to grant it to himself.
        run(
            connection,
            format!(
                r#"GRANT USAGE ON SCHEMA {CATALOG_SCHEMA} TO "{catalog}", "{group}";
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {CATALOG_SCHEMA} TO "{catalog}";
                REVOKE UPDATE, DELETE, TRUNCATE ON {CATALOG_SCHEMA}.audit FROM "{catalog}", CURRENT_USER;
                GRANT EXECUTE ON FUNCTION enqueue(text, jsonb, timestamptz, text), index_email(bytea, bytea),
                    rename_tenant(text) TO "{group}""#
            ),
        )
        .await?;
        Ok(made)
    }

    /// Makes a login, or gives it the password that it is to have. Returns whether it did.
    async fn create_login(
        &self,
        connection: &mut PgConnection,
        owner: &Login,
        role: &str,
        inherits: &str,
    ) -> Result<bool, Error> {
        let password = self.keys.login_password(role);
        let made = self.create_role(connection, role).await?;
        // Where the database is for this installation's logins alone; the owner of it lets them in.
        if let Some(connect) =
            sqlx::query_scalar::<_, String>(CONNECT).bind(role).fetch_optional(&mut *connection).await?
        {
            run(connection, connect).await?;
        }
        let set_login =
            || self.role_maker.set_login(role, inherits, &scram_verifier(password.expose_secret()));
        if made {
            run(connection, set_login()).await?;
            return Ok(true);
        }
        // It was there before, perhaps with another password: after a restore onto another cluster, say.
        match PgConnection::connect_with(&self.login(owner, role).0).await {
            Ok(login) => login.close().await?,
            // Another password, or no right to log in.
            Err(sqlx::Error::Database(error))
                if matches!(error.code().as_deref(), Some("28P01" | "28000")) =>
            {
                run(connection, set_login()).await?;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(false)
    }

    /// Creates a role that is not there yet, and cannot log in. Returns whether it did.
    async fn create_role(&self, connection: &mut PgConnection, role: &str) -> Result<bool, Error> {
        if exists(connection, "SELECT FROM pg_roles WHERE rolname = $1", role).await? {
            return Ok(false);
        }
        run(connection, self.role_maker.create(role)).await?;
        Ok(true)
    }

    /// How to connect as one of the installation's logins.
    pub(crate) fn login(&self, owner: &Login, role: &str) -> Login {
        let password = self.keys.login_password(role);
        Login(owner.0.clone().username(role).password(password.expose_secret()))
    }
}

/// Makes the data keys that are not there yet.
async fn make_keys(
    connection: &mut PgConnection,
    master: &SecretKey,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let there: Vec<String> =
        sqlx::query_scalar("SELECT name FROM data_keys").fetch_all(&mut *connection).await?;
    for key in DataKey::ALL.into_iter().filter(|key| !there.iter().any(|name| name == key.name())) {
        let wrapped = master.seal(&key.context(), SecretKey::generate().expose())?;
        sqlx::query("INSERT INTO data_keys (name, wrapped, created_at) VALUES ($1, $2, $3)")
            .bind(key.name())
            .bind(wrapped)
            .bind(now)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// What a connection starts with that leads past any pooler. A backend notices within a second that its client is gone; a lock or
/// an open transaction that nobody goes on with ends by itself.
pub(crate) const SESSION_SETTINGS: [(&str, &str); 4] = [
    ("client_connection_check_interval", "1s"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "30s"),
];

/// As [`SESSION_SETTINGS`], for a connection that copies a whole tenant: however long that takes, and however long an index
/// is built. A lock it waits for is one of a migration or a purge; what it holds meanwhile must not keep others for long.
pub(crate) const BULK_SETTINGS: [(&str, &str); 4] = [
    ("client_connection_check_interval", "1s"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "5min"),
];

pub(crate) fn check_message(id: &InstallationId) -> Vec<u8> {
    format!("tenantry master key check {id}").into_bytes()
}

pub(crate) fn check_server(connection: &PgConnection) -> Result<(), Error> {
    match connection.server_version_num() {
        Some(version) if version < OLDEST_SERVER => Err(Error::ServerTooOld(version / 10_000)),
        _ => Ok(()),
    }
}

async fn exists(connection: &mut PgConnection, sql: &'static str, value: &str) -> Result<bool, sqlx::Error> {
    Ok(sqlx::query(sql).bind(value).fetch_optional(connection).await?.is_some())
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(sql)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::EXPOSED;

    /// What a text says between two others, its white space evened out.
    fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
        let (_, rest) = text.split_once(from).unwrap();
        rest.split_once(to).unwrap().0.split_whitespace().collect()
    }

    #[test]
    fn the_script_for_superusers_takes_the_same_functions_from_everybody() {
        let script = include_str!("../../deploy/postgresql/harden.sql");
        let patterns = between(script, "(proname IN", "\\gexec").join(" ");
        assert_eq!(
            patterns,
            between(EXPOSED, "(p.proname IN", "ORDER").join(" ").replace("p.proname", "proname")
        );
        for statement in
            ["REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"]
        {
            assert!(script.contains(statement) && EXPOSED.contains(statement), "{statement}");
        }
    }
}

//! Another master key. It only wraps the data keys, so nothing else has to be written anew; and processes that run go on,
//! because they hold the data keys unwrapped.

use sea_orm::{ConnectionTrait as _, DbBackend, FromQueryResult, Statement};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use crate::{
    Error, SecretKey, Tenancy,
    connection::Login,
    db::CatalogTx,
    install::{check_message, connect_options},
    keys::{data_key_context, scram_verifier},
    names::InstallationId,
};

#[derive(FromQueryResult)]
struct Wrapped {
    name: String,
    wrapped: Vec<u8>,
}

impl Tenancy {
    /// Wraps the data keys with another master key, up to the commit. With `owner_password` the login that owns the
    /// database gets that password in the same transaction.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`] where the data keys are not wrapped with `from`, or those of the database.
    pub async fn rewrap(
        &self,
        from: &SecretKey,
        to: &SecretKey,
        owner_password: Option<&SecretString>,
    ) -> Result<CatalogTx, Error> {
        let statement = |sql: &str, values: Vec<sea_orm::Value>| {
            Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
        };
        let tx = self.owner().begin().await?;
        // Two who rotate at once: the second finds another check value, and is refused.
        let row = tx
            .query_one_raw(statement("SELECT id, master_key_check FROM installation FOR UPDATE", vec![]))
            .await?
            .ok_or(Error::NotInstalled)?;
        let id: String = row.try_get("", "id")?;
        let id: InstallationId = id.parse().map_err(|_| Error::Damaged(format!("installation id {id:?}")))?;
        let check: Vec<u8> = row.try_get("", "master_key_check")?;
        if !from.verifies(&check_message(&id), &check) {
            return Err(Error::WrongMasterKey);
        }
        let keys = Wrapped::find_by_statement(statement("SELECT name, wrapped FROM data_keys", vec![]));
        for Wrapped { name, wrapped } in keys.all(&tx).await? {
            let context = data_key_context(&name);
            let plain = from.open(&context, &wrapped)?;
            let wrapped = to.seal(&context, &plain)?;
            let update = "UPDATE data_keys SET wrapped = $2 WHERE name = $1";
            tx.execute_raw(statement(update, vec![name.into(), wrapped.into()])).await?;
        }
        let check = to.mac(&check_message(&id)).to_vec();
        tx.execute_raw(statement("UPDATE installation SET master_key_check = $1", vec![check.into()]))
            .await?;
        if let Some(password) = owner_password {
            let verifier = scram_verifier(password.expose_secret());
            tx.batch(&format!("ALTER ROLE CURRENT_USER PASSWORD '{verifier}'")).await?;
        }
        Ok(tx)
    }
}

/// Whether this is the master key of the installation in this database; not if there is none.
///
/// # Errors
/// Those of the database.
pub async fn is_master_key(database: &SecretString, key: &SecretKey) -> Result<bool, Error> {
    let Login(options) = connect_options(database)?;
    let mut connection = PgConnection::connect_with(&options).await?;
    let there = "SELECT to_regclass('tenantry.installation') IS NOT NULL";
    let row = if connection.fetch_one(there).await?.try_get(0)? {
        connection.fetch_optional("SELECT id, master_key_check FROM tenantry.installation").await?
    } else {
        None
    };
    connection.close().await?;
    let Some(row) = row else { return Ok(false) };
    let id: String = row.try_get(0)?;
    let id: InstallationId = id.parse().map_err(|_| Error::Damaged(format!("installation id {id:?}")))?;
    Ok(key.verifies(&check_message(&id), &row.try_get::<Vec<u8>, _>(1)?))
}

//! Plans: limits that many tenants have in common; and which tenant has which limits and which plan.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value};
use uuid::Uuid;

use crate::{
    CatalogDb, CatalogTx, Error, Fault, Limits, PlanName, Reached, Tenancy, TenantAction, fault,
    jobs::{self, Whose},
    limits::DEFAULT_PLAN,
    listener::Change,
    resolution::{limit_columns, limits_of},
};

/// A plan, as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its limits; see [`Limits::of`].
    pub limits: serde_json::Value,
    /// How many tenants have it, whatever their status.
    pub tenants: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

const PLANS: &str = "SELECT p.name, p.limits, p.created_at, \
     (SELECT count(*) FROM tenants t WHERE t.plan = p.name) AS tenants FROM plans p";

fn statement(sql: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

impl Plan {
    /// How many there are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count(db: &CatalogDb) -> Result<u64, DbErr> {
        let row = db.query_one_raw(statement("SELECT count(*) AS plans FROM plans", [])).await?;
        let plans: i64 = row.map_or(Ok(0), |row| row.try_get("", "plans"))?;
        Ok(u64::try_from(plans).unwrap_or(0))
    }

    /// Some of them, by name: `limit` of them after the first `offset`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        db: &CatalogDb,
        descending: bool,
        (offset, limit): (u64, u64),
    ) -> Result<Vec<Self>, DbErr> {
        let direction = if descending { "DESC" } else { "ASC" };
        let sql = format!("{PLANS} ORDER BY p.name {direction} OFFSET $1 LIMIT $2");
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).into();
        Self::find_by_statement(statement(sql, [number(offset), number(limit)])).all(db).await
    }

    /// Locks one until the transaction ends.
    ///
    /// # Errors
    /// [`Error::NoSuchPlan`], or those of the database.
    pub async fn lock(tx: &CatalogTx, name: &str) -> Result<Self, Error> {
        // Not FOR UPDATE: who gives a tenant the plan refers to it, and does not have to wait.
        let sql = format!("{PLANS} WHERE p.name = $1 FOR NO KEY UPDATE OF p");
        let plan = Self::find_by_statement(statement(sql, [name.into()])).one(tx).await?;
        plan.ok_or_else(|| Error::NoSuchPlan(name.to_owned()))
    }

    /// Makes one. Every process hears of it when the transaction is committed.
    ///
    /// # Errors
    /// [`Error::PlanTaken`], or those of the database.
    pub async fn create(
        tx: &CatalogTx,
        name: &PlanName,
        limits: &Limits,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let sql = "INSERT INTO plans (name, limits, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let values = [name.as_str().into(), limits.to_value().into(), now.into()];
        if tx.execute_raw(statement(sql, values)).await?.rows_affected() == 0 {
            return Err(Error::PlanTaken);
        }
        // The plan `default` concerns everybody.
        tx.batch(&Change::Plans.announcement()).await?;
        Ok(Self { name: name.to_string(), limits: limits.to_value(), tenants: 0, created_at: now })
    }

    /// Gives one that is locked other limits. Every process hears of it when the transaction is committed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn set_limits(&mut self, tx: &CatalogTx, limits: &Limits) -> Result<(), Error> {
        self.limits = limits.to_value();
        let values = [self.name.as_str().into(), self.limits.clone().into()];
        tx.execute_raw(statement("UPDATE plans SET limits = $2 WHERE name = $1", values)).await?;
        Ok(tx.batch(&Change::Plans.announcement()).await?)
    }

    /// Has the jobs of its tenants looked at again now that were put off for this reason.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hasten(&self, tx: &CatalogTx, reason: &str, now: DateTime<Utc>) -> Result<(), DbErr> {
        // What it says concerns everybody whose plan says nothing.
        let whose = if self.name == DEFAULT_PLAN { Whose::Everybody } else { Whose::Plan(&self.name) };
        jobs::hasten(tx, whose, reason, now).await
    }

    /// Deletes one that is locked. Every process hears of it when the transaction is committed.
    ///
    /// # Errors
    /// [`Error::PlanInUse`], or those of the database.
    pub async fn delete(self, tx: &CatalogTx) -> Result<(), Error> {
        let delete = statement("DELETE FROM plans WHERE name = $1", [self.name.into()]);
        tx.execute_raw(delete).await.map_err(|error| match fault(&error) {
            Fault::ForeignKey(_) => Error::PlanInUse,
            _ => error.into(),
        })?;
        Ok(tx.batch(&Change::Plans.announcement()).await?)
    }
}

impl Tenancy {
    /// Takes note that plans may be others, after a transaction that changed one: the announcement comes here too, but a
    /// moment later.
    pub fn plans_changed(&self) {
        self.resolver().flush();
    }
}

/// Gives a tenant a plan, or none.
pub(crate) async fn set_plan_of(tx: &CatalogTx, tenant: Uuid, plan: Option<&PlanName>) -> Result<(), Error> {
    let sql = "UPDATE tenantry.tenants SET plan = $2 WHERE id = $1";
    let values = [tenant.into(), plan.map(PlanName::as_str).into()];
    tx.execute_raw(statement(sql, values)).await.map_err(|error| no_such_plan(error, plan))?;
    Ok(())
}

fn no_such_plan(error: DbErr, plan: Option<&PlanName>) -> Error {
    match (fault(&error), plan) {
        (Fault::ForeignKey(_), Some(plan)) => Error::NoSuchPlan(plan.to_string()),
        _ => error.into(),
    }
}

impl Reached {
    /// Which plan the tenant has, and the limits in force: its own, its plan's and everybody's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn plan_and_limits(&self) -> Result<(Option<String>, Limits), DbErr> {
        let sql = format!("SELECT t.plan, {} FROM tenantry.tenants t WHERE t.id = $1", limit_columns());
        match self.query_one_raw(statement(sql, [self.tenant().id.into()])).await? {
            Some(row) => Ok((row.try_get("", "plan")?, limits_of(&row)?)),
            None => Ok((None, Limits::default())),
        }
    }
}

impl TenantAction {
    /// Has the tenant's jobs looked at again now that were put off for this reason.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hasten(&self, reason: &str, now: DateTime<Utc>) -> Result<(), DbErr> {
        jobs::hasten(self.reached().transaction(), Whose::Tenant(self.tenant().id), reason, now).await
    }

    /// Gives the tenant limits of its own.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn set_limits(&mut self, limits: &Limits) -> Result<(), Error> {
        let value = limits.to_value();
        self.execute("UPDATE tenantry.tenants SET limits = $2 WHERE id = $1", [value.clone().into()]).await?;
        self.reached_mut().set_own_limits(value);
        Ok(())
    }

    /// Gives the tenant a plan, or none.
    ///
    /// # Errors
    /// [`Error::NoSuchPlan`], or those of the database.
    pub async fn set_plan(&mut self, plan: Option<&PlanName>) -> Result<(), Error> {
        let sql = "UPDATE tenantry.tenants SET plan = $2 WHERE id = $1";
        let done = self.execute(sql, [plan.map(PlanName::as_str).into()]).await;
        done.map_err(|error| no_such_plan(error, plan))
    }
}

//! The endpoints of usage, for operators.

use chrono::{DateTime, NaiveDate, Utc};
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use sea_orm::DbErr;
use tenants::{DayUsage, TenantUsage, UsageOrder, Which};
use uuid::Uuid;

use crate::{
    admin,
    app::Tag,
    error::ServiceError,
    http::{Json, Listing, Page, PageQuery, Problem},
    operators::Reads,
    state::App,
};

const MICROS_PER_MILLI: i64 = 1_000;

crate::output! {
    /// What a tenant used on a day. Processes write it down every few seconds.
    pub struct DayUsageOut {
        /// The day, of UTC.
        pub day: NaiveDate,
        /// Requests to the organization, the refused ones included.
        pub requests: i64,
        /// Requests that the service failed at: answered 5xx.
        pub errors: i64,
        /// Requests that were one too many: answered 429 by the organization's limits.
        pub throttled: i64,
        /// For how many milliseconds connections to the database were held, all of them together.
        pub database_time_ms: i64,
        /// Mails that went out.
        pub mails: i64,
    }
}

crate::output! {
    /// What a tenant used on a day, and what it had when it was last measured.
    pub struct TenantUsageOut {
        /// The tenant.
        pub tenant: UsageTenantOut,
        /// Requests to the organization, the refused ones included.
        pub requests: i64,
        /// Requests that the service failed at: answered 5xx.
        pub errors: i64,
        /// Requests that were one too many: answered 429 by the organization's limits.
        pub throttled: i64,
        /// For how many milliseconds connections to the database were held, all of them together.
        pub database_time_ms: i64,
        /// Mails that went out.
        pub mails: i64,
        /// Its users; null if nothing was measured yet.
        pub users: Option<i64>,
        /// The rows of all its tables.
        pub rows: Option<i64>,
        /// The bytes of all its tables and their indexes.
        pub bytes: Option<i64>,
        /// When that was measured.
        pub measured_at: Option<DateTime<Utc>>,
    }
}

crate::output! {
    /// A tenant, in short.
    pub struct UsageTenantOut {
        /// The tenant's id.
        pub id: Uuid,
        /// Its slug.
        pub slug: String,
    }
}

impl From<DayUsage> for DayUsageOut {
    fn from(usage: DayUsage) -> Self {
        let DayUsage { day, requests, errors, throttled, database_micros, mails } = usage;
        let database_time_ms = database_micros / MICROS_PER_MILLI;
        Self { day, requests, errors, throttled, database_time_ms, mails }
    }
}

impl From<TenantUsage> for TenantUsageOut {
    fn from(usage: TenantUsage) -> Self {
        Self {
            tenant: UsageTenantOut { id: usage.id, slug: usage.slug },
            requests: usage.requests,
            errors: usage.errors,
            throttled: usage.throttled,
            database_time_ms: usage.database_micros / MICROS_PER_MILLI,
            mails: usage.mails,
            users: usage.users,
            rows: usage.rows,
            bytes: usage.bytes,
            measured_at: usage.measured_at,
        }
    }
}

/// The days of a tenant.
pub struct UsageDays;

impl Listing for UsageDays {
    const FIELDS: &'static [&'static str] = &["day"];
    const DEFAULT: &'static str = "-day";
    const SEARCH: Option<&'static str> = None;
}

/// The tenants of a day.
pub struct UsageTenants;

impl Listing for UsageTenants {
    const FIELDS: &'static [&'static str] = &["requests", "errors", "database_time"];
    const DEFAULT: &'static str = "-requests";
    const SEARCH: Option<&'static str> = None;
}

/// Some of the days on which a tenant used anything.
///
/// # Errors
/// Those of the database.
pub async fn days_of(
    app: &App,
    tenant: Uuid,
    newest_first: bool,
    place: (u64, u64),
) -> Result<Vec<DayUsageOut>, DbErr> {
    let days = DayUsage::list(app.tenancy.catalog(), tenant, newest_first, place).await?;
    Ok(days.into_iter().map(Into::into).collect())
}

/// Some of the tenants that used anything on a day.
///
/// # Errors
/// Those of the database.
pub async fn tenants_of(
    app: &App,
    day: NaiveDate,
    order: &[(UsageOrder, bool)],
    place: (u64, u64),
) -> Result<Vec<TenantUsageOut>, DbErr> {
    let tenants = TenantUsage::list(app.tenancy.catalog(), day, order, place).await?;
    Ok(tenants.into_iter().map(Into::into).collect())
}

/// The endpoints of this slice.
pub struct UsageApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl UsageApi {
    /// What a tenant used, day by day
    ///
    /// Scope `read`.
    #[oai(path = "/api/admin/tenants/:id/usage", method = "get", operation_id = "listTenantUsage")]
    async fn of_tenant(
        &self,
        _operator: Reads,
        /// The tenant's id.
        id: Path<Uuid>,
        query: PageQuery<UsageDays>,
    ) -> Result<Json<Page<DayUsageOut>>, Problem> {
        let tenant = admin::reach(&self.0, Which::Id(id.0)).await?.tenant().id;
        let count = DayUsage::count(self.0.tenancy.catalog(), tenant).await.map_err(ServiceError::from)?;
        let window = query.window(count)?;
        let place = (window.offset, window.limit);
        let days =
            days_of(&self.0, tenant, query.is_descending(), place).await.map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, days)))
    }

    /// What all tenants used on a day
    ///
    /// Scope `read`. The busiest first, by requests or by what is asked for.
    #[oai(path = "/api/admin/usage", method = "get", operation_id = "listUsage")]
    async fn of_day(
        &self,
        _operator: Reads,
        query: PageQuery<UsageTenants>,
        /// The day, of UTC; today if left out.
        day: Query<Option<NaiveDate>>,
    ) -> Result<Json<Page<TenantUsageOut>>, Problem> {
        let day = day.0.unwrap_or_else(|| self.0.clock.now().date_naive());
        let count = TenantUsage::count(self.0.tenancy.catalog(), day).await.map_err(ServiceError::from)?;
        let window = query.window(count)?;
        let by = |field: &str| match field {
            "errors" => UsageOrder::Errors,
            "database_time" => UsageOrder::DatabaseTime,
            _ => UsageOrder::Requests,
        };
        let order: Vec<_> = query.order().iter().map(|order| (by(order.field), order.descending)).collect();
        let place = (window.offset, window.limit);
        let tenants = tenants_of(&self.0, day, &order, place).await.map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, tenants)))
    }
}

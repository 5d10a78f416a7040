//! The endpoints of export schedules.

use chrono::{DateTime, Utc};
use poem_openapi::{OpenApi, param::Path};
use tenants::{Which, archive::ExportSchedule};
use uuid::Uuid;

use super::{schedules, set_schedule};
use crate::{
    admin::{self, AdminError},
    app::Tag,
    http::{Body, Created, FieldErrors, Json, Listing, NoContent, Page, PageQuery, Problem},
    operators::{Provisions, Reads},
    state::App,
};

crate::input! {
    /// How often to export, and how many archives to keep.
    pub struct ExportScheduleIn {
        /// The tenant's id. Left out: all tenants that have no schedule of their own.
        pub tenant: Option<Uuid>,
        /// Every so many hours, up to a year; 0 means never.
        pub every_hours: u16,
        /// How many archives to keep, of those that the schedule made of a tenant.
        pub keep: u16,
    }
}

crate::output! {
    /// How often tenants are exported.
    pub struct ExportScheduleOut {
        /// Its id.
        pub id: Uuid,
        /// The tenant's id; null for all that have no schedule of their own.
        pub tenant: Option<Uuid>,
        /// Every so many hours; 0 means never.
        pub every_hours: i32,
        /// How many archives of a tenant are kept.
        pub keep: i32,
        /// When it was set first.
        pub created_at: DateTime<Utc>,
    }
}

impl From<ExportSchedule> for ExportScheduleOut {
    fn from(row: ExportSchedule) -> Self {
        let ExportSchedule { id, tenant, every_hours, keep, created_at, .. } = row;
        Self { id, tenant, every_hours, keep, created_at }
    }
}

/// The list of schedules.
pub struct ExportSchedules;

impl Listing for ExportSchedules {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The longest time between two exports.
const YEAR: u16 = 366 * 24;
/// The most archives that a schedule keeps of a tenant.
const MOST: u16 = 1_000;

/// The endpoints of schedules.
pub struct ExportSchedulesApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl ExportSchedulesApi {
    /// The export schedules
    ///
    /// Scope `read`.
    #[oai(path = "/api/admin/export_schedules", method = "get", operation_id = "listExportSchedules")]
    async fn list(
        &self,
        _operator: Reads,
        query: PageQuery<ExportSchedules>,
    ) -> Result<Json<Page<ExportScheduleOut>>, Problem> {
        let mut rows = schedules(&self.0).await?;
        rows.sort_by_key(|row| (row.created_at, row.id));
        if query.is_descending() {
            rows.reverse();
        }
        let window = query.window(rows.len() as u64)?;
        let part = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let page = rows.into_iter().skip(part(window.offset)).take(part(window.limit));
        Ok(Json(query.page(&window, page.map(Into::into).collect())))
    }

    /// Set an export schedule
    ///
    /// Scope `provision`. In place of the one before, if there is one.
    #[oai(path = "/api/admin/export_schedules", method = "post", operation_id = "setExportSchedule")]
    async fn set(
        &self,
        operator: Provisions,
        Body(input): Body<ExportScheduleIn>,
    ) -> Result<Created<ExportScheduleOut>, Problem> {
        self.check(&input).await?;
        let often = (input.every_hours, input.keep);
        let set = set_schedule(&self.0, input.tenant, often, &operator.0.actor).await?;
        Ok(Created(set.into()))
    }

    /// Remove an export schedule
    ///
    /// Scope `provision`. The archives that it made stay.
    #[oai(path = "/api/admin/export_schedules/:id", method = "delete", operation_id = "removeExportSchedule")]
    async fn remove(
        &self,
        operator: Provisions,
        /// The schedule's id.
        id: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        super::remove_schedule(&self.0, id.0, &operator.0.actor).await?;
        Ok(NoContent)
    }
}

impl ExportSchedulesApi {
    /// Whether such a schedule can be set; all that is wrong with it at once.
    async fn check(&self, input: &ExportScheduleIn) -> Result<(), Problem> {
        let mut errors = FieldErrors::new();
        if let Some(tenant) = input.tenant {
            match admin::reach(&self.0, Which::Id(tenant)).await {
                Ok(_) => {}
                Err(AdminError::NotFound) => errors.push("tenant", "There is no such tenant."),
                Err(error) => return Err(error.into()),
            }
        }
        if input.every_hours > YEAR {
            errors.push("every_hours", format!("Ensure this value is less than or equal to {YEAR}."));
        }
        if input.keep == 0 {
            errors.push("keep", "Ensure this value is greater than or equal to 1.");
        } else if input.keep > MOST {
            errors.push("keep", format!("Ensure this value is less than or equal to {MOST}."));
        }
        errors.into_result()
    }
}

//! The endpoints of what happened.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use tenants::TenantDb;
use uuid::Uuid;

use super::{
    Verb,
    service::{self, Period, Scope},
    store::{self, Row},
};
use crate::{
    app::Tag,
    auth::Caller,
    error::ServiceError,
    http::{Json, Listing, Page, PageQuery, Problem},
    references::ReferenceOut,
    state::App,
    users::{self, PersonOut},
};

crate::output! {
    /// Something that happened.
    pub struct ActivityOut {
        /// The id of what happened.
        pub id: Uuid,
        /// Who did it; null once that user is deleted.
        pub actor: Option<PersonOut>,
        /// What was done.
        pub verb: Verb,
        /// To what.
        pub object: ReferenceOut,
        /// What it was about, too.
        pub target: Option<ReferenceOut>,
        /// When it happened.
        pub created_at: DateTime<Utc>,
    }
}

impl TryFrom<Row> for ActivityOut {
    type Error = Problem;

    fn try_from(row: Row) -> Result<Self, Problem> {
        let actor = PersonOut::joined(row.actor, row.username, row.first_name, row.last_name);
        let object = ReferenceOut::read(Some(&row.object_type), row.object_id, row.object_display);
        let (Some(verb), Some(object)) = (Verb::from_name(&row.verb), object) else {
            return Err(Problem::internal(format!("the activity {} makes no sense", row.id)));
        };
        let target = ReferenceOut::read(row.target_type.as_deref(), row.target_id, row.target_display);
        Ok(Self { id: row.id, actor, verb, object, target, created_at: row.created_at })
    }
}

/// The lists of what happened.
pub struct Activities;

impl Listing for Activities {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

async fn page(
    db: &TenantDb,
    query: &PageQuery<Activities>,
    scope: Scope,
    period: Period,
) -> Result<Json<Page<ActivityOut>>, Problem> {
    let numbers = service::numbers(db, scope, period).await.map_err(ServiceError::from)?;
    let window = query.window(numbers.count())?;
    let descending = query.is_descending();
    let rows = store::page(db, scope, numbers, &window, descending).await.map_err(ServiceError::from)?;
    let results = rows.into_iter().map(ActivityOut::try_from).collect::<Result<_, _>>()?;
    Ok(Json(query.page(&window, results)))
}

/// The endpoints of this slice.
pub struct ActivityApi(pub App);

#[OpenApi(tag = "Tag::Activity")]
impl ActivityApi {
    /// What happened in the organization
    ///
    /// What is older than the organization's retention, a year if nothing else is set, is removed.
    #[oai(path = "/api/activity", method = "get", operation_id = "listActivity")]
    async fn list(
        &self,
        _caller: Caller,
        Data(db): Data<&TenantDb>,
        query: PageQuery<Activities>,
        /// Only what was done with this verb.
        verb: Query<Option<Verb>>,
        /// Only what happened at this time (RFC 3339) or later.
        since: Query<Option<DateTime<Utc>>>,
        /// Only what happened before this time (RFC 3339).
        until: Query<Option<DateTime<Utc>>>,
    ) -> Result<Json<Page<ActivityOut>>, Problem> {
        let period = Period { since: since.0, until: until.0 };
        page(db, &query, Scope { actor: None, verb: verb.0 }, period).await
    }

    /// What a user did
    ///
    /// What is older than the organization's retention, a year if nothing else is set, is removed.
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the operation")]
    #[oai(path = "/api/users/:pk/activity", method = "get", operation_id = "listUserActivity")]
    async fn of_user(
        &self,
        _caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The user's id.
        pk: Path<Uuid>,
        query: PageQuery<Activities>,
        /// Only what was done with this verb.
        verb: Query<Option<Verb>>,
        /// Only what happened at this time (RFC 3339) or later.
        since: Query<Option<DateTime<Utc>>>,
        /// Only what happened before this time (RFC 3339).
        until: Query<Option<DateTime<Utc>>>,
    ) -> Result<Json<Page<ActivityOut>>, Problem> {
        let user = users::find(db, pk.0).await.map_err(ServiceError::from)?.ok_or_else(Problem::not_found)?;
        let period = Period { since: since.0, until: until.0 };
        page(db, &query, Scope { actor: Some(user.pk), verb: verb.0 }, period).await
    }
}

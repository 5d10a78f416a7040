//! The endpoints of notifications.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use tenants::{
    TenantDb,
    lists::{self, Rows},
};
use uuid::Uuid;

use super::{
    Kind,
    notify::inbox,
    preferences::{self, PreferencesIn, PreferencesOut},
    service, store,
};
use crate::{
    app::Tag,
    auth::Caller,
    error::ServiceError,
    http::{Body, IfMatch, Json, Listing, NoContent, OptionalBody, PageQuery, Problem, UnreadPage},
    references::ReferenceOut,
    state::App,
    users::{self, PersonOut},
};

crate::output! {
    /// Something that the signed-in user is told of.
    pub struct NotificationOut {
        /// The notification's id.
        pub id: Uuid,
        /// What it is to the user.
        pub kind: Kind,
        /// Who did it; null if nobody did, and once that user is deleted.
        pub actor: Option<PersonOut>,
        /// What it is about.
        pub object: ReferenceOut,
        /// A plain sentence to show for it.
        pub text: String,
        /// When it was read; null while it is unread.
        pub read_at: Option<DateTime<Utc>>,
        /// When it happened.
        pub created_at: DateTime<Utc>,
    }
}

crate::input! {
    /// What to change of a notification. What is left out stays.
    pub struct NotificationPatch {
        /// Whether it is read. One that was read can be made unread again.
        pub read: Option<bool>,
    }
}

crate::input! {
    /// What is to be made read.
    pub struct MarkAllReadIn {
        /// What happened after this time stays unread; the time of the request, if nothing else is said, and if that is before.
        pub before: Option<DateTime<Utc>>,
    }
}

crate::output! {
    /// What was made read.
    pub struct MarkAllReadOut {
        /// How many notifications that were.
        pub updated: u64,
    }
}

/// The list of notifications.
pub struct Notifications;

impl Listing for Notifications {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct NotificationsApi(pub App);

#[OpenApi(tag = "Tag::Notifications")]
impl NotificationsApi {
    /// What the signed-in user is told of
    ///
    /// `unread_count` counts all that are unread, whatever is filtered.
    #[oai(path = "/api/notifications", method = "get", operation_id = "listNotifications")]
    async fn list(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        query: PageQuery<Notifications>,
        /// Only those that are unread, or only those that are read.
        unread: Query<Option<bool>>,
    ) -> Result<Json<UnreadPage<NotificationOut>>, Problem> {
        let (user, inbox) = (caller.account.pk, inbox(caller.account.pk));
        let (count, unread_count) = lists::unread(db, &inbox).await.map_err(ServiceError::from)?;
        let (rows, shown) = match unread.0 {
            None => (Rows::All, count),
            Some(true) => (Rows::Unread, unread_count),
            Some(false) => (Rows::Read, count.saturating_sub(unread_count)),
        };
        let window = query.window(shown)?;
        // Numbers and times are in the same order, and there is no other to ask for.
        let descending = query.is_descending();
        let start =
            lists::seek(db, &inbox, rows, window.offset, descending).await.map_err(ServiceError::from)?;
        let page = store::list(db, user, rows, start, (window.limit, descending)).await;
        let page = service::outputs(&page.map_err(ServiceError::from)?)?;
        Ok(Json(query.page(&window, page).with_unread(unread_count)))
    }

    /// Make all notifications read
    ///
    /// All that have come before the request, or before another time. What comes meanwhile stays unread.
    #[oai(path = "/api/notifications/mark_all_read", method = "post", operation_id = "markAllRead")]
    async fn mark_all_read(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        OptionalBody(input): OptionalBody<MarkAllReadIn>,
    ) -> Result<Json<MarkAllReadOut>, Problem> {
        let before = input.and_then(|input| input.before);
        let updated = service::mark_all_read(&self.0, db, caller.account.pk, before).await?;
        Ok(Json(MarkAllReadOut { updated }))
    }

    /// How the signed-in user is told of things
    #[oai(
        path = "/api/notifications/preferences",
        method = "get",
        operation_id = "getNotificationPreferences"
    )]
    async fn preferences(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
    ) -> Result<Json<PreferencesOut>, Problem> {
        Ok(Json(preferences::of(db, caller.account.pk).await.map_err(ServiceError::from)?))
    }

    /// Choose how to be told of things
    ///
    /// All preferences at once: what is left out is as it is by default. There, everything is shown, and mentions, replies,
    /// accepted invitations and other roles are mailed at once, comments once a day. New devices are not: the mail that warns of
    /// one is sent anyway, whatever is chosen here. Only a verified address gets mails.
    #[oai(
        path = "/api/notifications/preferences",
        method = "put",
        operation_id = "setNotificationPreferences"
    )]
    async fn set_preferences(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        if_match: IfMatch,
        Body(input): Body<PreferencesIn>,
    ) -> Result<Json<PreferencesOut>, Problem> {
        let user = caller.account.pk;
        let tx = db.begin().await.map_err(ServiceError::from)?;
        // Preferences that are the default are no rows to lock. Whoever is gone since the token was checked has none.
        let locked = users::lock(&tx, user).await.map_err(ServiceError::from)?;
        locked.ok_or_else(Problem::token_not_valid)?;
        if_match.check(&preferences::of(&tx, user).await.map_err(ServiceError::from)?)?;
        let chosen = input.into_preferences();
        preferences::replace(&tx, user, &chosen).await.map_err(ServiceError::from)?;
        tx.commit().await.map_err(ServiceError::from)?;
        Ok(Json(chosen.into()))
    }

    /// A notification
    #[oai(path = "/api/notifications/:id", method = "get", operation_id = "getNotification")]
    async fn detail(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The notification's id.
        id: Path<Uuid>,
    ) -> Result<Json<NotificationOut>, Problem> {
        let row = store::find(db, caller.account.pk, id.0).await.map_err(ServiceError::from)?;
        Ok(Json((&row.ok_or_else(Problem::not_found)?).try_into()?))
    }

    /// Make a notification read, or unread again
    #[oai(path = "/api/notifications/:id", method = "patch", operation_id = "updateNotification")]
    async fn update(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The notification's id.
        id: Path<Uuid>,
        if_match: IfMatch,
        Body(patch): Body<NotificationPatch>,
    ) -> Result<Json<NotificationOut>, Problem> {
        let user = caller.account.pk;
        let tx = db.begin().await.map_err(ServiceError::from)?;
        let mut row = service::lock(&tx, user, id.0).await?.ok_or_else(Problem::not_found)?;
        if_match.check(&NotificationOut::try_from(&row)?)?;
        if let Some(read) = patch.read {
            service::set_read(&self.0, &tx, user, &mut row, read).await?;
        }
        tx.commit().await.map_err(ServiceError::from)?;
        Ok(Json((&row).try_into()?))
    }

    /// Delete a notification
    #[oai(path = "/api/notifications/:id", method = "delete", operation_id = "deleteNotification")]
    async fn delete(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The notification's id.
        id: Path<Uuid>,
        if_match: IfMatch,
    ) -> Result<NoContent, Problem> {
        let user = caller.account.pk;
        let tx = db.begin().await.map_err(ServiceError::from)?;
        let row = service::lock(&tx, user, id.0).await?.ok_or_else(Problem::not_found)?;
        if_match.check(&NotificationOut::try_from(&row)?)?;
        service::delete(&tx, user, &row).await?;
        tx.commit().await.map_err(ServiceError::from)?;
        Ok(NoContent)
    }
}

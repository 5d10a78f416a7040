//! The endpoints of comments.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::{OpenApi, param::Path, types::MaybeUndefined};
use tenants::TenantDb;
use uuid::Uuid;

use super::{
    service::{self, Draft},
    store::Thread,
};
use crate::{
    app::Tag,
    auth::Caller,
    http::{Body, Created, IfMatch, Json, Keyed, Listing, NoContent, Page, PageQuery, Problem, Verbatim},
    state::App,
    users::PersonOut,
};

/// How long a comment may be, in characters: as a few pages of a book.
pub(crate) const BODY_LEN: usize = 10_000;
/// What a comment says.
pub(super) type CommentBody = Verbatim<1, BODY_LEN>;

crate::input! {
    /// A comment to be written.
    pub struct CommentIn {
        /// Plain text, kept as it is written. `@username` mentions a user.
        pub body: CommentBody,
        /// The comment to reply to, on the same page; a reply cannot be replied to.
        pub parent: MaybeUndefined<Uuid>,
    }
}

crate::input! {
    /// What to change of a comment. What is left out stays.
    pub struct CommentPatch {
        /// Another text.
        pub body: Option<CommentBody>,
    }
}

crate::output! {
    /// A comment, or the place of one that was deleted and has replies.
    pub struct CommentOut {
        /// The comment's id.
        pub id: Uuid,
        /// Who wrote it; null once that user or the comment is deleted.
        pub author: Option<PersonOut>,
        /// The user on whose page it stands.
        pub user: Uuid,
        /// The comment it replies to; null if it is no reply.
        pub parent: Option<Uuid>,
        /// Plain text, as it was written; empty once the comment is deleted.
        pub body: String,
        /// The users it mentions, in the order in which it does.
        pub mentions: Vec<MentionOut>,
        /// How many replies it has.
        pub reply_count: i32,
        /// When it was written.
        pub created_at: DateTime<Utc>,
        /// When its text was last changed.
        pub edited_at: Option<DateTime<Utc>>,
        /// Whether only its place is left.
        pub is_deleted: bool,
    }
}

crate::output! {
    /// A user who is mentioned.
    pub struct MentionOut {
        /// The user's id.
        pub pk: Uuid,
        /// The username, as it is now.
        pub username: String,
    }
}

const SEARCH: Option<&str> = Some("Words that the body has in it, all of them.");

/// The list of what stands on a page.
pub struct Comments;

impl Listing for Comments {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = SEARCH;
}

/// The list of the replies to a comment.
pub struct Replies;

impl Listing for Replies {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "created_at";
    const SEARCH: Option<&'static str> = SEARCH;
}

/// The endpoints of this slice.
pub struct CommentsApi(pub App);

#[OpenApi(tag = "Tag::Comments")]
impl CommentsApi {
    /// The comments on a user's page
    ///
    /// Without the replies. One that was deleted and has replies is shown as a place without author and text.
    #[oai(path = "/api/users/:pk/comments", method = "get", operation_id = "listComments")]
    async fn list(
        &self,
        _caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The user's id.
        pk: Path<Uuid>,
        query: PageQuery<Comments>,
    ) -> Result<Json<Page<CommentOut>>, Problem> {
        Ok(Json(service::list(db, Thread::Page(pk.0), &query).await?))
    }

    /// Write a comment on a user's page
    ///
    /// Or a reply to one. Who is mentioned is told, and so are the author of what is replied to and the user whose page it is;
    /// each once.
    #[oai(path = "/api/users/:pk/comments", method = "post", operation_id = "createComment")]
    async fn create(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The user's id.
        pk: Path<Uuid>,
        body: Keyed<CommentIn>,
    ) -> Result<Created<CommentOut>, Problem> {
        let Keyed { input, key } = body;
        let draft = Draft { page: pk.0, parent: input.parent.take(), body: input.body.into_string() };
        Ok(Created(service::create(&self.0, db, &caller, draft, &key).await?))
    }

    /// A comment
    #[oai(path = "/api/comments/:id", method = "get", operation_id = "getComment")]
    async fn detail(
        &self,
        _caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The comment's id.
        id: Path<Uuid>,
    ) -> Result<Json<CommentOut>, Problem> {
        Ok(Json(service::find(db, id.0).await?))
    }

    /// Change a comment
    ///
    /// For its author. Who is mentioned for the first time is told. One that was deleted is not found, though its place may
    /// still be shown.
    #[oai(path = "/api/comments/:id", method = "patch", operation_id = "updateComment")]
    async fn update(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The comment's id.
        id: Path<Uuid>,
        if_match: IfMatch,
        Body(patch): Body<CommentPatch>,
    ) -> Result<Json<CommentOut>, Problem> {
        let body = patch.body.map(Verbatim::into_string);
        Ok(Json(service::edit(&self.0, db, &caller, id.0, body, &if_match).await?))
    }

    /// Delete a comment
    ///
    /// For its author, admins and owners. Of one that has replies the place stays, until the last of them is deleted, too.
    #[oai(path = "/api/comments/:id", method = "delete", operation_id = "deleteComment")]
    async fn delete(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The comment's id.
        id: Path<Uuid>,
        if_match: IfMatch,
    ) -> Result<NoContent, Problem> {
        service::delete(db, &caller, id.0, &if_match).await?;
        Ok(NoContent)
    }

    /// The replies to a comment
    #[oai(path = "/api/comments/:id/replies", method = "get", operation_id = "listReplies")]
    async fn replies(
        &self,
        _caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The comment's id.
        id: Path<Uuid>,
        query: PageQuery<Replies>,
    ) -> Result<Json<Page<CommentOut>>, Problem> {
        Ok(Json(service::list(db, Thread::Replies(id.0), &query).await?))
    }
}

//! What activities and notifications are about: a kind of thing, which one, and a text to show for it.
//!
//! The text of a user or a comment is read where the user or the comment is, so that it is never out of date, and gone
//! with what was deleted.

use poem_openapi::Enum;
use sea_orm::{
    ColumnTrait,
    sea_query::{CaseStatement, Expr, ExprTrait as _, Func, Query, SimpleExpr},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entity::{comments, settings, users};

/// How much of a comment stands for it, in characters.
const EXCERPT: i32 = 80;

/// What kind of thing something is about. In the database it is a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
pub enum Kind {
    /// A user; the text is the username.
    User,
    /// A comment; the text is how it begins.
    Comment,
    /// An invitation; the text is the role it gives. The address is for admins to know.
    Invitation,
    /// The organization; the text is its name.
    Organization,
    /// A role; the text is its name.
    Role,
    /// Somebody's session; the text is what the client calls itself.
    Session,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 6] =
        [Self::User, Self::Comment, Self::Invitation, Self::Organization, Self::Role, Self::Session];

    /// As the database has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Comment => "comment",
            Self::Invitation => "invitation",
            Self::Organization => "organization",
            Self::Role => "role",
            Self::Session => "session",
        }
    }

    /// The one the database calls so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A thing that something is about, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What kind of thing.
    pub kind: Kind,
    /// Which one; `None` for what has no id.
    pub id: Option<Uuid>,
    /// Its text, where that is not read where the thing is.
    pub text: Option<String>,
}

impl Reference {
    /// A user.
    #[must_use]
    pub fn user(pk: Uuid) -> Self {
        Self { kind: Kind::User, id: Some(pk), text: None }
    }

    /// A comment.
    #[must_use]
    pub fn comment(id: Uuid) -> Self {
        Self { kind: Kind::Comment, id: Some(id), text: None }
    }

    /// The organization, by the tenant's id.
    #[must_use]
    pub fn organization(id: Uuid) -> Self {
        Self { kind: Kind::Organization, id: Some(id), text: None }
    }

    /// Something with a text of its own.
    #[must_use]
    pub fn other(kind: Kind, id: Option<Uuid>, text: impl Into<String>) -> Self {
        Self { kind, id, text: Some(text.into()) }
    }
}

crate::output! {
    /// What something is about.
    pub struct ReferenceOut {
        /// What kind of thing it is.
        pub r#type: Kind,
        /// Which one; null for what has no id.
        pub id: Option<Uuid>,
        /// A text to show for it; empty once what it stands for is deleted.
        pub display: String,
    }
}

impl ReferenceOut {
    /// What a row says; `None` where it names no thing.
    #[must_use]
    pub fn read(kind: Option<&str>, id: Option<Uuid>, display: Option<String>) -> Option<Self> {
        let kind = Kind::from_name(kind?)?;
        Some(Self { r#type: kind, id, display: display.unwrap_or_default() })
    }
}

/// The text of what a row is about, for its query: `kind`, `id` and `text` are the row's columns. PostgreSQL looks each up
/// where it is, so that a page takes one query.
#[must_use]
pub fn display(kind: impl ColumnTrait, id: impl ColumnTrait, text: impl ColumnTrait) -> SimpleExpr {
    let is = |wanted: Kind| kind.into_expr().eq(wanted.as_str());
    let user = Query::select()
        .column((users::Entity, users::Column::Username))
        .from(users::Entity)
        .and_where(users::Column::Pk.into_expr().eq(id.into_expr()))
        .take();
    let start = Func::cust("left").args([comments::Column::Body.into_expr(), Expr::val(EXCERPT)]);
    let comment = Query::select()
        .expr(start)
        .from(comments::Entity)
        .and_where(comments::Column::Id.into_expr().eq(id.into_expr()))
        .take();
    let organization = Query::select().column(settings::Column::Name).from(settings::Entity).take();
    CaseStatement::new()
        .case(is(Kind::User), SimpleExpr::SubQuery(None, Box::new(user.into())))
        .case(is(Kind::Comment), SimpleExpr::SubQuery(None, Box::new(comment.into())))
        .case(is(Kind::Organization), SimpleExpr::SubQuery(None, Box::new(organization.into())))
        .finally(text.into_expr())
        .into()
}

//! What a tenant's rows have to be like, as the code that writes them sees to it, for rows that it has not written: what is in
//! an archive is served afterwards as if it had been.
//!
//! Words and bounds are rules, which PostgreSQL checks for all rows of a table at once. Names, addresses and hashes are
//! judged here, by the functions that judged them when a person gave them.

mod people;

use std::borrow::Cow;

use async_trait::async_trait;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _,
    sea_query::{Expr, ExprTrait as _, Func, SimpleExpr, extension::postgres::PgBinOper},
};
use serde_json::Value;
use tenants::archive::{ArchiveError, Importing, Inspection, Rule};

use crate::{
    activity, auth, comments,
    entity::{
        activities, audit, comments as comment_rows, devices, notification_preferences, notifications,
        settings,
    },
    http::{
        Name,
        input::{Field, Wrong},
    },
    notifications as inbox, references,
    tenant::{EmailDomain, MAX_DOMAINS},
};

/// The longest retention that an operator can set, in days: a hundred years.
const LONGEST_RETENTION: i32 = 36_500;
/// So many invitations nobody has sent; and one more can still be counted.
const MOST_INVITATIONS: i32 = 1_000_000_000;
/// How long the text of what something is about may be, in characters. The longest that is written is what a client calls
/// itself.
const REFERENCE_LEN: usize = auth::USER_AGENT_LEN;
/// A network in text: the longest has four groups of four digits, and `::/64` behind them.
const NETWORK_LEN: usize = 4 * 5 + "::/64".len();
/// The name of an action: words with dots between them.
const ACTION: &str = "^[a-z_]{1,40}(\\.[a-z_]{1,40}){0,3}$";
/// How long the detail of a deed may be, in characters: no longer than a request that could be its cause.
const DETAIL_LEN: usize = 1024 * 1024;
/// The ids of those a comment mentions, as text: each with two quotes, a comma and a space.
const MENTIONS_LEN: usize = 2 + comments::MAX_MENTIONS * (36 + 4);

/// What this application knows of its tenants' rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inspector;

#[async_trait]
impl Inspection for Inspector {
    fn rules(&self) -> Vec<Rule> {
        [settings_rules(), comment_rules(), activity_rules(), notification_rules(), other_rules()].concat()
    }

    async fn inspect(&self, tenant: &Importing) -> Result<(), ArchiveError> {
        inspect_settings(tenant).await?;
        people::inspect(tenant).await
    }
}

fn is_up_to(text: impl Into<SimpleExpr>, most: usize) -> SimpleExpr {
    // A bound that is larger than PostgreSQL's integers would bound nothing.
    Func::char_length(text.into()).lte(i32::try_from(most).unwrap_or(i32::MAX))
}

fn settings_rules() -> Vec<Rule> {
    use settings::Column;
    vec![
        Rule::new(
            "settings",
            "activity_retention_days",
            Column::ActivityRetentionDays.between(1, LONGEST_RETENTION),
            "no number of days for which something is kept",
        ),
        Rule::new(
            "settings",
            "invitations_sent",
            Column::InvitationsSent.between(0, MOST_INVITATIONS),
            "no number of invitations",
        ),
    ]
}

fn comment_rules() -> Vec<Rule> {
    use comment_rows::Column;
    let body = Func::char_length(Column::Body.into_expr());
    let written = body.between(1, i32::try_from(comments::BODY_LEN).unwrap_or(i32::MAX));
    let mentions = Column::Mentions.into_expr().cast_as("text");
    vec![
        Rule::new("comments", "body", Column::IsDeleted.into_expr().or(written), "empty or too long"),
        Rule::new("comments", "mentions", is_up_to(mentions, MENTIONS_LEN), "too long"),
    ]
}

fn activity_rules() -> Vec<Rule> {
    use activities::Column;
    let verbs = activity::Verb::ALL.map(activity::Verb::as_str);
    let kinds = || references::Kind::ALL.map(references::Kind::as_str);
    let text = |column: Column| is_up_to(column.into_expr(), REFERENCE_LEN);
    vec![
        Rule::new("activities", "verb", Column::Verb.is_in(verbs), "no verb"),
        Rule::new("activities", "object_type", Column::ObjectType.is_in(kinds()), "no kind of thing"),
        Rule::new("activities", "object_text", text(Column::ObjectText), "too long"),
        Rule::new("activities", "target_type", Column::TargetType.is_in(kinds()), "no kind of thing"),
        Rule::new("activities", "target_text", text(Column::TargetText), "too long"),
    ]
}

fn notification_rules() -> Vec<Rule> {
    use notifications::Column;
    let kinds = || inbox::Kind::ALL.map(inbox::Kind::as_str);
    let things = references::Kind::ALL.map(references::Kind::as_str);
    let of_preference = notification_preferences::Column::Kind.is_in(kinds());
    vec![
        Rule::new("notifications", "kind", Column::Kind.is_in(kinds()), "no kind of notification"),
        Rule::new("notifications", "object_type", Column::ObjectType.is_in(things), "no kind of thing"),
        Rule::new(
            "notifications",
            "object_text",
            is_up_to(Column::ObjectText.into_expr(), REFERENCE_LEN),
            "too long",
        ),
        Rule::new("notification_preferences", "kind", of_preference, "no kind of notification"),
    ]
}

fn other_rules() -> Vec<Rule> {
    let client = is_up_to(devices::Column::UserAgent.into_expr(), auth::USER_AGENT_LEN);
    let network = is_up_to(devices::Column::Network.into_expr(), NETWORK_LEN);
    let detail = is_up_to(audit::Column::Detail.into_expr().cast_as("text"), DETAIL_LEN);
    let action = audit::Column::Action.into_expr().binary(PgBinOper::Regex, Expr::val(ACTION));
    vec![
        Rule::new("devices", "user_agent", client, "too long"),
        Rule::new("devices", "network", network, "too long"),
        Rule::new("audit", "action", action, "no name of an action"),
        Rule::new("audit", "detail", detail, "too long"),
    ]
}

/// What a person would be told who gave this. What is stored is what such a text was read as, to the last space.
fn judged<T: Field>(text: &str, stored_as: impl FnOnce(T) -> String) -> Result<(), Cow<'static, str>> {
    let read = T::from_value(Value::String(text.to_owned())).map_err(sentence)?;
    if stored_as(read) == text { Ok(()) } else { Err("It is not as it would have been stored.".into()) }
}

fn sentence(wrong: Wrong) -> Cow<'static, str> {
    wrong.into_iter().next().unwrap_or("It is not valid.".into())
}

/// The one row of settings.
async fn inspect_settings(tenant: &Importing) -> Result<(), ArchiveError> {
    let unsound = |column, what: Cow<'static, str>| ArchiveError::Unsound {
        table: "settings",
        column,
        row: String::new(),
        what: what.into_owned(),
    };
    for row in settings::Entity::find().all(tenant).await? {
        judged(&row.name, Name::<1, 100>::into_string).map_err(|what| unsound("name", what))?;
        let domains: Vec<String> = serde_json::from_value(row.allowed_email_domains)
            .map_err(|_| unsound("allowed_email_domains", "It is no list of texts.".into()))?;
        if domains.len() > MAX_DOMAINS {
            return Err(unsound("allowed_email_domains", "There are too many.".into()));
        }
        for domain in domains {
            judged(&domain, EmailDomain::into_string)
                .map_err(|what| unsound("allowed_email_domains", what))?;
        }
    }
    Ok(())
}

//! `tenantry tenant impersonate`, and the list and the end of what that begins.

use std::fmt;

use chrono::{DateTime, Utc};
use clap::Args;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::Value;
use tenants::{Slug, Which};
use uuid::Uuid;

use super::{
    TenantName,
    arguments::WrongArguments,
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    audit::Actor,
    http::{Name, input::Field as _},
    impersonation::{self, ImpersonationError, NewImpersonation, named},
};

/// The arguments of `tenant impersonate`.
#[derive(Args, Debug, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry tenant impersonate acme ada --reason \"ticket 4711\"
  curl -H \"Authorization: Bearer $(tenantry tenant impersonate acme ada --reason why --json | jq -r .token)\" …")]
pub struct TenantImpersonate {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// The user: the username, the e-mail address or the pk
    #[arg(value_name = "USER")]
    pub user: String,
    /// Why: the organization reads it in its log, and the user in the list of his sessions
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Let the token change things, too
    #[arg(long)]
    pub write: bool,
}

/// The arguments of `tenant end-impersonation`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantEndImpersonation {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// The session, as `tenant impersonations` shows it
    #[arg(value_name = "SESSION")]
    pub session: Uuid,
}

fn told(slug: &Slug, error: ImpersonationError) -> Failure {
    match error {
        ImpersonationError::Tenant(error) => super::tenant_changes::told(slug, error),
        error => error.into(),
    }
}

/// A token, in clear.
#[derive(Serialize)]
struct Begun {
    token: String,
    token_expiration: DateTime<Utc>,
    session: Uuid,
    user: String,
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, token_expiration, session, user } = self;
        writeln!(f, "In the name of {user} until {}.\n", token_expiration.format("%H:%M UTC"))?;
        writeln!(f, "  Token    {token}")?;
        writeln!(f, "  Session  {session}\n")?;
        write!(f, "Every call with it stands in the audit logs.")
    }
}

pub(super) async fn begin(context: &Context, arguments: TenantImpersonate) -> Result<Exit, Failure> {
    let TenantImpersonate { slug, user, reason, write } = arguments;
    let mut wrong = WrongArguments::default();
    let reason = wrong.take("--reason", Name::<1, 150>::from_value(Value::String(reason)));
    let Some(reason) = reason else { return Err(wrong.failure()) };
    let app = context.open_app().await?;
    let begun = async {
        let user = named(&user).ok_or(ImpersonationError::NoSuchUser)?;
        let new = NewImpersonation { user, reason: reason.into_string(), write };
        impersonation::begin(&app, Which::Slug(&slug), new, &Actor::command_line()).await
    };
    let begun = begun.await.map_err(|error| told(&slug, error));
    let begun = app.finish(begun).await?;
    let begun = Begun {
        token: begun.token.expose_secret().to_owned(),
        token_expiration: begun.token_expiration,
        session: begun.session.id,
        user: begun.session.username,
    };
    context.output.answer(&begun, Begun::to_string)?;
    Ok(Exit::Ok)
}

/// A session in a list.
#[derive(Serialize)]
struct Row {
    id: Uuid,
    operator: String,
    user: String,
    reason: String,
    write: bool,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

pub(super) async fn list(context: &Context, tenant: &TenantName) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let rows = impersonation::under_way(&app, Which::Slug(&tenant.slug)).await;
    let rows = app.finish(rows.map_err(|error| told(&tenant.slug, error))).await?;
    let rows: Vec<Row> = rows
        .into_iter()
        .map(|row| Row {
            id: row.id,
            operator: row.actor,
            user: row.username,
            reason: row.reason,
            write: !row.is_read_only,
            created_at: row.created_at,
            expires_at: row.expires_at,
        })
        .collect();
    context.output.list(&rows, |rows| {
        let headings = ["SESSION", "OPERATOR", "USER", "MAY", "UNTIL", "REASON"];
        rows.iter().fold(Table::new(&headings, "Nobody works in anybody's name."), |table, row| {
            table.row([
                row.id.to_string(),
                row.operator.clone(),
                row.user.clone(),
                if row.write { "write" } else { "read" }.to_owned(),
                row.expires_at.format("%Y-%m-%d %H:%M UTC").to_string(),
                row.reason.clone(),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

pub(super) async fn end(context: &Context, arguments: TenantEndImpersonation) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Ended {
        session: Uuid,
    }
    let TenantEndImpersonation { slug, session } = arguments;
    let app = context.open_app().await?;
    let ended = impersonation::end(&app, Which::Slug(&slug), session, &Actor::command_line()).await;
    app.finish(ended.map_err(|error| told(&slug, error))).await?;
    context.output.answer(&Ended { session }, |_| "Ended: its token opens nothing any more.")?;
    Ok(Exit::Ok)
}

//! `tenantry api-key …`

use std::fmt;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    arguments::WrongArguments,
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    audit::Actor,
    http::{Name, input::Field as _},
    operators::{self, NewKey, OperatorError, Scope},
    printable::Printable,
    users::identity::Email,
};

/// What can be done with API keys.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum ApiKey {
    /// Make a key, which is shown once
    #[command(after_help = "\
Examples:
  tenantry api-key create deploy --operator ops@example.com --scope read,provision
  tenantry api-key create audit --operator ops@example.com --scope read --expires-at 2027-01-01T00:00:00Z")]
    Create(ApiKeyCreate),
    /// List the keys
    List,
    /// Delete a key: it is refused from the next request on
    Delete(ApiKeyDelete),
}

/// The arguments of `api-key create`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct ApiKeyCreate {
    /// What to call it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Whose it is
    #[arg(long, value_name = "EMAIL")]
    pub operator: String,
    /// What it may be used for
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
    pub scope: Vec<KeyScope>,
    /// From when on it is refused
    #[arg(long, value_name = "TIME", help = "From when on it is refused (RFC 3339) [default: never]")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyScope {
    /// Look at everything.
    Read,
    /// Make and change tenants, make API keys, rotate keys.
    Provision,
    /// Delete tenants, operators and API keys.
    Destroy,
}

impl From<KeyScope> for Scope {
    fn from(scope: KeyScope) -> Self {
        match scope {
            KeyScope::Read => Self::Read,
            KeyScope::Provision => Self::Provision,
            KeyScope::Destroy => Self::Destroy,
        }
    }
}

/// The arguments of `api-key delete`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiKeyDelete {
    /// The key's id, as `api-key list` shows it
    #[arg(value_name = "ID")]
    pub id: Uuid,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

pub(super) async fn api_key(context: &Context, command: ApiKey) -> Result<Exit, Failure> {
    match command {
        ApiKey::Create(arguments) => create(context, arguments).await,
        ApiKey::List => list(context).await,
        ApiKey::Delete(arguments) => delete(context, arguments).await,
    }
}

/// A new key, in clear.
#[derive(Serialize)]
struct NewKeyShown {
    id: Uuid,
    name: String,
    operator: String,
    scopes: Vec<Scope>,
    key: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

impl fmt::Display for NewKeyShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, operator, scopes, key, expires_at, .. } = self;
        writeln!(f, "Made the API key {} of {operator}.\n", Printable(name))?;
        writeln!(f, "  API key  {key}")?;
        writeln!(f, "  Scopes   {}", names(scopes))?;
        writeln!(f, "  Expires  {}", expires_at.map_or_else(|| "never".to_owned(), minute))?;
        writeln!(f, "  Id       {id}\n")?;
        write!(f, "Keep the key now: it is not shown again.")
    }
}

async fn create(context: &Context, arguments: ApiKeyCreate) -> Result<Exit, Failure> {
    let ApiKeyCreate { name, operator, scope, expires_at } = arguments;
    let mut wrong = WrongArguments::default();
    let name = wrong.take("NAME", Name::<1, 100>::from_value(Value::String(name)));
    let email = wrong.take("--operator", Email::parse(&operator));
    let (Some(name), Some(email)) = (name, email) else { return Err(wrong.failure()) };
    let app = context.open_app().await?;
    let created = async {
        let operator = operators::find_operator(&app, &email).await?.ok_or(OperatorError::NotFound)?;
        let scopes = scope.into_iter().map(Scope::from).collect();
        let new = NewKey { operator: operator.id, name: name.into_string(), scopes, expires_at };
        let created = operators::create_key(&app, new, &Actor::command_line(), None).await?;
        Ok((operator, created, scopes))
    };
    let created = created.await.map_err(|error: OperatorError| match error {
        OperatorError::NotFound => format!("there is no operator {}", email.as_str()).into(),
        error => Failure::from(error),
    });
    let (operator, created, scopes) = app.finish(created).await?;
    let created = NewKeyShown {
        id: created.row.id,
        name: created.row.name,
        operator: operator.email,
        scopes: scopes.list(),
        key: created.key.expose_secret().to_owned(),
        created_at: created.row.created_at,
        expires_at: created.row.expires_at,
    };
    context.output.answer(&created, NewKeyShown::to_string)?;
    Ok(Exit::Ok)
}

/// A key in a list.
#[derive(Serialize)]
struct Row {
    id: Uuid,
    name: String,
    operator: String,
    scopes: Vec<Scope>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let keys = operators::all_keys(&app).await;
    let rows = app.finish(keys).await?.into_iter().map(|(key, operator)| {
        Ok::<_, Failure>(Row {
            scopes: operators::scopes_of(&key.scopes)?.list(),
            id: key.id,
            name: key.name,
            operator: operator.email,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        })
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    context.output.list(&rows, |rows| {
        let headings = ["NAME", "OPERATOR", "SCOPES", "EXPIRES", "LAST USED", "ID"];
        rows.iter().fold(Table::new(&headings, "No API keys."), |table, row| {
            table.row([
                row.name.clone(),
                row.operator.clone(),
                names(&row.scopes),
                row.expires_at.map_or_else(|| "never".to_owned(), minute),
                row.last_used_at.map_or_else(|| "never".to_owned(), minute),
                row.id.to_string(),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

async fn delete(context: &Context, arguments: ApiKeyDelete) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Deleted {
        id: Uuid,
    }
    let ApiKeyDelete { id, yes } = arguments;
    WrongArguments::confirm(yes, "whatever uses this key stops working")?;
    let app = context.open_app().await?;
    let deleted = operators::delete_key(&app, id, &Actor::command_line(), None).await;
    let deleted = deleted.map_err(|error| match error {
        OperatorError::NotFound => format!("there is no API key {id}").into(),
        error => Failure::from(error),
    });
    app.finish(deleted).await?;
    context.output.answer(&Deleted { id }, |_| "Deleted: it is refused from the next request on.")?;
    Ok(Exit::Ok)
}

fn names(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

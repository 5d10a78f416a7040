//! `tenantry operator …`

use std::fmt;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use uuid::Uuid;

use super::{
    arguments::WrongArguments,
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    audit::Actor,
    operators::{self, NewOperator, OperatorError},
    password::PasswordError,
    users::identity::Email,
};

/// What can be done with operators.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Operator {
    /// Create an operator, whose password is read from standard input
    #[command(after_help = "\
Examples:
  tenantry operator create ops@example.com
  tenantry --json operator create ops@example.com < password.txt")]
    Create(OperatorCreate),
    /// List the operators
    List,
    /// Give an operator another password, which is read from standard input; who is signed in by the old one is not any more
    Password(OperatorPassword),
    /// Remove an operator, with all of its API keys
    Delete(OperatorDelete),
}

/// The arguments of `operator create`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct OperatorCreate {
    /// The address the operator signs in with
    #[arg(value_name = "EMAIL")]
    pub email: String,
}

/// The arguments of `operator password`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct OperatorPassword {
    /// The operator's address
    #[arg(value_name = "EMAIL")]
    pub email: String,
}

/// The arguments of `operator delete`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct OperatorDelete {
    /// The operator's address
    #[arg(value_name = "EMAIL")]
    pub email: String,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

pub(super) async fn operator(context: &Context, command: Operator) -> Result<Exit, Failure> {
    match command {
        Operator::Create(arguments) => create(context, &arguments).await,
        Operator::List => list(context).await,
        Operator::Password(arguments) => set_password(context, &arguments).await,
        Operator::Delete(arguments) => delete(context, &arguments).await,
    }
}

async fn create(context: &Context, arguments: &OperatorCreate) -> Result<Exit, Failure> {
    let mut wrong = WrongArguments::default();
    let email = wrong.take("EMAIL", Email::parse(&arguments.email));
    let password = wrong.read_password();
    let (Some(email), Some(password)) = (email, password) else { return Err(wrong.failure()) };
    let app = context.open_app().await?;
    let new = NewOperator { email, password };
    let created = operators::create_operator_with_key(&app, new, &Actor::command_line()).await;
    let created = created.map_err(|error| match error {
        OperatorError::Password(PasswordError::Refused(wrong)) => WrongArguments::refused_password(wrong),
        error => error.into(),
    });
    let (operator, key) = app.finish(created).await?;
    let created = Created { id: operator.id, email: &operator.email, api_key: key.key.expose_secret() };
    context.output.answer(&created, Created::to_string)?;
    Ok(Exit::Ok)
}

/// A new operator, with the key in clear.
#[derive(Serialize)]
struct Created<'a> {
    id: Uuid,
    email: &'a str,
    api_key: &'a str,
}

impl fmt::Display for Created<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, email, api_key } = self;
        writeln!(f, "Created the operator {email}.\n")?;
        writeln!(f, "  API key  {api_key}")?;
        writeln!(f, "  Id       {id}\n")?;
        write!(f, "Keep the key now: it is not shown again. It may read, provision and destroy.")
    }
}

/// An operator in a list.
#[derive(Serialize)]
struct Row {
    id: Uuid,
    email: String,
    created_at: DateTime<Utc>,
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let all = operators::all_operators(&app).await;
    let rows = app.finish(all).await?.into_iter();
    let rows: Vec<_> =
        rows.map(|row| Row { id: row.id, email: row.email, created_at: row.created_at }).collect();
    context.output.list(&rows, |rows| {
        let none = "No operators yet: `tenantry operator create` makes one.";
        rows.iter().fold(Table::new(&["EMAIL", "CREATED", "ID"], none), |table, row| {
            let created = row.created_at.format("%Y-%m-%d %H:%M UTC").to_string();
            table.row([row.email.clone(), created, row.id.to_string()])
        })
    })?;
    Ok(Exit::Ok)
}

/// An operator, by whose name something was done.
#[derive(Serialize)]
struct Named<'a> {
    email: &'a str,
}

async fn set_password(context: &Context, arguments: &OperatorPassword) -> Result<Exit, Failure> {
    let mut wrong = WrongArguments::default();
    let email = wrong.take("EMAIL", Email::parse(&arguments.email));
    let password = wrong.read_password();
    let (Some(email), Some(password)) = (email, password) else { return Err(wrong.failure()) };
    let app = context.open_app().await?;
    let set = async {
        let operator = operators::find_operator(&app, &email).await?.ok_or(OperatorError::NotFound)?;
        operators::set_password(&app, operator, &password, &Actor::command_line()).await
    };
    let set = set.await.map_err(|error| match error {
        OperatorError::Password(PasswordError::Refused(wrong)) => WrongArguments::refused_password(wrong),
        error => not_found(&email, error),
    });
    app.finish(set).await?;
    context.output.answer(&Named { email: email.as_str() }, |Named { email }| {
        format!("{email} has another password: tokens are refused from the next request on. API keys go on.")
    })?;
    Ok(Exit::Ok)
}

fn not_found(email: &Email, error: OperatorError) -> Failure {
    match error {
        OperatorError::NotFound => format!("there is no operator {}", email.as_str()).into(),
        error => error.into(),
    }
}

async fn delete(context: &Context, arguments: &OperatorDelete) -> Result<Exit, Failure> {
    let mut wrong = WrongArguments::default();
    let Some(email) = wrong.take("EMAIL", Email::parse(&arguments.email)) else {
        return Err(wrong.failure());
    };
    let what = format!("this removes {} with all API keys", email.as_str());
    WrongArguments::confirm(arguments.yes, &what)?;
    let app = context.open_app().await?;
    let deleted = async {
        let operator = operators::find_operator(&app, &email).await?.ok_or(OperatorError::NotFound)?;
        operators::delete_operator(&app, operator.id, &Actor::command_line()).await
    };
    let deleted = deleted.await.map_err(|error| not_found(&email, error));
    app.finish(deleted).await?;
    context.output.answer(&Named { email: email.as_str() }, |Named { email }| {
        format!("Removed the operator {email}: tokens and API keys are refused from the next request on.")
    })?;
    Ok(Exit::Ok)
}

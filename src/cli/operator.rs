//! `tenantry operator …`

use std::fmt;

use secrecy::ExposeSecret as _;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Operator, OperatorCreate,
    arguments::WrongArguments,
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    operators::{NewOperator, OperatorError, create_operator},
    password::PasswordError,
    users::identity::Email,
};

pub(super) async fn operator(context: &Context, command: Operator) -> Result<Exit, Failure> {
    match command {
        Operator::Create(arguments) => create(context, &arguments).await,
    }
}

async fn create(context: &Context, arguments: &OperatorCreate) -> Result<Exit, Failure> {
    let mut wrong = WrongArguments::default();
    let email = wrong.take("EMAIL", Email::parse(&arguments.email));
    let password = wrong.read_password();
    let (Some(email), Some(password)) = (email, password) else { return Err(wrong.failure()) };
    let app = context.open_app().await?;
    let created = create_operator(&app, NewOperator { email, password }).await;
    let created = created.map_err(|error| match error {
        OperatorError::Password(PasswordError::Refused(wrong)) => WrongArguments::refused_password(wrong),
        error => error.into(),
    });
    let operator = app.finish(created).await?;
    let created = Created {
        id: operator.id,
        email: operator.email.as_str(),
        api_key: operator.api_key.expose_secret(),
    };
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

//! `tenantry tenant users`

use clap::Args;
use sea_orm::ActiveEnum as _;
use tenants::{Slug, Which};
use url::form_urlencoded;

use super::{
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{admin, audit::Actor, http::PageQuery, users::Users};

/// The arguments of `tenant users`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct TenantUsers {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// Only those with all these words in username, e-mail address or names
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    pub search: String,
    /// Which hundred of them, the newest first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub page: u32,
}

pub(super) async fn users(context: &Context, arguments: TenantUsers) -> Result<Exit, Failure> {
    let TenantUsers { slug, search, page } = arguments;
    let page = page.to_string();
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("page_size", "100"), ("page", &page), ("search", &search)])
        .finish();
    let query = PageQuery::<Users>::parse(&query).map_err(|problem| problem.to_string())?;
    let app = context.open_app().await?;
    let found = async {
        // Told in the words of the command line, not in those of HTTP.
        drop(
            admin::reach(&app, Which::Slug(&slug))
                .await
                .map_err(|error| super::tenant_changes::told(&slug, error))?,
        );
        let found = admin::users(&app, Which::Slug(&slug), &query, &Actor::command_line()).await;
        found.map_err(|problem| Failure::from(problem.to_string()))
    };
    let found = found.await;
    let found = app.finish(found).await?;
    context.output.list(&found.into_results(), |users| {
        let headings = ["USERNAME", "E-MAIL", "ROLE", "MAY SIGN IN", "JOINED"];
        users.iter().fold(Table::new(&headings, "No such users."), |table, user| {
            table.row([
                user.username.clone(),
                user.email.clone(),
                user.role.to_value(),
                if user.is_active { "yes" } else { "no" }.to_owned(),
                user.date_joined.format("%Y-%m-%d").to_string(),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

//! `tenantry tenant invite-owner`. The rules are those of the admin API.

use clap::Args;
use tenants::{Slug, Which};

use super::{
    arguments::WrongArguments,
    output::Exit,
    run::{Context, Failure},
    tenant_changes::told,
};
use crate::{
    admin::{self, AdminError, OwnerInvitationOut},
    audit::Actor,
    users::identity::Email,
};

/// The arguments of `tenant invite-owner`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantInviteOwner {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// The owner's address.
    #[arg(long, value_name = "EMAIL", help = "The owner's address [default: whose invitation is replaced]")]
    pub email: Option<String>,
}

pub(super) async fn invite(context: &Context, arguments: TenantInviteOwner) -> Result<Exit, Failure> {
    let TenantInviteOwner { slug, email } = arguments;
    let mut wrong = WrongArguments::default();
    let email = email.map(|email| wrong.take("--email", Email::parse(&email)));
    if email == Some(None) {
        return Err(wrong.failure());
    }
    let app = context.open_app().await?;
    let invited = async {
        let action = admin::act_on(&app, Which::Slug(&slug), true).await?;
        let email = email.flatten();
        let invited = admin::invite_owner(&app, &action, email.as_ref(), &Actor::command_line()).await?;
        action.commit().await?;
        Ok(OwnerInvitationOut::from(invited))
    };
    let invited = invited.await.map_err(|error| match error {
        AdminError::NobodyToInvite => "nobody was invited before: say whom to invite, by --email".into(),
        error => told(&slug, error),
    });
    let invited = app.finish(invited).await?;
    context.output.answer(&invited, |OwnerInvitationOut { email, expires_at, .. }| {
        let until = expires_at.format("%Y-%m-%d %H:%M UTC");
        format!("Invited {email} to own {slug}: the link works until {until}, and one sent before does not any more.")
    })?;
    Ok(Exit::Ok)
}

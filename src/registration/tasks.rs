//! What depends on whether an address is known, done after the answer.

use serde::{Deserialize, Serialize};
use tenants::{LeasedJob, TenantDb, TenantTx};

use super::{service, store};
use crate::{
    auth::links::LinkToken,
    entity::sign_ups,
    error::ServiceError,
    jobs::{self, Task},
    mail::{Letter, Mail, Recipient},
    state::App,
    tenant::{self, sign_up_rules},
    users::{self, identity::Email},
};

/// What is to be found out about an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "asked", rename_all = "snake_case")]
pub enum AddressTask {
    /// Somebody signed up with it.
    SignUp {
        /// The address as he wrote it.
        email: String,
    },
    /// Somebody asked for another link.
    Resend {
        /// The address as he wrote it.
        email: String,
    },
}

pub(super) fn sign_up(email: &Email) -> Task {
    Task::Address(AddressTask::SignUp { email: email.as_str().to_owned() })
}

pub(super) fn resend(email: &Email) -> Task {
    Task::Address(AddressTask::Resend { email: email.as_str().to_owned() })
}

/// Finds it out, and mails what follows from it: now, or once the address may get one more mail.
///
/// # Errors
/// Those of the database.
pub async fn run(app: &App, db: &TenantDb, job: &LeasedJob, task: &AddressTask) -> Result<(), ServiceError> {
    let (AddressTask::SignUp { email } | AddressTask::Resend { email }) = task;
    let damaged = || tenants::Error::Damaged(format!("the job {} does not parse", job.id));
    let email = Email::parse(email).map_err(|_| damaged())?;
    let tx = db.begin().await?;
    let (letter, asked) = match task {
        AddressTask::SignUp { .. } => (after_sign_up(app, &tx, &email).await?, "signed up"),
        AddressTask::Resend { .. } => (after_resend(app, &tx, &email).await?, "asked again"),
    };
    let Some(letter) = letter else { return Ok(()) };
    let counted = format!("address {}", email.key());
    if let Some(wait) = jobs::mail_room(app, &tx, &counted).await? {
        // What was written for this mail is written when it goes out.
        tx.rollback().await;
        let tx = db.begin().await?;
        let what = format!("{asked} {counted}");
        jobs::put_off(app, &tx, &Task::Address(task.clone()), &what, wait).await?;
        return Ok(tx.commit().await?);
    }
    // A worker that died may have been here already. Then its mail goes out, and what was written here is rolled back.
    if jobs::leave(app, &tx, &Task::Mail(letter), Some(format!("mail of {}", job.id))).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// The mail of the latest sign-up of an address, where its mail has yet to go out. Of several tasks for it, one finds it.
async fn after_sign_up(app: &App, tx: &TenantTx, email: &Email) -> Result<Option<Letter>, ServiceError> {
    let now = app.clock.now();
    let rows = store::lock(tx, email, now).await?;
    let Some(row) = rows.iter().find(|row| !row.is_mailed) else { return Ok(None) };
    let Some(account) = users::find_by_email(tx, email).await? else {
        // Decided otherwise since.
        if !sign_up_rules(tx).await?.admit(email) {
            return Ok(None);
        }
        return link_for(app, tx, row).await;
    };
    store::delete(tx, email, now).await?;
    let (slug, organization) = (&tx.tenant().slug, tenant::name(tx).await?);
    let mail = Mail::AccountExists { organization, url: app.site.tenant_url(slug) };
    Ok(Some(Letter { to: (&account).into(), mail, expires_at: None }))
}

async fn after_resend(app: &App, tx: &TenantTx, email: &Email) -> Result<Option<Letter>, ServiceError> {
    let (slug, now) = (&tx.tenant().slug, app.clock.now());
    if let Some(account) = users::find_by_email(tx, email).await? {
        if account.email_verified_at.is_some() || !account.is_active {
            return Ok(None);
        }
        let organization = tenant::name(tx).await?;
        return service::link_for(app, tx, slug, &organization, &account).await.map(Some);
    }
    // Nobody can sign up by it: the link would lead nowhere, and what waits shall end when it was to.
    if !sign_up_rules(tx).await?.admit(email) {
        return Ok(None);
    }
    // The one that was mailed comes first, the one that would replace it last.
    match store::lock(tx, email, now).await?.last() {
        Some(row) => link_for(app, tx, row).await,
        None => Ok(None),
    }
}

/// Gives a sign-up a link, and writes the mail with it.
async fn link_for(app: &App, tx: &TenantTx, row: &sign_ups::Model) -> Result<Option<Letter>, ServiceError> {
    let token = LinkToken::generate();
    store::give_link(tx, row, &token, app.clock.now() + service::LIFETIME).await?;
    let organization = tenant::name(tx).await?;
    Ok(Some(service::letter(app, &tx.tenant().slug, &organization, newcomer(row), &token)))
}

fn newcomer(row: &sign_ups::Model) -> Recipient {
    let name = if row.first_name.is_empty() { &row.username } else { &row.first_name };
    Recipient { name: name.clone(), ..Recipient::stranger(&row.email) }
}

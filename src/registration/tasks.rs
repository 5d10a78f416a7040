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
    tenant,
    throttle::{self, MAILS, ThrottleError},
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
        /// The token that goes into the link, if he gets one.
        token: String,
    },
    /// Somebody asked for another link.
    Resend {
        /// The address as he wrote it.
        email: String,
    },
}

pub(super) fn sign_up(email: &Email, token: &LinkToken) -> Task {
    Task::Address(AddressTask::SignUp { email: email.as_str().to_owned(), token: token.encode() })
}

pub(super) fn resend(email: &Email) -> Task {
    Task::Address(AddressTask::Resend { email: email.as_str().to_owned() })
}

/// By what the mails to an address are counted.
pub(super) fn mails_to(email: &Email) -> String {
    format!("address {}", email.key())
}

/// Finds it out, and mails what follows from it.
///
/// # Errors
/// Those of the database.
pub async fn run(app: &App, db: &TenantDb, job: &LeasedJob, task: &AddressTask) -> Result<(), ServiceError> {
    let (AddressTask::SignUp { email, .. } | AddressTask::Resend { email }) = task;
    let damaged = || tenants::Error::Damaged(format!("the job {} does not parse", job.id));
    let email = Email::parse(email).map_err(|_| damaged())?;
    // Nobody's mailbox is filled by who asks again and again. A sign-up was counted when it came.
    if matches!(task, AddressTask::Resend { .. }) {
        match throttle::admit(app, db, &[(MAILS, &mails_to(&email))]).await {
            Ok(_) => {}
            Err(ThrottleError::Throttled(_)) => return Ok(()),
            Err(ThrottleError::Service(error)) => return Err(error),
        }
    }
    let tx = db.begin().await?;
    let letter = match task {
        AddressTask::SignUp { token, .. } => {
            let token = LinkToken::parse(token).ok_or_else(damaged)?;
            after_sign_up(app, &tx, &email, &token).await?
        }
        AddressTask::Resend { .. } => after_resend(app, &tx, &email).await?,
    };
    let Some(letter) = letter else { return Ok(()) };
    // A worker that died may have been here already. Then its mail goes out, and what was written here is rolled back.
    if jobs::leave(app, &tx, &Task::Mail(letter), Some(format!("mail of {}", job.id))).await? {
        tx.commit().await?;
    }
    Ok(())
}

async fn after_sign_up(
    app: &App,
    tx: &TenantTx,
    email: &Email,
    token: &LinkToken,
) -> Result<Option<Letter>, ServiceError> {
    let Some(row) = store::lock(tx, email, app.clock.now()).await? else { return Ok(None) };
    // Replaced by a later one, which has a task of its own.
    if row.token_hash != token.hash() {
        return Ok(None);
    }
    let (slug, organization) = (&tx.tenant().slug, tenant::name(tx).await?);
    let Some(account) = users::find_by_email(tx, email).await? else {
        return Ok(Some(service::letter(app, slug, &organization, newcomer(&row), token)));
    };
    store::delete(tx, email).await?;
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
    let Some(row) = store::lock(tx, email, now).await? else { return Ok(None) };
    let token = LinkToken::generate();
    store::renew(tx, email, &token, now + service::LIFETIME).await?;
    let organization = tenant::name(tx).await?;
    Ok(Some(service::letter(app, slug, &organization, newcomer(&row), &token)))
}

fn newcomer(row: &sign_ups::Model) -> Recipient {
    let name = if row.first_name.is_empty() { &row.username } else { &row.first_name };
    Recipient { name: name.clone(), ..Recipient::stranger(&row.email) }
}

//! What is written to people, before it is a message.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{entity::users::Role, notifications::Kind, users::Account};

/// A mail to one person. It is kept encrypted in the outbox until it is sent, and not after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// To whom.
    pub to: Recipient,
    /// What it says.
    pub mail: Mail,
    /// When what it says is not true any more: a link has expired. It is not sent later than that.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Who gets a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address, as it is stored.
    pub email: String,
    /// What to call the person; may be empty.
    pub name: String,
    /// The language to write in: a tag of BCP 47.
    pub locale: String,
    /// The zone that times are told in: a name of the IANA time zone database.
    pub timezone: String,
}

impl Recipient {
    /// Somebody of whom only the address is known.
    #[must_use]
    pub fn stranger(email: &str) -> Self {
        Self {
            email: email.to_owned(),
            name: String::new(),
            locale: "en".to_owned(),
            timezone: "UTC".to_owned(),
        }
    }
}

impl From<&Account> for Recipient {
    fn from(account: &Account) -> Self {
        let name = if account.first_name.is_empty() { &account.username } else { &account.first_name };
        Self {
            email: account.email.clone(),
            name: name.clone(),
            locale: account.locale.clone(),
            timezone: account.timezone.clone(),
        }
    }
}

/// Every mail there is. Links are whole URLs, and open what they lead to: its `Debug` does not tell them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mail", rename_all = "snake_case")]
pub enum Mail {
    /// To prove the address of an account, or of a sign-up.
    VerifyEmail {
        /// The organization's name.
        organization: String,
        /// Where the address is proven.
        link: String,
    },
    /// Somebody signed up with the address of an account that is there.
    AccountExists {
        /// The organization's name.
        organization: String,
        /// Where its people work.
        url: String,
    },
    /// To join an organization.
    Invitation {
        /// The organization's name.
        organization: String,
        /// Who asks: the person's name.
        inviter: String,
        /// What the invited will be.
        role: Role,
        /// Where the invitation is accepted.
        link: String,
    },
    /// To choose another password.
    ResetPassword {
        /// The organization's name.
        organization: String,
        /// Where it is chosen.
        link: String,
    },
    /// The password was changed, or reset.
    PasswordChanged {
        /// The organization's name.
        organization: String,
        /// When.
        at: DateTime<Utc>,
        /// From which address.
        ip: String,
        /// Where its people work.
        url: String,
    },
    /// To the new address: to prove it.
    ConfirmEmail {
        /// The organization's name.
        organization: String,
        /// Where it is proven.
        link: String,
    },
    /// To the old address: the account has another one now.
    EmailChanged {
        /// The organization's name.
        organization: String,
        /// The new address.
        email: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// The organizations of a person who asked for them.
    Organizations {
        /// They.
        organizations: Vec<OrganizationLink>,
    },
    /// Somebody signed in with a client that was not seen before, or from where nobody was before.
    NewDevice {
        /// The organization's name.
        organization: String,
        /// When.
        at: DateTime<Utc>,
        /// From which address.
        ip: String,
        /// What the client called itself.
        user_agent: String,
        /// Where its people work.
        url: String,
    },
    /// What somebody is told of at once.
    Notifications {
        /// The organization's name.
        organization: String,
        /// What happened, the oldest first; at least one thing.
        happenings: Vec<Happening>,
        /// How much more happened.
        more: u64,
        /// Where its people work.
        url: String,
    },
    /// What somebody is told of once a day.
    DailyDigest {
        /// The organization's name.
        organization: String,
        /// What happened, the oldest first; at least one thing.
        happenings: Vec<Happening>,
        /// How much more happened.
        more: u64,
        /// Where its people work.
        url: String,
    },
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mail(…)")
    }
}

/// Something that happened, in a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// What it is to the recipient.
    pub kind: Kind,
    /// Who did it: the person's name.
    pub actor: Option<String>,
    /// What it is about: how a comment begins, for example. May be empty.
    pub about: String,
}

/// An organization in a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationLink {
    /// Its name.
    pub name: String,
    /// Where its people work.
    pub url: String,
}

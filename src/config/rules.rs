//! What settings demand of each other.

use super::error::{ConfigError, Origin, Problem};
use super::settings::{
    ADMIN_LISTEN, ADMIN_TLS, DATABASE_POOLING, DATABASE_URL, DIRECT_DATABASE_URL, MAIL, MAIL_FROM,
    MASTER_KEY, MASTER_KEY_FILE, METRICS_LISTEN, PUBLIC_URL, SMTP_URL, Setting, TLS_KEY_FILE,
};
use super::value::MailTransport;
use super::{Config, Mail};
use tenants::Pooling;

impl Config {
    /// What no command can work with.
    pub(super) fn contradictions(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse =
            |setting, wrong: &str, right: &str| problems.push(self.problem(setting, wrong, right));

        if self.is_set(&MASTER_KEY) && self.is_set(&MASTER_KEY_FILE) {
            refuse(&MASTER_KEY_FILE, "the master key is given twice", "give the key or its file");
        }
        if self.is_set(&DIRECT_DATABASE_URL) && !self.is_set(&DATABASE_URL) {
            refuse(
                &DIRECT_DATABASE_URL,
                "there is no database URL beside it",
                "give TENANTRY_DATABASE_URL too",
            );
        }
        if self.database_pooling == Pooling::Transaction {
            if !self.is_set(&DATABASE_URL) {
                refuse(
                    &DATABASE_POOLING,
                    "there is no pooler before the embedded database",
                    "give TENANTRY_DATABASE_URL too, or leave it at session",
                );
            } else if !self.is_set(&DIRECT_DATABASE_URL) {
                refuse(
                    &DIRECT_DATABASE_URL,
                    "behind a pooler by transaction, what needs a connection of its own has none",
                    "give the URL of the same database that leads past the pooler",
                );
            }
        }
        if self.mail == Some(MailTransport::File) && self.is_set(&SMTP_URL) {
            refuse(&MAIL, "mails to files contradict the mail server that is given", "give one of the two");
        }
        if self.admin_listen == Some(self.listen) && self.listen.port() != 0 {
            let right = "give another port, or none: the main listener serves the admin API too";
            refuse(&ADMIN_LISTEN, "is the address of the main listener", right);
        }
        if self.tls_cert_files.len() != self.tls_key_files.len() {
            let wrong = "there have to be as many keys as certificates";
            refuse(
                &TLS_KEY_FILE,
                wrong,
                "give TENANTRY_TLS_CERT_FILE and TENANTRY_TLS_KEY_FILE, or none of them",
            );
        }
        if self.admin_tls == Some(true) && self.tls_cert_files.is_empty() {
            refuse(
                &ADMIN_TLS,
                "there is no certificate",
                "give TENANTRY_TLS_CERT_FILE and TENANTRY_TLS_KEY_FILE",
            );
        }
        let others = [Some(self.listen), self.admin_listen];
        if self.metrics_listen.is_some_and(|it| it.port() != 0 && others.contains(&Some(it))) {
            let right = "give another port, or none: the admin listener has /metrics too";
            refuse(&METRICS_LISTEN, "is the address of another listener", right);
        }
        if !self.public_url.host_str().is_some_and(|host| self.base_domain.covers(host)) {
            let wrong = format!("its host is neither the base domain ({}) nor under it", self.base_domain);
            refuse(
                &PUBLIC_URL,
                &wrong,
                "set TENANTRY_BASE_DOMAIN to the domain that tenants' hosts are under",
            );
        }
        problems
    }

    /// Checks what a command needs that opens the database.
    ///
    /// # Errors
    /// Everything that is missing.
    pub fn validate_for_database(&self) -> Result<(), ConfigError> {
        answer(self.missing_for_database())
    }

    /// Checks what `serve` needs.
    ///
    /// # Errors
    /// Everything that is missing or too dangerous.
    pub fn validate_for_serve(&self) -> Result<(), ConfigError> {
        let mut problems = self.missing_for_database();
        let mut refuse = |setting, wrong, right| problems.push(self.problem(setting, wrong, right));

        match self.mail() {
            Mail::Smtp(url) => {
                if url.crosses_networks_in_clear() {
                    let wrong = "mails, with the links in them, would go to another machine unencrypted";
                    refuse(&SMTP_URL, wrong, "give smtps://… or smtp://…?tls=required");
                }
                if self.mail_from.is_none() {
                    refuse(
                        &MAIL_FROM,
                        "mails need a sender",
                        "give Name <address>: Acme <no-reply@example.com>",
                    );
                }
            }
            Mail::Files(_) if self.mail == Some(MailTransport::Smtp) => {
                refuse(&SMTP_URL, "there is no mail server to send with", "give smtps://user:password@host");
            }
            Mail::Files(_) => {
                if self.mail.is_none() && !self.is_development() {
                    let wrong = if self.database_url.is_some() {
                        "with a database URL mails have to go somewhere"
                    } else {
                        "on a listener that other machines reach, mails have to go somewhere"
                    };
                    refuse(
                        &SMTP_URL,
                        wrong,
                        "give smtps://user:password@host, or set TENANTRY_MAIL=file to only write them",
                    );
                }
            }
        }
        answer(problems)
    }

    fn missing_for_database(&self) -> Vec<Problem> {
        if self.database_url.is_none() || self.master_key.is_some() {
            return Vec::new();
        }
        let wrong = "a database of your own needs a master key";
        let right = "give 32 random bytes in base64 or hex, always the same: openssl rand -base64 32";
        vec![self.problem(&MASTER_KEY, wrong, right)]
    }

    fn is_set(&self, setting: &Setting) -> bool {
        self.origins.contains_key(setting.key)
    }

    fn problem(&self, setting: &Setting, wrong: &str, right: &str) -> Problem {
        let origin = self.origins.get(setting.key).cloned().unwrap_or(Origin::Unset);
        Problem::new(setting, &origin, wrong, right)
    }
}

fn answer(problems: Vec<Problem>) -> Result<(), ConfigError> {
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
}

//! Whether the connections of the settings stay whose they are.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Finding, unchecked};
use crate::{Settings, binding::Pooling, install, probe};

const CHECK: &str = "pooler";
const ADVICE: &str = "set TENANTRY_DATABASE_POOLING=transaction, with a TENANTRY_DIRECT_DATABASE_URL that leads past the \
     pooler; or lead it to PostgreSQL itself: bound connections must stay whose they are";
const DIRECT_ADVICE: &str =
    "lead it to PostgreSQL itself: migrations, LISTEN and advisory locks need connections that stay theirs";

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_one = settings.owner.expose_secret() == settings.direct.expose_secret();
    if settings.pooling == Pooling::Session {
        findings.extend(look("TENANTRY_DATABASE_URL", &settings.owner, ADVICE).await);
    }
    if settings.pooling == Pooling::Transaction || !is_one {
        findings.extend(look("TENANTRY_DIRECT_DATABASE_URL", &settings.direct, DIRECT_ADVICE).await);
    }
    // Most often what keeps one from being checked keeps the other, too.
    findings.dedup_by(|one, other| one.found == other.found);
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            match settings.pooling {
                Pooling::Session => "connections keep what is set on them",
                Pooling::Transaction => {
                    "each transaction is bound by itself, and direct connections keep what is set on them"
                }
            },
        ));
    }
    findings
}

async fn look(name: &str, url: &SecretString, advice: &str) -> Option<Finding> {
    let pooled = match install::connect_options(url) {
        Ok(login) => probe::is_pooled(&login).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match pooled {
        Ok(false) => None,
        Ok(true) => Some(Finding::problem(
            CHECK,
            "pooled",
            format!("{name} leads through a pooler, which may give each transaction another connection"),
            advice,
        )),
        Err(error) => Some(unchecked(CHECK, error)),
    }
}

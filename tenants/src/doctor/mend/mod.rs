//! Mends what follows from the catalog and from the migrations: roles, memberships and rights, whose what is, and indexes
//! and constraints. PostgreSQL is asked for the statements that put right what is wrong, and nothing else is touched; so on
//! an installation that is as it should be, nothing is done.
//!
//! After a restore onto another cluster, roles and rights are what is missing: `pg_dump` knows of the roles by name only.

mod statements;

use std::collections::BTreeMap;

use migration::CATALOG_SCHEMA;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use self::statements::{MENDS, Mend, WITH_THE_ROLES};
use super::{Finding, PATH, rules::texts, shape};
use crate::{
    Error, Settings,
    install::{self, Installation, SESSION_SETTINGS},
    role_maker::RoleMaker,
};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Mended {
    /// The statements that were run.
    pub done: Vec<String>,
    /// Those that PostgreSQL refused, and why.
    pub refused: Vec<Refused>,
}

impl Mended {
    /// Whether the rest could not even be looked at.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.refused.iter().any(|it| it.code == Some(CATALOG_OWNED))
    }
}

/// A statement that PostgreSQL refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// The finding that it would have put right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The statement.
    pub statement: String,
    /// Why.
    pub reason: String,
    /// Whether a superuser may do it.
    pub needs_superuser: bool,
}

/// A statement that puts something right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    /// The finding that is about it.
    pub(super) code: &'static str,
    pub(super) statement: String,
}

/// PostgreSQL's `insufficient_privilege`.
const NO_RIGHT: &str = "42501";
/// The finding that the catalog is somebody else's.
pub(super) const CATALOG_OWNED: &str = "catalog_owned";

/// Puts right what can be made again. One process at a time does it, and none while another one migrates. What the owner's
/// login has no right to is done by the superuser of a server that is ours.
///
/// # Errors
/// The database is not there or not set up, or the master key is another. What PostgreSQL refuses is no error: it is told.
pub async fn mend(settings: &Settings, superuser: Option<&SecretString>) -> Result<Mended, Error> {
    let login = install::connect_options(&settings.direct)?;
    let mut hands = Hands {
        owner: connect(&settings.direct).await?,
        // Until it is known: what comes before is no role.
        role_maker: RoleMaker::Login,
        superuser: match superuser {
            Some(url) => Some(connect(url).await?),
            None => None,
        },
    };
    let lost = owned_by_others(&mut hands.owner).await?;
    if !lost.is_empty() {
        let regained = hands.regain(&lost).await?;
        if !regained.refused.is_empty() {
            return Ok(regained);
        }
    }
    install::check_catalog(&install::applied(&mut hands.owner).await?)?;
    let installation = Installation::read_catalog(&mut hands.owner, &settings.master_key).await?;
    hands.role_maker = installation.role_maker;
    install::lock_catalog(&mut hands.owner).await?;
    let mut mended = mend_with(&mut hands, &installation, &login).await;
    if let Ok(mended) = &mut mended {
        mended.done.splice(0..0, lost);
    }
    // All that was asked is answered; how the connections end makes no difference.
    hands.owner.close().await.ok();
    if let Some(superuser) = hands.superuser {
        superuser.close().await.ok();
    }
    mended
}

/// What can be done, with the rights of whom.
struct Hands {
    owner: PgConnection,
    role_maker: RoleMaker,
    superuser: Option<PgConnection>,
}

async fn connect(url: &SecretString) -> Result<PgConnection, Error> {
    let login = install::connect_options(url)?;
    let options = login.0.options(SESSION_SETTINGS).options([PATH]);
    let mut connection = PgConnection::connect_with(&options).await?;
    // The last one: of what a REVOKE by somebody else did not revoke there is a mere warning; it is found afterwards.
    let settings = "SET statement_timeout TO '15min'; SET lock_timeout TO '1min'; \
         SET default_transaction_read_only TO off; SET client_min_messages TO error";
    connection.execute(settings).await?;
    Ok(connection)
}

async fn mend_with(
    hands: &mut Hands,
    installation: &Installation,
    login: &crate::connection::Login,
) -> Result<Mended, Error> {
    let mut wanted = all(&mut hands.owner, installation).await?;
    let mut reasons = BTreeMap::new();
    let with_roles = missing_rights(&mut hands.owner, installation).await?;
    let mut made = hands.create_roles(installation, login).await?;
    // One after the other, because some can be asked for only when others are done; the indexes last, for the same reason.
    for mend in &MENDS {
        let proposals = of_mend(&mut hands.owner, installation, mend).await?;
        hands.run(proposals, &mut wanted, &mut reasons).await?;
    }
    let proposals = of_shape(&mut hands.owner).await;
    hands.run(proposals, &mut wanted, &mut reasons).await?;

    // What was somebody else's is ours by now.
    if made.is_err() {
        made = hands.create_roles(installation, login).await?;
    }
    let mut mended = Mended::default();
    let (made, failed) = match made {
        Ok(made) => (made, None),
        Err(failed) => (Vec::new(), Some(failed)),
    };
    mended.done.extend(made.into_iter().map(|role| format!("CREATE ROLE {role}, or its password")));
    mended.done.extend(with_roles);
    let mut left = all(&mut hands.owner, installation).await?;
    if hands.superuser.is_some() && left.iter().any(|it| !reasons.contains_key(&it.statement)) {
        // Done and of no effect: somebody else has granted it.
        for proposal in left {
            hands.run_as_superuser(&proposal, &mut reasons).await?;
        }
        left = all(&mut hands.owner, installation).await?;
    }
    for Proposal { code, statement } in wanted {
        if left.iter().all(|it| it.statement != statement) {
            mended.done.push(statement);
            continue;
        }
        let (reason, needs_superuser) = reasons
            .remove(&statement)
            .unwrap_or_else(|| ("it had no effect: somebody else granted it".to_owned(), true));
        mended.refused.push(Refused { code: Some(code), statement, reason, needs_superuser });
    }
    mended.done.extend(hands.harden().await?);
    // Where something else was refused, that is why.
    mended.refused.extend(failed.filter(|_| mended.refused.is_empty()));
    Ok(mended)
}

impl Hands {
    /// Gets the catalog back, or says by what statements a superuser does.
    async fn regain(&mut self, statements: &[String]) -> Result<Mended, Error> {
        let mut mended = Mended::default();
        for statement in statements {
            let proposal = Proposal { code: CATALOG_OWNED, statement: statement.clone() };
            let mut reasons = BTreeMap::new();
            self.run(vec![proposal], &mut Vec::new(), &mut reasons).await?;
        }
        for statement in owned_by_others(&mut self.owner).await? {
            let reason = "must be a superuser".to_owned();
            mended.refused.push(Refused {
                code: Some(CATALOG_OWNED),
                statement,
                reason,
                needs_superuser: true,
            });
        }
        Ok(mended)
    }

    /// The roles and what they may do; or why not, when something of the catalog is not there or not ours.
    async fn create_roles(
        &mut self,
        installation: &Installation,
        login: &crate::connection::Login,
    ) -> Result<Result<Vec<String>, Refused>, Error> {
        self.owner.execute(AssertSqlSafe(format!("SET search_path TO {CATALOG_SCHEMA}"))).await?;
        let made = installation.create_roles(&mut self.owner, login).await;
        self.owner.execute("RESET search_path").await?;
        Ok(made.map_err(|error| Refused {
            code: None,
            statement: "GRANT what the catalog's login and tenants may do in the catalog".to_owned(),
            reason: error.to_string(),
            needs_superuser: false,
        }))
    }

    /// Runs these, and notes why some could not be.
    async fn run(
        &mut self,
        proposals: Vec<Proposal>,
        wanted: &mut Vec<Proposal>,
        reasons: &mut BTreeMap<String, (String, bool)>,
    ) -> Result<(), Error> {
        for proposal in proposals {
            match self.owner.execute(AssertSqlSafe(proposal.statement.clone())).await {
                Ok(_) => {}
                Err(sqlx::Error::Database(error)) => {
                    let needs_superuser = error.code().as_deref() == Some(NO_RIGHT);
                    if needs_superuser && self.call_instead_of(&proposal.statement).await? {
                        note(wanted, proposal);
                        continue;
                    }
                    let reason = (error.message().to_owned(), needs_superuser);
                    reasons.insert(proposal.statement.clone(), reason);
                    if needs_superuser {
                        self.run_as_superuser(&proposal, reasons).await?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            note(wanted, proposal);
        }
        Ok(())
    }

    /// Does by one of the functions for roles what our login may not do itself, if there is one for it that does not refuse.
    async fn call_instead_of(&mut self, statement: &str) -> Result<bool, Error> {
        let Some(call) = self.role_maker.instead_of(statement) else { return Ok(false) };
        match self.owner.execute(AssertSqlSafe(call)).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn run_as_superuser(
        &mut self,
        Proposal { statement, .. }: &Proposal,
        reasons: &mut BTreeMap<String, (String, bool)>,
    ) -> Result<(), Error> {
        let Some(superuser) = &mut self.superuser else { return Ok(()) };
        match superuser.execute(AssertSqlSafe(statement.clone())).await {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(error)) => {
                reasons.insert(statement.clone(), (error.message().to_owned(), false));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes from PUBLIC what it must not have. Returns the statements that did; what only a superuser can take where there
    /// is none at hand is a finding, and a warning.
    async fn harden(&mut self) -> Result<Vec<String>, Error> {
        let exposed = install::exposed(&mut self.owner).await?;
        let mut left = install::harden(&mut self.owner).await?;
        if let Some(superuser) = self.superuser.as_mut().filter(|_| !left.is_empty()) {
            left = install::harden(superuser).await?;
        }
        Ok(exposed.into_iter().filter(|statement| !left.contains(statement)).collect())
    }
}

fn note(wanted: &mut Vec<Proposal>, proposal: Proposal) {
    if !wanted.contains(&proposal) {
        wanted.push(proposal);
    }
}

/// Everything there is to do just now.
async fn all(connection: &mut PgConnection, installation: &Installation) -> Result<Vec<Proposal>, Error> {
    let mut proposals = Vec::new();
    for mend in &MENDS {
        proposals.extend(of_mend(connection, installation, mend).await?);
    }
    proposals.extend(of_shape(connection).await);
    Ok(proposals)
}

/// What cannot even be compared is no reason to mend nothing else; that it cannot is a finding.
async fn of_shape(connection: &mut PgConnection) -> Vec<Proposal> {
    shape::proposals(connection).await.unwrap_or_default()
}

async fn of_mend(
    connection: &mut PgConnection,
    installation: &Installation,
    Mend { mends, by }: &Mend,
) -> Result<Vec<Proposal>, Error> {
    let code = mends.first().copied().unwrap_or_default();
    let statements = texts(connection, installation, by).await?;
    Ok(statements.into_iter().map(|statement| Proposal { code, statement }).collect())
}

async fn missing_rights(
    connection: &mut PgConnection,
    installation: &Installation,
) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for Mend { by, .. } in &WITH_THE_ROLES {
        let named = format!("SELECT 'GRANT ON ' || what FROM ({by}) AS missing (what)");
        missing.extend(texts(connection, installation, &named).await?);
    }
    Ok(missing)
}

/// The statements that give the catalog back to the login that asks: while it is somebody else's, nothing can be read in it.
pub(super) async fn owned_by_others(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT format('ALTER SCHEMA %I OWNER TO %I', nspname, current_user) FROM pg_namespace
         WHERE nspname = 'tenantry' AND NOT pg_has_role(nspowner, 'USAGE')
         UNION ALL
         SELECT format('ALTER TABLE tenantry.%I OWNER TO %I', relname, current_user) FROM pg_class
         WHERE relnamespace = to_regnamespace('tenantry') AND relkind IN ('r', 'p') AND NOT pg_has_role(relowner, 'USAGE')",
    )
    .fetch_all(connection)
    .await
}

/// Says of what `--fix` could not put right what can: it is no use to try that again.
pub fn advise_after(mended: &Mended, findings: &mut [Finding]) {
    for finding in findings {
        let Some(code) = finding.code else { continue };
        let mends = MENDS.iter().filter(|mend| mend.mends.contains(&code)).flat_map(|mend| mend.mends);
        let codes: Vec<&str> = mends.copied().chain([code]).collect();
        let refused = mended.refused.iter().filter(|it| it.code.is_some_and(|code| codes.contains(&code)));
        let refused: Vec<&Refused> = refused.collect();
        if refused.is_empty() {
            continue;
        }
        // All of them: they are run as they stand there.
        let statements: Vec<&str> = refused.iter().map(|it| it.statement.as_str()).collect();
        let who = if refused.iter().any(|it| it.needs_superuser) {
            "have a superuser run, in this database"
        } else {
            "PostgreSQL refused it for the reason above; when that is out of the way, run"
        };
        finding.statements = statements.iter().map(|it| (*it).to_owned()).collect();
        finding.advice = Some(format!("{who}: {}", statements.join("; ")));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rules, *};

    /// Dropped with the orphans, by what has the tenancy.
    const ELSEWHERE: &str = "roles_without_tenant";

    #[test]
    fn what_fix_is_said_to_put_right_it_does() {
        let mended: Vec<&str> =
            MENDS.iter().chain(&WITH_THE_ROLES).flat_map(|mend| mend.mends).copied().collect();
        for code in rules::fixable().filter(|code| *code != ELSEWHERE) {
            assert!(mended.contains(&code), "{code}");
        }
        for code in &mended {
            assert!(
                rules::fixable().any(|it| it == *code),
                "{code} is no finding, or is not said to be mended"
            );
        }
    }
}

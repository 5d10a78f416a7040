//! Tries to get from one tenant to another, and expects PostgreSQL to refuse.
//!
//! That a bound connection may `SET ROLE` to another tenant of its lane is no finding: PostgreSQL asks what the login may
//! become, not what it is. It is why the code above this crate cannot write SQL by hand.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{Finding, rules::own_schema, unchecked};
use crate::{
    SchemaName,
    binding::Binding,
    connection::Login,
    install::{Installation, SESSION_SETTINGS},
};

/// How many tenants are tried: two of each of the first three lanes that have as many.
const SAMPLE: i64 = 6;

const CHECK: &str = "isolation";

struct Sampled {
    slug: String,
    schema: SchemaName,
    lane: u16,
}

pub(super) async fn check(
    connection: &mut PgConnection,
    owner: &Login,
    installation: &Installation,
) -> Vec<Finding> {
    match attempt_all(connection, owner, installation).await {
        Ok(findings) => findings,
        Err(finding) => vec![finding],
    }
}

async fn attempt_all(
    connection: &mut PgConnection,
    owner: &Login,
    installation: &Installation,
) -> Result<Vec<Finding>, Finding> {
    let tenants = sample(connection).await.map_err(|error| unchecked(CHECK, error))?;
    let mut findings = Vec::new();
    let mut refused = 0;
    let lanes = (0..installation.lanes).map(|lane| (Some(lane), installation.roles.lane(lane)));
    for (lane, role) in lanes.chain([(None, installation.roles.catalog())]) {
        let Login(options) = installation.login(owner, &role);
        let mut connection =
            PgConnection::connect_with(&options.options(SESSION_SETTINGS)).await.map_err(|error| {
                let reason = crate::Error::from(error);
                Finding::problem(
                    CHECK,
                    "login_fails",
                    format!("the login {role} cannot connect: {reason}"),
                    super::FIX,
                )
            })?;
        let of_lane = tenants.iter().filter(|it| Some(it.lane) == lane).map(Some);
        for bound in std::iter::once(None).chain(of_lane) {
            match attempts(&mut connection, (lane, bound), &tenants).await {
                Ok(attempts) => {
                    refused += attempts.refused;
                    findings.extend(attempts.findings);
                }
                Err(error) => findings.push(unchecked(CHECK, error)),
            }
        }
        connection.close().await.ok();
    }
    // Several lanes tell the same.
    findings.dedup();
    if findings.is_empty() {
        let found = match tenants.len() {
            0 | 1 => format!(
                "all {refused} attempts to read past the tenant were refused; with two tenants more can be tried"
            ),
            tried => format!("all {refused} attempts to cross between {tried} tenants were refused"),
        };
        findings.push(Finding::ok(CHECK, found));
    }
    Ok(findings)
}

/// A few active tenants that have a schema, in pairs that share a lane where there are such.
async fn sample(connection: &mut PgConnection) -> Result<Vec<Sampled>, crate::Error> {
    let rows: Vec<(String, String, i16)> = sqlx::query_as(concat!(
        "SELECT slug, schema_name, lane FROM ( \
             SELECT slug, schema_name, lane, row_number() OVER of_lane AS place, count(*) OVER of_all AS neighbours \
             FROM tenantry.tenants t WHERE schema_name = ", own_schema!(), " AND status = 'active' AND to_regclass(schema_name || '.users') IS NOT NULL \
             WINDOW of_lane AS (PARTITION BY lane ORDER BY id DESC), of_all AS (PARTITION BY lane)) AS tenants \
         WHERE place <= 2 ORDER BY least(neighbours, 2) DESC, lane, place LIMIT $1",
    ))
    .bind(SAMPLE)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(slug, schema, lane)| {
            let damaged = || crate::Error::Damaged(format!("the row of the tenant {slug}"));
            let schema = schema.parse().map_err(|_| damaged())?;
            let lane = u16::try_from(lane).map_err(|_| damaged())?;
            Ok(Sampled { slug, schema, lane })
        })
        .collect()
}

#[derive(Default)]
struct Attempts {
    refused: usize,
    findings: Vec<Finding>,
}

/// Everything that a connection must not be able to do, as it comes or bound to a tenant. Without a lane, it is the
/// catalog's.
async fn attempts(
    connection: &mut PgConnection,
    (lane, bound): (Option<u16>, Option<&Sampled>),
    tenants: &[Sampled],
) -> Result<Attempts, sqlx::Error> {
    let is_catalog = lane.is_none();
    let who = match bound {
        Some(tenant) => format!("a connection bound to {}", tenant.slug),
        None if is_catalog => "a connection of the catalog".to_owned(),
        None => "an unbound connection of a lane".to_owned(),
    };
    let mut attempts = Attempts::default();
    if let Some(tenant) = bound {
        let binding = Binding::of_tenant(&tenant.schema, std::time::Duration::from_secs(10));
        connection.execute(AssertSqlSafe(binding.session().to_owned())).await?;
        if let Err(error) = connection.execute("SELECT FROM users LIMIT 1").await {
            attempts.findings.push(Finding::problem(
                CHECK,
                "own_rows_unreadable",
                format!("{who} cannot read its own users: {}", crate::Error::from(error)),
                "look at what else is reported of this tenant",
            ));
        }
    }
    let others = tenants.iter().filter(|other| bound.is_none_or(|bound| bound.schema != other.schema));
    let (mut tried, mut become_others): (Vec<(String, String)>, Vec<_>) = (Vec::new(), Vec::new());
    for Sampled { slug, schema, lane: of } in others {
        tried.push((format!("read the users of {slug}"), format!(r#"SELECT FROM "{schema}".users LIMIT 1"#)));
        tried.push((
            format!("change the users of {slug}"),
            format!(r#"UPDATE "{schema}".users SET pk = pk WHERE false"#),
        ));
        if Some(*of) != lane {
            become_others.push((format!("act as {slug}"), format!(r#"SET ROLE "{schema}""#)));
        }
    }
    if !is_catalog {
        tried.push(("read the catalog".into(), "SELECT FROM tenantry.tenants LIMIT 1".into()));
        tried.push((
            "change the catalog".into(),
            "UPDATE tenantry.tenants SET slug = slug WHERE false".into(),
        ));
    }
    // Last, because one that goes well leaves the connection as somebody else's.
    tried.append(&mut become_others);
    for (what, sql) in tried {
        match connection.execute(AssertSqlSafe(sql)).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
                attempts.refused += 1;
            }
            Ok(_) => attempts.findings.push(Finding::problem(
                CHECK,
                "crossing",
                format!("{who} can {what}"),
                "stop serving until `tenantry doctor --fix` has put the rights of its role and its login right",
            )),
            Err(error) => return Err(error),
        }
    }
    Ok(attempts)
}

//! Whether what was loaded can be served. The schema's constraints keep out what no tenant may have; what else a row has to
//! be like, the code that writes rows sees to, and it has not written these.
//!
//! What can be said in SQL is said as a [`Rule`], and PostgreSQL looks at each table once for all rules about it. What only
//! the application can judge, it reads itself, page by page: an [`Inspection`].

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ConnectionTrait, Statement,
    sea_query::{Alias, Expr, ExprTrait, Func, Query, SelectStatement, SimpleExpr},
};

use super::{
    error::ArchiveError,
    import::Importing,
    tables::{self, Holds},
};

/// The first moment that there can be: what is earlier than the first second of Unix no clock of ours has said.
const FIRST: DateTime<Utc> = DateTime::UNIX_EPOCH;
/// The year 9999, the last one that RFC 3339 can write. Times of lists grow from the last one there is, so the year itself is
/// left to them.
const END_OF_TIME: i64 = 253_370_764_800;
/// The highest number of a row: as many as a `double` tells apart, and far from where a bigint ends.
const MOST: i64 = 1 << 53;
/// How deep a document may be nested, and how large a number in it may be: `serde_json` refuses 128 levels, and numbers that
/// are no `double`.
const SOUND_JSON: &str = "(NOT jsonb_path_exists({column}, '$.**{64}') \
     AND NOT jsonb_path_exists({column}, '$.** ? (@.type() == \"number\" && (@ > 1e300 || @ < -1e300))'))";
/// A list of ids.
const MENTIONS: &str = "(jsonb_typeof(mentions) = 'array' AND NOT jsonb_path_exists(mentions, \
     'strict $[*] ? (@.type() != \"string\" || !(@ like_regex \"^[0-9a-f-]{36}$\"))'))";
/// How much of a value is told.
const EXCERPT: i32 = 60;

/// What all values of a column have to be like, beside what the schema says. As with constraints, what is null is like it.
#[derive(Clone, Debug)]
pub struct Rule {
    table: &'static str,
    column: &'static str,
    holds: SimpleExpr,
    broken: &'static str,
}

impl Rule {
    /// A rule about a column, and what is wrong where it is `broken`. Some of a value that breaks it is told: let it be
    /// about nothing personal.
    #[must_use]
    pub fn new(
        table: &'static str,
        column: &'static str,
        holds: impl Into<SimpleExpr>,
        broken: &'static str,
    ) -> Self {
        Self { table, column, holds: holds.into(), broken }
    }
}

/// What an application knows of its tenants' rows.
#[async_trait]
pub trait Inspection: Send + Sync {
    /// What every row has to be like.
    fn rules(&self) -> Vec<Rule>;

    /// Looks at what no rule can say, row by row if need be, and puts right what follows from values by functions of the
    /// application. All rules hold by then, and statements run in the new tenant's schema.
    ///
    /// # Errors
    /// [`ArchiveError::Unsound`], or those of the database.
    async fn inspect(&self, tenant: &Importing) -> Result<(), ArchiveError>;
}

/// The rules that follow from what a column holds.
fn own_rules() -> Vec<Rule> {
    let end = DateTime::from_timestamp(END_OF_TIME, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let newest = *crate::served_versions().end();
    let mut rules = Vec::new();
    for table in tables::kept(newest) {
        for column in table.at(newest) {
            let value = || Expr::col(Alias::new(column.name));
            let (holds, broken): (SimpleExpr, _) = match column.holds {
                Holds::Time => (value().gte(FIRST).and(value().lt(end)), "no time of this era"),
                Holds::Json => (
                    Expr::cust(SOUND_JSON.replace("{column}", column.name)),
                    "too deep, or with too large a number",
                ),
                Holds::Number => (value().between(1_i64, MOST), "no number of a row"),
                Holds::Other => continue,
            };
            rules.push(Rule::new(table.name, column.name, holds, broken));
        }
    }
    rules.push(Rule::new("comments", "mentions", Expr::cust(MENTIONS), "no list of ids"));
    rules
}

/// Those of these rows that break one of the rules.
fn offenders<'a>(table: &'static str, rules: impl Iterator<Item = &'a Rule>) -> SelectStatement {
    let all = rules.map(|rule| rule.holds.clone()).reduce(ExprTrait::and);
    let all = Func::coalesce([all.unwrap_or_else(|| Expr::val(true)), Expr::val(true)]);
    Query::select().from(Alias::new(table)).and_where(SimpleExpr::from(all).not()).limit(1).take()
}

/// Looks at what was loaded.
pub(super) async fn inspect(tenant: &Importing, application: &dyn Inspection) -> Result<(), ArchiveError> {
    let mut rules = own_rules();
    rules.extend(application.rules());
    let mut tables: Vec<&'static str> = rules.iter().map(|rule| rule.table).collect();
    tables.sort_unstable();
    tables.dedup();
    for table in tables {
        let about = || rules.iter().filter(move |rule| rule.table == table);
        let any = offenders(table, about()).expr_as(Expr::val(1), "found").take();
        if first(tenant, &any).await?.is_some() {
            return Err(name_offender(tenant, about()).await?);
        }
    }
    threads(tenant).await?;
    application.inspect(tenant).await
}

/// Which rule is broken, and by what.
async fn name_offender<'a>(
    tenant: &Importing,
    rules: impl Iterator<Item = &'a Rule>,
) -> Result<ArchiveError, ArchiveError> {
    for rule in rules {
        let text =
            Func::cust("left").args([Expr::col(Alias::new(rule.column)).cast_as("text"), Expr::val(EXCERPT)]);
        let broken = offenders(rule.table, std::iter::once(rule)).expr_as(text, "value").take();
        if let Some(row) = first(tenant, &broken).await? {
            let value: String = row.try_get("", "value")?;
            let what = format!("{value:?} is {}", rule.broken);
            return Ok(ArchiveError::Unsound {
                table: rule.table,
                column: rule.column,
                row: String::new(),
                what,
            });
        }
    }
    Ok(ArchiveError::Contents("rows that are like no rule says".into()))
}

/// A comment replies to one that is no reply itself and stands on the same page, and no reply leaves its place behind.
async fn threads(tenant: &Importing) -> Result<(), ArchiveError> {
    let sql = "SELECT c.id FROM comments c JOIN comments p ON p.id = c.parent \
               WHERE p.parent IS NOT NULL OR p.user_pk <> c.user_pk OR c.is_deleted LIMIT 1";
    let statement = Statement::from_string(sea_orm::DbBackend::Postgres, sql);
    match tenant.query_one_raw(statement).await? {
        Some(row) => {
            let what = "it replies to a reply or to a comment on another page, or is one that is deleted";
            Err(ArchiveError::unsound("comments", "parent", row.try_get("", "id")?, what))
        }
        None => Ok(()),
    }
}

async fn first(
    tenant: &Importing,
    select: &SelectStatement,
) -> Result<Option<sea_orm::QueryResult>, ArchiveError> {
    let statement = tenant.get_database_backend().build(select);
    // A rule may be about what a value has to be before it can be looked at.
    tenant.query_one_raw(statement).await.map_err(ArchiveError::of_contents)
}

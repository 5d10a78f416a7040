//! What the catalogs of PostgreSQL say of schemas, as it can be compared between them.

use std::collections::BTreeMap;

use sqlx::PgConnection;

/// Stands for the schema's own name in a definition.
const OWN_SCHEMA: &str = "{schema}";
pub(super) const OWN_SCHEMA_AND_DOT: &str = "{schema}.";

/// How many parts a schema has, and the sum of their hashes.
pub(super) type Print = (i64, String);
/// The parts of a schema and what they are.
pub(super) type Parts = BTreeMap<Part, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Table,
    Column,
    Constraint,
    Index,
    /// Nothing that the migrations make: views, sequences, types.
    Other,
}

/// A table, or what belongs to one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) kind: Kind,
    table: String,
    own: String,
}

impl Part {
    /// The table it belongs to.
    pub(super) fn table(&self) -> Self {
        Self { kind: Kind::Table, table: self.table.clone(), own: String::new() }
    }

    pub(super) fn name(&self) -> String {
        let Self { kind, table, own } = self;
        match kind {
            Kind::Table => table.clone(),
            Kind::Column => format!("{table}.{own}"),
            Kind::Constraint | Kind::Index => format!("{own} on {table}"),
            Kind::Other => format!("the {own} {table}"),
        }
    }

    /// The statement that makes an index or a constraint in this schema.
    pub(super) fn statement(&self, schema: &str, definition: &str) -> String {
        let Self { kind, table, own } = self;
        let definition = definition.replace(OWN_SCHEMA, schema);
        match kind {
            Kind::Constraint => {
                format!(r#"ALTER TABLE {schema}."{table}" ADD CONSTRAINT "{own}" {definition}"#)
            }
            _ => definition,
        }
    }
}

/// Everything about a schema that can be compared without writing it out: definitions of expressions aside, the catalogs'
/// own columns. They have the numbers of columns in them, which differ after a restore; then all is written out.
const PRINTS: &str = "WITH place AS MATERIALIZED (
    SELECT oid, nspname FROM pg_namespace WHERE nspname = ANY ($1)
    OR nspname IN (SELECT schema_name FROM tenantry.tenants WHERE status <> 'purging')),
part AS (
    SELECT relnamespace, concat_ws(' ', 'relation', relname, relkind, relpersistence) AS it
    FROM place JOIN pg_class c ON relnamespace = place.oid WHERE relkind NOT IN ('i', 'I')
    UNION ALL
    SELECT relnamespace, concat_ws(' ', 'column', relname, attname, atttypid, atttypmod, attnotnull, attcollation,
        attidentity, attgenerated, CASE WHEN atthasdef THEN pg_get_expr(adbin, adrelid) END)
    FROM place JOIN pg_class c ON relnamespace = place.oid AND relkind IN ('r', 'p')
    JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    UNION ALL
    SELECT relnamespace, concat_ws(' ', 'constraint', relname, conname, contype, convalidated, condeferrable, condeferred,
        conkey::text, confkey::text, confupdtype, confdeltype, confmatchtype, CASE contype
            WHEN 'c' THEN pg_get_expr(conbin, conrelid)
            WHEN 'f' THEN (SELECT concat(of.relname, of.relnamespace = c.relnamespace) FROM pg_class of
                WHERE of.oid = confrelid) END)
    FROM place JOIN pg_class c ON relnamespace = place.oid JOIN pg_constraint ON conrelid = c.oid
    WHERE contype NOT IN ('n', 't')
    UNION ALL
    SELECT c.relnamespace, concat_ws(' ', 'index', t.relname, c.relname, c.relam, c.reloptions::text, indisunique,
        indisvalid, indkey::text, indclass::text, indoption::text, indcollation::text,
        pg_get_expr(indexprs, indrelid), pg_get_expr(indpred, indrelid))
    FROM place JOIN pg_class c ON c.relnamespace = place.oid JOIN pg_index ON indexrelid = c.oid
    JOIN pg_class t ON t.oid = indrelid
    UNION ALL
    SELECT typnamespace, concat_ws(' ', 'type', typname) FROM place JOIN pg_type ON typnamespace = place.oid
    WHERE typtype IN ('e', 'd', 'r'))
SELECT nspname::text, count(*), sum(hashtextextended(it, 0))::text
FROM part JOIN place ON place.oid = relnamespace GROUP BY nspname";

/// All that is in these schemas, written out. PostgreSQL names the schema in it where the path leads elsewhere.
const PARTS: &str =
    "WITH place AS MATERIALIZED (SELECT oid, nspname FROM pg_namespace WHERE nspname = ANY ($1))
SELECT nspname::text, kind, of::text, own::text, replace(definition, nspname, '{schema}') FROM (
    SELECT relnamespace, CASE WHEN relkind IN ('r', 'p') THEN 'table' ELSE 'other' END AS kind, relname AS of,
        CASE relkind WHEN 'r' THEN '' WHEN 'p' THEN '' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
            WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'type' END AS own,
        CASE relpersistence WHEN 'u' THEN 'unlogged ' ELSE '' END
            || CASE relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS definition
    FROM place JOIN pg_class c ON relnamespace = place.oid WHERE relkind NOT IN ('i', 'I')
    UNION ALL
    SELECT relnamespace, 'column', relname, attname, format_type(atttypid, atttypmod)
        || coalesce((SELECT ' COLLATE ' || collname FROM pg_collation l JOIN pg_type ON typcollation <> l.oid
            WHERE l.oid = attcollation AND pg_type.oid = atttypid), '')
        || CASE attidentity WHEN '' THEN '' ELSE ' GENERATED AS IDENTITY' END
        || CASE WHEN attgenerated = '' AND atthasdef THEN ' DEFAULT ' || pg_get_expr(adbin, adrelid)
            WHEN atthasdef THEN ' GENERATED ALWAYS AS ' || pg_get_expr(adbin, adrelid) ELSE '' END
        || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
    FROM place JOIN pg_class c ON relnamespace = place.oid AND relkind IN ('r', 'p')
    JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    UNION ALL
    SELECT relnamespace, 'constraint', relname, conname, pg_get_constraintdef(o.oid)
    FROM place JOIN pg_class c ON relnamespace = place.oid JOIN pg_constraint o ON conrelid = c.oid
    WHERE contype NOT IN ('n', 't')
    UNION ALL
    SELECT c.relnamespace, 'index', t.relname, c.relname,
        pg_get_indexdef(indexrelid)
    FROM place JOIN pg_class c ON c.relnamespace = place.oid JOIN pg_index ON indexrelid = c.oid
    JOIN pg_class t ON t.oid = indrelid
    WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT typnamespace, 'other', typname, 'type', '' FROM place JOIN pg_type ON typnamespace = place.oid
    WHERE typtype IN ('e', 'd', 'r')) AS part
JOIN place ON place.oid = relnamespace";

/// A number for each of these schemas and for each tenant's.
pub(super) async fn prints(
    connection: &mut PgConnection,
    schemas: impl Iterator<Item = &str>,
) -> Result<BTreeMap<String, Print>, sqlx::Error> {
    let rows: Vec<(String, i64, String)> =
        sqlx::query_as(PRINTS).bind(schemas.collect::<Vec<_>>()).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(schema, count, sum)| (schema, (count, sum))).collect())
}

/// Everything in these schemas.
pub(super) async fn parts(
    connection: &mut PgConnection,
    schemas: impl Iterator<Item = &str>,
) -> Result<BTreeMap<String, Parts>, sqlx::Error> {
    let rows: Vec<(String, String, String, String, String)> =
        sqlx::query_as(PARTS).bind(schemas.collect::<Vec<_>>()).fetch_all(connection).await?;
    let mut all: BTreeMap<String, Parts> = BTreeMap::new();
    for (schema, kind, table, own, definition) in rows {
        let kind = match kind.as_str() {
            "table" => Kind::Table,
            "column" => Kind::Column,
            "constraint" => Kind::Constraint,
            "index" => Kind::Index,
            _ => Kind::Other,
        };
        all.entry(schema).or_default().insert(Part { kind, table, own }, definition);
    }
    Ok(all)
}

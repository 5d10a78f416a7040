//! What of a tenant's schema goes into an archive, by the version of the schema. An archive says what it holds, and is
//! refused if that is anything else than this.
//!
//! Whoever adds a table to the tenant migrations adds it here, to [`KEPT`] or to [`LEFT_OUT`]; a test compares both with
//! what the migrations make.

/// A table that goes into archives.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The first schema version that has it.
    since: i32,
    columns: &'static [Column],
}

/// What a column has, where more has to be said of it than PostgreSQL's type does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// A moment.
    Time,
    /// A JSON document.
    Json,
    /// The row's place in a list.
    Number,
    /// Something else.
    Other,
}

/// A column that goes into archives.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) holds: Holds,
    /// The first schema version that has it.
    since: i32,
    /// What stands in an archive instead of its value.
    instead: Option<&'static str>,
}

const fn column(name: &'static str) -> Column {
    since(0, name)
}

const fn since(version: i32, name: &'static str) -> Column {
    Column { name, holds: Holds::Other, since: version, instead: None }
}

const fn holding(holds: Holds, name: &'static str) -> Column {
    Column { name, holds, since: 0, instead: None }
}

const fn time(name: &'static str) -> Column {
    holding(Holds::Time, name)
}

const fn json(name: &'static str) -> Column {
    holding(Holds::Json, name)
}

const fn number(name: &'static str) -> Column {
    holding(Holds::Number, name)
}

const KEPT: [Table; 8] = [
    Table {
        name: "settings",
        since: 1,
        columns: &[
            column("singleton"),
            column("name"),
            column("sign_up_policy"),
            json("allowed_email_domains"),
            column("allow_impersonation"),
            time("created_at"),
            since(2, "invitations_sent"),
            since(3, "activity_retention_days"),
        ],
    },
    Table {
        name: "users",
        since: 1,
        columns: &[
            column("pk"),
            column("username"),
            column("username_key"),
            column("email"),
            column("email_key"),
            column("password_hash"),
            column("first_name"),
            column("last_name"),
            column("role"),
            column("is_active"),
            time("email_verified_at"),
            column("locale"),
            column("timezone"),
            column("comment_count"),
            time("date_joined"),
        ],
    },
    // From where somebody signs in is no secret by which he could; without it, everybody would be told of a new device.
    Table {
        name: "devices",
        since: 2,
        columns: &[
            column("user_pk"),
            column("network"),
            column("user_agent"),
            time("first_used_at"),
            time("last_used_at"),
        ],
    },
    Table {
        name: "comments",
        since: 3,
        columns: &[
            column("id"),
            column("user_pk"),
            column("author_pk"),
            column("parent"),
            number("number"),
            column("body"),
            json("mentions"),
            column("reply_count"),
            column("is_deleted"),
            time("created_at"),
            time("edited_at"),
        ],
    },
    Table {
        name: "activities",
        since: 3,
        columns: &[
            number("number"),
            column("id"),
            column("actor_pk"),
            number("actor_number"),
            column("verb"),
            number("verb_number"),
            number("actor_verb_number"),
            column("object_type"),
            column("object_id"),
            column("object_text"),
            column("target_type"),
            column("target_id"),
            column("target_text"),
            time("created_at"),
        ],
    },
    Table {
        name: "notifications",
        since: 3,
        columns: &[
            column("id"),
            column("user_pk"),
            number("number"),
            column("event"),
            column("kind"),
            column("actor_pk"),
            column("object_type"),
            column("object_id"),
            column("object_text"),
            // The mail it waits for is left out. By the time of an import it has gone out, or nobody wants it any more.
            Column { name: "mail", holds: Holds::Other, since: 0, instead: Some("NULL::text") },
            time("read_at"),
            time("created_at"),
        ],
    },
    Table {
        name: "notification_preferences",
        since: 3,
        columns: &[column("user_pk"), column("kind"), column("in_app"), column("email")],
    },
    Table {
        name: "audit",
        since: 4,
        columns: &[
            column("id"),
            column("by_operator"),
            column("actor_pk"),
            column("action"),
            json("detail"),
            time("created_at"),
        ],
    },
];

/// A table that goes into no archive, and why.
#[derive(Debug)]
struct LeftOut {
    name: &'static str,
    /// The first schema version that has it.
    since: i32,
    reason: &'static str,
}

const fn left_out(name: &'static str, since: i32, reason: &'static str) -> LeftOut {
    LeftOut { name, since, reason }
}

const LEFT_OUT: [LeftOut; 10] = [
    left_out("schema_migrations", 1, "made with the schema"),
    left_out("sessions", 1, "whoever is signed in signs in again"),
    left_out("tokens", 2, "a link works once, and for the tenant that mailed it"),
    left_out("sign_ups", 2, "they wait for a link"),
    left_out("invitations", 2, "they wait for a link: whoever is still wanted is invited again"),
    left_out("throttles", 2, "what happened too often here has not happened there"),
    left_out("lists", 3, "counted anew from the rows: there is nothing to be believed"),
    left_out("list_blocks", 3, "counted anew from the rows"),
    left_out("digests", 3, "their mails are jobs, which stay here"),
    left_out("idempotency_keys", 3, "they are good for a day, and for the tenant that was asked"),
];

/// The tables of an archive of this schema version, in their order.
pub(super) fn kept(version: i32) -> impl Iterator<Item = &'static Table> {
    KEPT.iter().filter(move |table| table.since <= version)
}

/// The names of the tables that an archive of this schema version does not have, and why.
#[must_use]
pub fn left_out_of(version: i32) -> Vec<(&'static str, &'static str)> {
    LEFT_OUT.iter().filter(|it| it.since <= version).map(|it| (it.name, it.reason)).collect()
}

/// The tables of an archive of this schema version and their columns, in their order.
#[must_use]
pub fn contents_of(version: i32) -> Vec<(&'static str, Vec<&'static str>)> {
    kept(version).map(|table| (table.name, table.columns(version).collect())).collect()
}

/// The columns of an archive of this schema version that hold a moment, a JSON document or the place of a row in a list.
#[must_use]
pub fn checked_columns_of(version: i32) -> Vec<(&'static str, &'static str)> {
    let checked = |table: &'static Table| {
        table.at(version).filter(|it| it.holds != Holds::Other).map(move |it| (table.name, it.name))
    };
    kept(version).flat_map(checked).collect()
}

impl Table {
    pub(super) fn at(&self, version: i32) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().filter(move |column| column.since <= version)
    }

    /// Its columns in a schema of this version.
    pub(super) fn columns(&self, version: i32) -> impl Iterator<Item = &'static str> {
        self.at(version).map(|column| column.name)
    }

    /// The statement that reads it. All of it is text of this program.
    pub(super) fn copy_out(&self, version: i32) -> String {
        let columns: Vec<String> = self
            .at(version)
            .map(|Column { name, instead, .. }| match instead {
                Some(value) => format!("{value} AS \"{name}\""),
                None => format!("\"{name}\""),
            })
            .collect();
        format!("COPY (SELECT {} FROM \"{}\") TO STDOUT", columns.join(", "), self.name)
    }

    /// The statement that writes it.
    pub(super) fn copy_in(&self, version: i32) -> String {
        let columns: Vec<String> = self.columns(version).map(|name| format!("\"{name}\"")).collect();
        format!("COPY \"{}\" ({}) FROM STDIN", self.name, columns.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_of_an_earlier_version_has_less() {
        let names = |version| contents_of(version).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(1), ["settings", "users"]);
        assert_eq!(names(2), ["settings", "users", "devices"]);
        assert_eq!(names(3).last(), Some(&"notification_preferences"));
        assert_eq!(names(4).last(), Some(&"audit"));
        assert_eq!(contents_of(1)[0].1.len(), 6);
        assert_eq!(contents_of(4)[0].1.len(), 8);
    }

    #[test]
    fn what_is_left_out_is_not_read() {
        let read: Vec<String> = kept(4).map(|table| table.copy_out(4)).collect();
        for (table, reason) in left_out_of(4) {
            assert!(!read.iter().any(|sql| sql.contains(&format!("\"{table}\""))), "{table}: {reason}");
        }
        assert!(read.iter().any(|sql| sql.contains(r#"NULL::text AS "mail""#)), "{read:?}");
    }
}

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
    /// Which rows; empty for all.
    condition: &'static str,
}

/// A column that goes into archives.
#[derive(Debug)]
struct Column {
    name: &'static str,
    /// The first schema version that has it.
    since: i32,
    /// What stands in an archive instead of its value.
    instead: Option<&'static str>,
}

const fn column(name: &'static str) -> Column {
    since(0, name)
}

const fn since(version: i32, name: &'static str) -> Column {
    Column { name, since: version, instead: None }
}

const KEPT: [Table; 10] = [
    Table {
        name: "settings",
        since: 1,
        columns: &[
            column("singleton"),
            column("name"),
            column("sign_up_policy"),
            column("allowed_email_domains"),
            column("allow_impersonation"),
            column("created_at"),
            since(2, "invitations_sent"),
            since(3, "activity_retention_days"),
        ],
        condition: "",
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
            column("email_verified_at"),
            column("locale"),
            column("timezone"),
            column("comment_count"),
            column("date_joined"),
        ],
        condition: "",
    },
    // From where somebody signs in is no secret by which he could; without it, everybody would be told of a new device.
    Table {
        name: "devices",
        since: 2,
        columns: &[
            column("user_pk"),
            column("network"),
            column("user_agent"),
            column("first_used_at"),
            column("last_used_at"),
        ],
        condition: "",
    },
    Table {
        name: "lists",
        since: 3,
        columns: &[
            column("kind"),
            column("owner"),
            column("numbered"),
            column("removed"),
            column("numbered_at"),
        ],
        // Those are left out, so none is counted.
        condition: "kind <> 'invitations'",
    },
    Table {
        name: "list_blocks",
        since: 3,
        columns: &[column("kind"), column("owner"), column("block"), column("total"), column("unread")],
        condition: "",
    },
    Table {
        name: "comments",
        since: 3,
        columns: &[
            column("id"),
            column("user_pk"),
            column("author_pk"),
            column("parent"),
            column("number"),
            column("body"),
            column("mentions"),
            column("reply_count"),
            column("is_deleted"),
            column("created_at"),
            column("edited_at"),
        ],
        condition: "",
    },
    Table {
        name: "activities",
        since: 3,
        columns: &[
            column("number"),
            column("id"),
            column("actor_pk"),
            column("actor_number"),
            column("verb"),
            column("verb_number"),
            column("actor_verb_number"),
            column("object_type"),
            column("object_id"),
            column("object_text"),
            column("target_type"),
            column("target_id"),
            column("target_text"),
            column("created_at"),
        ],
        condition: "",
    },
    Table {
        name: "notifications",
        since: 3,
        columns: &[
            column("id"),
            column("user_pk"),
            column("number"),
            column("event"),
            column("kind"),
            column("actor_pk"),
            column("object_type"),
            column("object_id"),
            column("object_text"),
            // The mail it waits for is left out. By the time of an import it has gone out, or nobody wants it any more.
            Column { name: "mail", since: 0, instead: Some("NULL::text") },
            column("read_at"),
            column("created_at"),
        ],
        condition: "",
    },
    Table {
        name: "notification_preferences",
        since: 3,
        columns: &[column("user_pk"), column("kind"), column("in_app"), column("email")],
        condition: "",
    },
    Table {
        name: "audit",
        since: 4,
        columns: &[
            column("id"),
            column("by_operator"),
            column("actor_pk"),
            column("action"),
            column("detail"),
            column("created_at"),
        ],
        condition: "",
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

const LEFT_OUT: [LeftOut; 8] = [
    left_out("schema_migrations", 1, "made with the schema"),
    left_out("sessions", 1, "whoever is signed in signs in again"),
    left_out("tokens", 2, "a link works once, and for the tenant that mailed it"),
    left_out("sign_ups", 2, "they wait for a link"),
    left_out("invitations", 2, "they wait for a link: whoever is still wanted is invited again"),
    left_out("throttles", 2, "what happened too often here has not happened there"),
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

impl Table {
    fn at(&self, version: i32) -> impl Iterator<Item = &'static Column> {
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
        let condition = match self.condition {
            "" => String::new(),
            condition => format!(" WHERE {condition}"),
        };
        format!("COPY (SELECT {} FROM \"{}\"{condition}) TO STDOUT", columns.join(", "), self.name)
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
        let lists = read.iter().find(|sql| sql.contains("\"lists\"")).unwrap();
        assert!(lists.ends_with(r#"FROM "lists" WHERE kind <> 'invitations') TO STDOUT"#), "{lists}");
        assert!(read.iter().any(|sql| sql.contains(r#"NULL::text AS "mail""#)), "{read:?}");
    }
}

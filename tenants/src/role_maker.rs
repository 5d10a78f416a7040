//! How roles are made, dropped and granted: by our login itself where it has CREATEROLE, or by the functions of
//! `deploy/postgresql/roles.sql`, which make no roles but those of this installation.

use sqlx::{PgConnection, query_scalar};

/// Who makes roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleMaker {
    /// Our login, which has CREATEROLE: as on a cluster of our own.
    Login,
    /// The functions: our login may call them and change nothing of them.
    Functions,
}

/// The functions, as our login calls them.
const FUNCTIONS: &str = "SELECT coalesce(bool_and(coalesce(has_function_privilege(to_regprocedure(signature), 'EXECUTE'), false)), false) \
     FROM unnest(ARRAY['create_role(text)', 'set_login(text, text)', 'drop_role(text)', 'grant_role(text, text)', \
         'revoke_role(text, text)', 'alter_role(text, text)', 'reset_role(text, text, boolean)']) AS name \
     CROSS JOIN LATERAL (SELECT 'tenantry_roles.' || name AS signature) AS qualified \
     WHERE has_schema_privilege(to_regnamespace('tenantry_roles'), 'USAGE')";

impl RoleMaker {
    /// The functions where they are there, whatever else our login may do.
    pub(crate) async fn of(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let has_functions: bool = query_scalar(FUNCTIONS).fetch_one(connection).await?;
        Ok(if has_functions { Self::Functions } else { Self::Login })
    }

    /// The statement that makes a role that cannot log in.
    pub(crate) fn create(self, role: &str) -> String {
        match self {
            Self::Login => format!(r#"CREATE ROLE "{role}" NOLOGIN"#),
            Self::Functions => call("create_role", &[role]),
        }
    }

    /// The statement that lets a role log in, with a password of which this is the verifier.
    pub(crate) fn set_login(self, role: &str, inherits: &str, verifier: &str) -> String {
        match self {
            Self::Login => format!(r#"ALTER ROLE "{role}" LOGIN {inherits} PASSWORD '{verifier}'"#),
            // What a login inherits they know themselves.
            Self::Functions => call("set_login", &[role, verifier]),
        }
    }

    /// The statement that drops a tenant's role, if there is one.
    pub(crate) fn drop(self, role: &str) -> String {
        match self {
            Self::Login => format!(r#"DROP ROLE IF EXISTS "{role}""#),
            Self::Functions => call("drop_role", &[role]),
        }
    }

    /// The statement that makes one role a member of another.
    pub(crate) fn grant(self, role: &str, member: &str) -> String {
        match self {
            Self::Login => format!(r#"GRANT "{role}" TO "{member}""#),
            Self::Functions => call("grant_role", &[role, member]),
        }
    }

    /// The statement that takes a membership away.
    pub(crate) fn revoke(self, role: &str, member: &str) -> String {
        match self {
            Self::Login => format!(r#"REVOKE "{role}" FROM "{member}""#),
            Self::Functions => call("revoke_role", &[role, member]),
        }
    }

    /// The call that does what a statement about a role says, if there are functions and one of them does.
    pub(crate) fn instead_of(self, statement: &str) -> Option<String> {
        if self == Self::Login {
            return None;
        }
        if let Some(rest) = statement.strip_prefix("CREATE ROLE ") {
            let (role, rest) = identifier(rest)?;
            return (rest == " NOLOGIN").then(|| call("create_role", &[&role]));
        }
        for (verb, link, function) in [("GRANT ", " TO ", "grant_role"), ("REVOKE ", " FROM ", "revoke_role")]
        {
            if let Some(rest) = statement.strip_prefix(verb) {
                let (role, rest) = identifier(rest)?;
                let (member, rest) = identifier(rest.strip_prefix(link)?)?;
                return rest.is_empty().then(|| call(function, &[&role, &member]));
            }
        }
        let (role, rest) = identifier(statement.strip_prefix("ALTER ROLE ")?)?;
        let rest = rest.strip_prefix(' ')?;
        if let Some(setting) = rest.strip_prefix("RESET ") {
            return Some(format!(
                "SELECT tenantry_roles.reset_role({}, {}, false)",
                text(&role),
                text(setting)
            ));
        }
        if let Some(rest) = rest.strip_prefix("IN DATABASE ") {
            // It is this one: of others nothing is found.
            let (_, rest) = identifier(rest)?;
            let setting = text(rest.strip_prefix(" RESET ")?);
            return Some(format!("SELECT tenantry_roles.reset_role({}, {setting}, true)", text(&role)));
        }
        Some(call("alter_role", &[&role, rest]))
    }
}

fn call(function: &str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|it| text(it)).collect();
    format!("SELECT tenantry_roles.{function}({})", arguments.join(", "))
}

/// A literal that means the same whatever `standard_conforming_strings` is.
fn text(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', r"\\")) } else { format!("'{quoted}'") }
}

/// The identifier that a text begins with, as `quote_ident` writes it, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !matches!(c, 'a'..='z' | '0'..='9' | '_')).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_roles_become_calls() {
        for (statement, expected) in [
            ("CREATE ROLE t_x NOLOGIN", Some("create_role('t_x')")),
            ("CREATE ROLE t_x LOGIN", None),
            ("GRANT a TO b", Some("grant_role('a', 'b')")),
            ("GRANT a TO b WITH ADMIN OPTION", None),
            ("GRANT SELECT ON tenantry.audit TO b", None),
            (r#"REVOKE a FROM "x"" FROM 'y\""#, Some(r#"revoke_role('a', E'x" FROM ''y\\')"#)),
            ("REVOKE ALL ON tenantry.audit FROM a", None),
            ("ALTER ROLE a NOCREATEROLE NOCREATEDB", Some("alter_role('a', 'NOCREATEROLE NOCREATEDB')")),
            ("ALTER ROLE a RESET role", Some("reset_role('a', 'role', false)")),
            (r#"ALTER ROLE a IN DATABASE "A b" RESET role"#, Some("reset_role('a', 'role', true)")),
            ("ALTER TABLE a OWNER TO b", None),
            ("CREATE ROLE \"t", None),
        ] {
            let expected = expected.map(|call| format!("SELECT tenantry_roles.{call}"));
            assert_eq!(RoleMaker::Functions.instead_of(statement), expected, "{statement}");
            assert_eq!(RoleMaker::Login.instead_of(statement), None);
        }
    }
}

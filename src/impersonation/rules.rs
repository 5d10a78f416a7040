//! What can be done in somebody else's name.

use poem::http::Method;

/// How people get in, who is in, and what is taken along: none of that is an operator's affair, whatever he was given.
const NEVER: [&str; 5] = [
    "/api/password/",
    "/api/current_user/email/",
    "/api/current_user/export/",
    "/api/invitations/",
    "/api/sessions/",
];
/// Changes of the same kind, at paths that may be looked at: roles, who may sign up, and the end of sessions.
const NEVER_CHANGED: [&str; 3] = ["/api/users/{pk}/", "/api/tenant/", "/api/logout/"];

/// Whether an operation, named by its path in the document, is open to an operator in a user's name.
#[must_use]
pub fn allows(method: &Method, route: &str, is_read_only: bool) -> bool {
    if NEVER.iter().any(|tree| route.starts_with(tree)) || *method == Method::DELETE {
        return false;
    }
    *method == Method::GET || *method == Method::HEAD || (!is_read_only && !NEVER_CHANGED.contains(&route))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app, http::Routes};

    /// A new operation shows here: whoever adds it decides.
    #[test]
    fn what_is_open_is_known() {
        let routes = Routes::of(&app::document()).unwrap();
        let mut lines = Vec::new();
        for route in routes.all() {
            for (method, access) in route.operations() {
                if access.tenant && access.credentials {
                    let open =
                        match [true, false].map(|read_only| allows(method, route.template(), read_only)) {
                            [true, true] => "open",
                            [false, true] => "open with write",
                            _ => "closed",
                        };
                    lines.push(format!("{open:<16}{:<7}{}", method.as_str(), route.template()));
                }
            }
        }
        lines.sort();
        insta::assert_snapshot!(lines.join("\n"));
    }
}

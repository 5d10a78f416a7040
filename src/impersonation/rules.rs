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

    /// A new operation shows here, and whoever adds it looks whether it is open to whom it should be: one that forgets to ask
    /// for its caller is open to `anybody`.
    #[test]
    fn who_may_call_what_is_known() {
        let routes = Routes::of(&app::document()).unwrap();
        let mut lines = Vec::new();
        for route in routes.all() {
            for (method, access) in route.operations() {
                // What operators may do is a matter of scopes.
                if !access.tenant && access.credentials {
                    continue;
                }
                let open = [true, false].map(|read_only| allows(method, route.template(), read_only));
                let who = match open {
                    _ if !access.credentials => "anybody",
                    [true, true] => "members, operators who read",
                    [false, true] => "members, operators who write",
                    _ => "members",
                };
                lines.push(format!("{who:<30}{:<7}{}", method.as_str(), route.template()));
            }
        }
        lines.sort();
        insta::assert_snapshot!(lines.join("\n"));
    }
}

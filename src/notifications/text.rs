//! What notifications say, as people read it. Made when it is read, so that names are today's.

use super::Kind;

/// What somebody is called who is a user no more.
const NOBODY: &str = "Somebody";

/// A plain sentence: who did what. `about` is the text of what it is about.
#[must_use]
pub fn sentence(kind: Kind, who: Option<&str>, about: &str) -> String {
    let who = who.filter(|who| !who.is_empty()).unwrap_or(NOBODY);
    match kind {
        Kind::Mention => format!("{who} mentioned you in a comment."),
        Kind::Reply => format!("{who} replied to your comment."),
        Kind::Comment => format!("{who} commented on your page."),
        Kind::InvitationAccepted => format!("{who} accepted your invitation."),
        Kind::RoleChanged => match about {
            "owner" => format!("{who} made you an owner."),
            "admin" => format!("{who} made you an administrator."),
            "member" => format!("{who} made you a member."),
            _ => format!("{who} gave you another role."),
        },
        Kind::NewDevice => "Somebody signed in to your account with a new device.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_who_did_what() {
        assert_eq!(sentence(Kind::Mention, Some("Ann Lee"), ""), "Ann Lee mentioned you in a comment.");
        assert_eq!(sentence(Kind::Reply, None, ""), "Somebody replied to your comment.");
        assert_eq!(sentence(Kind::Comment, Some(""), "x"), "Somebody commented on your page.");
        assert_eq!(sentence(Kind::RoleChanged, Some("bob"), "admin"), "bob made you an administrator.");
        assert_eq!(sentence(Kind::RoleChanged, Some("bob"), "king"), "bob gave you another role.");
    }
}

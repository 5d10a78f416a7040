//! What lists are called, by what they are lists of: whoever writes a row counts it in the list of this name, and whoever loads
//! rows counts them all there.

/// Before a role and whether they may sign in: the users who have both. Only counted.
pub const USERS: &str = "users";
/// The comments on a user's page, without replies.
pub const PAGE: &str = "page";
/// The replies to a comment.
pub const REPLIES: &str = "replies";
/// What a user was told.
pub const INBOX: &str = "inbox";
/// What happened; with a space and a verb behind it, what was done so. With an owner, what he did.
pub const ACTIVITY: &str = "activity";

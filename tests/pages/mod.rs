//! The pages that links in mails lead to.

mod browser;
mod documents;
mod walks;

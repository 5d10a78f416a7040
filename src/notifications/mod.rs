//! What people are told of, once for each event, and how: in the list, live, and by mail.
//!
//! [`notify`] writes who is told of what, in the transaction of what happened. What is shown has a number in its person's
//! inbox, a list of [`tenants::lists`]; what is only to be mailed has none. Whatever changes rows of an inbox locks that
//! list before them: two changes of one inbox never wait for each other, and its counts stay right.
//!
//! Mails are sent by a job: the first notification that is to be mailed leaves it (`digests`), and what comes until
//! then goes into the same mail. Notifications stay until their person deletes them, or is deleted.

pub mod api;
mod digests;
mod notify;
pub mod preferences;
mod service;
mod store;
mod stream;
mod text;

pub use self::{
    api::{NotificationOut, NotificationsApi},
    digests::send,
    notify::{Event, Kind, notify},
    preferences::PreferencesOut,
    service::all_of,
    stream::NotificationStreamApi,
    text::sentence,
};

//! What people are told of, once for each event, and how: in the list, live, and by mail.

mod notify;
mod stream;

pub use notify::{Event, Kind, notify};
pub use stream::{NotificationOut, NotificationStreamApi};

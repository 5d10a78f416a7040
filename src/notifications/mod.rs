//! What people are told of, once for each event, and how: in the list, live, and by mail.

mod notify;

pub use notify::{Event, Kind, notify};

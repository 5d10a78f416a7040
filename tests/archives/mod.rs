//! One tenant in one file, and back.

mod contents;
mod counted;
mod forgery;
mod hostile;
mod round_trip;
mod support;
mod unsound;

//! Which organizations a person belongs to, told to nobody but that person: by mail.

pub mod api;
mod service;

pub use api::FindApi;
pub(crate) use service::tell;

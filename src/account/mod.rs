//! What people do with their own accounts: another e-mail address, a copy of their data, and an end.

pub mod api;
mod error;
mod export;
mod service;
mod store;

pub use api::AccountApi;
pub use error::AccountError;
pub use export::ExportOut;

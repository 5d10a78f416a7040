//! The people who run the installation.

mod error;
mod service;
mod store;

pub use error::OperatorError;
pub use service::{NewOperator, Operator, create_operator};

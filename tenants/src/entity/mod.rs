//! The tables of the catalog that code above this crate reads and writes itself.

pub mod api_keys;
pub mod audit;
pub mod operations;
pub mod operators;
pub mod signing_keys;

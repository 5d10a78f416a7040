//! Passwords: how they are hashed and checked.

mod hasher;

pub use hasher::{Hasher, HasherError};

//! The embedded PostgreSQL: found, made, started, shared, stopped, and recovered after whatever can happen to it.

#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod support;

//! The service from outside: over HTTP, on a real PostgreSQL. One binary, because linking takes longer than running.

mod support;

mod commands;
mod embedded;
mod sign_up;

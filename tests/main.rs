//! The service from outside: over HTTP, on a real PostgreSQL. One binary, because linking takes longer than running.

#[cfg(test)]
mod support;

#[cfg(test)]
mod activity;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod archives;
#[cfg(test)]
mod binding;
#[cfg(test)]
mod caches;
#[cfg(test)]
mod cleanup;
#[cfg(test)]
mod closing;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod comments;
#[cfg(test)]
mod conditional;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod cors;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod find;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod invitations;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod notifications;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod own_data;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod passwords;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod pooler;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod registration;
#[cfg(test)]
mod resolution;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod session_list;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sign_up;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tenant;
#[cfg(test)]
mod throttle;
#[cfg(test)]
mod users;

//! The program itself, as its user runs it: on a data directory of its own, on free ports of the loopback interface.

#[cfg(test)]
mod archives;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod files;
#[cfg(test)]
mod health;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod master_key;
#[cfg(test)]
mod mending;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod observability;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod pooler;
#[cfg(test)]
mod provision;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod runbook;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod without_database;

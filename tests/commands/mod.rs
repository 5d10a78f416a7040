//! The program itself, as its user runs it: on a data directory of its own, on free ports of the loopback interface.

mod doctor;
mod support;
mod tenants;
mod without_database;

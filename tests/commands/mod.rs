//! The program itself, as its user runs it: on a data directory of its own, on free ports of the loopback interface.

#[cfg(test)]
mod doctor;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod without_database;

//! Archives: one tenant in one file, to be kept, restored, cloned or taken to another installation.
//!
//! - `frames` and `format` are the file: what stands in it, and how any other than that is noticed. They know nothing of
//!   databases.
//! - `tables` says what goes into it, by schema version. The file has no say in that: it is refused if it says otherwise.
//! - `export` reads all tables in one snapshot, `import` makes a schema of the archive's version, loads it (`loading`), migrates
//!   it, has it looked at (`inspection`), makes anew what follows from its rows (`derived`) and enters the tenant into the
//!   catalog (`entering`), all in one transaction: until its commit there is nothing, and a process that dies leaves nothing.
//! - `schedules` says how often, and whose turn it is.
//!
//! Exports and imports stream: a few pieces of half a MiB are in memory, however large the tenant is.
//!
//! An archive is sealed by a key of the installation, and that its header names another installation is all that another
//! seal can be excused by. Who takes such an archive trusts whoever had it in hands, for what is in it: passwords' hashes
//! and roles, for example. Its form is still checked by the same rules, PostgreSQL checks the constraints of the schema, and
//! no row is taken, whoever wrote it, that the application could not serve afterwards.
//! It is not encrypted: it is to be kept as the database's own backups are.

mod derived;
mod entering;
mod error;
mod export;
pub mod forge;
mod format;
mod frames;
mod import;
mod indexes;
mod inspection;
mod loading;
mod meter;
mod schedules;
mod tables;

pub use self::{
    entering::Replaced,
    error::ArchiveError,
    export::peek,
    format::{ArchivedTable, ArchivedTenant, Manifest},
    frames::{PREFIX, is_prefix},
    import::{CheckedArchive, Importing},
    inspection::{Inspection, Rule},
    meter::Meter,
    schedules::{ExportSchedule, NewSchedule, Turn, remove_schedule, schedules, set_schedule, take_due},
    tables::{checked_columns_of, contents_of, left_out_of},
};

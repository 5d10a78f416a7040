//! Tenants in files: exports, imports, clones, and restoring a tenant from what it was. What stands in such a file and how it
//! is read is known to [`tenants::archive`]; here is where the files are, who may do what with them, and when.
//!
//! Each of these is an [operation](crate::operations). The file's name, or the new tenant's id, is decided when it is left:
//! begun anew, it writes the same file, or finds that the tenant is there already.

pub mod api;
mod directory;
mod error;
mod inspection;
mod name;
pub mod schedule_api;
mod schedules;
mod service;
pub mod transfer;
mod work;

pub use api::{ArchiveOut, ArchivesApi};
pub(crate) use directory::copy_to;
pub use directory::{Directory, Draft, Entry};
pub use error::ArchivesError;
pub use inspection::Inspector;
pub use name::ArchiveName;
pub use schedule_api::ExportSchedulesApi;
pub use schedules::{leave_due, remove_schedule, schedules, set_schedule};
pub use service::{
    CloneOf, Import, Restore, entries, remove, request_clone, request_export, request_import, request_restore,
};
pub use work::{clone, export, import, restore};

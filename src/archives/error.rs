//! Where the rules about archives meet status codes.

use std::io;

use sea_orm::DbErr;
use tenants::{Slug, archive::ArchiveError};

use super::ArchiveName;
use crate::{
    admin::AdminError,
    error::ServiceError,
    http::Problem,
    operations::{Failure, OperationError},
};

/// Why something could not be done with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchivesError {
    /// There is none of this name.
    #[error("there is no archive {0}")]
    NoSuchArchive(ArchiveName),
    /// There is one of this name, which would be lost.
    #[error("there is an archive {0} already")]
    Exists(ArchiveName),
    /// It is none, or another installation's and not trusted.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store cannot be read or written.
    #[error("the export store cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// There is no such schedule.
    #[error("there is no such schedule")]
    NoSuchSchedule,
    /// About the tenant.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The operation could not be left.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl ArchivesError {
    pub(super) fn slug_taken(slug: &Slug) -> Self {
        AdminError::SlugTaken(slug.clone()).into()
    }
}

impl From<DbErr> for ArchivesError {
    fn from(error: DbErr) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<tenants::Error> for ArchivesError {
    fn from(error: tenants::Error) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<ServiceError> for ArchivesError {
    fn from(error: ServiceError) -> Self {
        Self::Admin(error.into())
    }
}

impl From<ArchivesError> for Problem {
    fn from(error: ArchivesError) -> Self {
        match error {
            ArchivesError::NoSuchArchive(_) => Self::field("archive", "There is no such archive."),
            ArchivesError::Exists(name) => {
                Self::conflict("archive_exists", format!("There is an archive {name} already."))
            }
            ArchivesError::Archive(ArchiveError::Foreign(_)) => Self::conflict(
                "archive_not_trusted",
                "The archive was written by another installation: say that you trust it, if you do.",
            ),
            ArchivesError::Archive(ArchiveError::OtherTenant { slug, .. }) => Self::conflict(
                "archive_of_another_tenant",
                format!("The archive is of another tenant, {slug}: say `other_tenant`, if you mean it."),
            ),
            ArchivesError::Archive(ArchiveError::Io(error)) | ArchivesError::Io(error) => {
                Self::internal(error)
            }
            ArchivesError::Archive(ArchiveError::Database(error)) => ServiceError::from(error).into(),
            ArchivesError::Archive(error) => Self::field("archive", error.to_string()),
            ArchivesError::NoSuchSchedule => Self::not_found(),
            ArchivesError::Admin(error) => error.into(),
            ArchivesError::Operation(error) => error.into(),
        }
    }
}

impl From<ArchivesError> for Failure {
    fn from(error: ArchivesError) -> Self {
        let text = error.to_string();
        match error {
            ArchivesError::Archive(ArchiveError::Database(error)) => error.into(),
            ArchivesError::Archive(error) if error.may_pass() => Self::Retry(text),
            ArchivesError::Io(_) => Self::Retry(text),
            ArchivesError::Admin(AdminError::Service(error))
            | ArchivesError::Operation(OperationError::Service(error)) => error.into(),
            _ => Self::GiveUp(text),
        }
    }
}

//! Why there is no archive, or why one is refused.

use std::io;

use sea_orm::{DbErr, RuntimeErr};
use uuid::Uuid;

use super::format::ArchivedTenant;
use crate::Error;

/// Why an archive cannot be written, or is not taken. Nothing that a refused archive brought is left anywhere.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Something else than an archive.
    #[error("this is no archive of a tenant")]
    NotAnArchive,
    /// An archive of a later program.
    #[error("the archive has format {0}, which this version of tenantry does not know: install a later one")]
    UnknownFormat(u32),
    /// It ends too early, or is not what was written.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// It was written here, but not as it is: the seal is broken.
    #[error("the archive was changed after it was written: its seal is broken")]
    Tampered,
    /// Another installation's, whose seal nobody can check here.
    #[error(
        "the archive was written by another installation, {0}, whose seal cannot be checked here: trust it expressly, if you do"
    )]
    Foreign(String),
    /// It is of a schema that is newer than this program's.
    #[error(
        "the archive has schema version {found}, newer than {known}, which this version of tenantry makes"
    )]
    SchemaTooNew {
        /// The archive's.
        found: i32,
        /// The program's own.
        known: i32,
    },
    /// What it holds is not what a schema of its version has.
    #[error("the archive does not hold what a schema of its version has: {0}")]
    Contents(String),
    /// It would unpack to more than is taken of somebody else's.
    #[error("the archive unpacks to more than {0} times its size")]
    Bomb(u64),
    /// PostgreSQL does not take what it holds.
    #[error("PostgreSQL refuses what the archive holds: {0}")]
    Refused(String),
    /// A row is none that the application would have written.
    #[error("the archive holds what cannot be served: {column} of {table}{row}: {what}")]
    Unsound {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Which row, with a space before it; empty where the value tells.
        row: String,
        /// What is wrong with it.
        what: String,
    },
    /// It is of another tenant than the one whose place it is to take.
    #[error(
        "the archive is of another tenant, {slug} ({id}): with --other-tenant it takes the place all the same"
    )]
    OtherTenant {
        /// That tenant's slug when it was exported.
        slug: String,
        /// Its id.
        id: Uuid,
    },
    /// The tenant that was to be exported is not there.
    #[error("there is no such tenant")]
    NoSuchTenant,
    /// Whoever wanted it does not wait for it any more.
    #[error("it was given up")]
    GivenUp,
    /// A file cannot be read or written.
    #[error("the archive cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// The database.
    #[error(transparent)]
    Database(Error),
}

impl From<Error> for ArchiveError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<DbErr> for ArchiveError {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

impl ArchiveError {
    /// A row, named by its key, has a value in this column that the application would have refused. The value itself is not
    /// told: it may be personal, and who asks for it has the archive.
    #[must_use]
    pub fn unsound(table: &'static str, column: &'static str, row: Uuid, what: impl Into<String>) -> Self {
        Self::Unsound { table, column, row: format!(" {row}"), what: what.into() }
    }

    /// It is of another tenant than it should be.
    #[must_use]
    pub fn of_other_tenant(archived: &ArchivedTenant) -> Self {
        Self::OtherTenant { slug: archived.slug.clone(), id: archived.id }
    }

    /// Whether trying again may help: it was not the archive's fault.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Database(_) | Self::GivenUp)
    }

    /// What PostgreSQL says of data that somebody else wrote: that it is wrong, or that it was not the data.
    #[must_use]
    pub fn of_contents(error: DbErr) -> Self {
        let (DbErr::Query(RuntimeErr::SqlxError(inner)) | DbErr::Exec(RuntimeErr::SqlxError(inner))) = &error
        else {
            return error.into();
        };
        match &**inner {
            // Data exceptions and broken constraints; a value too long for an index, or with a row too large for a page.
            sqlx::Error::Database(refused)
                if refused.code().is_some_and(|code| {
                    code.starts_with("22") || code.starts_with("23") || code == "54000"
                }) =>
            {
                Self::Refused(refused.message().to_owned())
            }
            _ => error.into(),
        }
    }
}

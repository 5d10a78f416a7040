//! Where the rules about runs meet status codes.

use sea_orm::DbErr;
use tenants::RunRefused;

use crate::{error::ServiceError, http::Problem};

/// Why a run could not be started, gone on with or shown.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Nobody is behind.
    #[error("every tenant is up to date")]
    UpToDate,
    /// It makes no sense now.
    #[error(transparent)]
    Refused(RunRefused),
    /// A canary is named that is nobody.
    #[error("there is no tenant `{0}`")]
    NoSuchTenant(String),
    /// Anything else.
    #[error(transparent)]
    Service(ServiceError),
}

impl From<tenants::Error> for FleetError {
    fn from(error: tenants::Error) -> Self {
        match error {
            tenants::Error::Run(refused) => Self::Refused(refused),
            tenants::Error::NoSuchTenant(slug) => Self::NoSuchTenant(slug),
            error => Self::Service(error.into()),
        }
    }
}

impl From<DbErr> for FleetError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<FleetError> for Problem {
    fn from(error: FleetError) -> Self {
        let refused = match error {
            FleetError::UpToDate => {
                return Self::conflict("up_to_date", "Every organization is up to date.");
            }
            FleetError::NoSuchTenant(slug) => {
                return Self::field("canaries", format!("There is no organization {slug}."));
            }
            FleetError::Service(error) => return error.into(),
            FleetError::Refused(refused) => refused,
        };
        match refused {
            RunRefused::Unknown => Self::not_found(),
            RunRefused::UnderWay(who) => Self::conflict("migration_running", sentence(&who)),
            RunRefused::OtherVersion { run, program } => Self::conflict(
                "migration_version",
                format!("The run was to version {run}, and this program's is {program}: start another one."),
            ),
            RunRefused::NothingPending(_) => {
                Self::conflict("nothing_to_resume", "Nothing is left to do in this run.")
            }
            RunRefused::NothingFailed => {
                Self::conflict("nothing_to_retry", "No organization has failed in this run.")
            }
        }
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

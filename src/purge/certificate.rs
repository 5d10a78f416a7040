//! What stands in the audit log of a tenant that is gone, and how one sees that nobody wrote it there himself.

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use sea_orm::DbErr;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenants::{Absent, DataKey, Purged};
use uuid::Uuid;

use crate::{
    audit::{self, Action},
    state::App,
};

/// What every signed text begins with: the key has other uses.
const CONTEXT: &[u8] = b"tenantry certificate of purge\0";

/// That a tenant was purged. The order of the fields is that of the signed text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The operation that did it.
    pub operation: Uuid,
    /// The tenant's id.
    pub tenant: Uuid,
    /// Its slug.
    pub slug: String,
    /// The organization's name.
    pub name: String,
    /// The schema, and the role of the same name, that were dropped.
    pub schema: String,
    /// What was dropped.
    #[serde(flatten)]
    pub purged: Purged,
    /// What was looked for afterwards, and was not there.
    pub absent: Absent,
    /// The databases in which somebody gave the role rights, so that PostgreSQL keeps it. Where there are none, it is not in
    /// the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub role_held_in: Vec<String>,
    /// Who had it purged.
    pub by: String,
    /// When it was closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// When it was gone.
    pub purged_at: DateTime<Utc>,
}

/// A certificate with its MAC: HMAC-SHA-256 by the installation's data key `signing`, in base 16.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The certificate.
    #[serde(flatten)]
    pub certificate: Certificate,
    /// Its MAC.
    pub mac: String,
}

impl Certificate {
    fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        Ok([CONTEXT, &serde_json::to_vec(self)?].concat())
    }

    /// Signs it.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn sign(self, app: &App) -> Result<Signed, serde_json::Error> {
        let mac = app.tenancy.key(DataKey::Signing).mac(&self.text()?);
        Ok(Signed { certificate: self, mac: HEXLOWER.encode(&mac) })
    }
}

impl Signed {
    /// Whether this installation signed exactly this.
    #[must_use]
    pub fn is_valid(&self, app: &App) -> bool {
        let mac = HEXLOWER.decode(self.mac.as_bytes());
        let (Ok(text), Ok(mac)) = (self.certificate.text(), mac) else { return false };
        app.tenancy.key(DataKey::Signing).verifies(&text, &mac)
    }

    /// What an entry of the log says, if it is one.
    #[must_use]
    pub fn read(detail: Value) -> Option<Self> {
        serde_json::from_value(detail).ok()
    }
}

/// The certificate of a tenant, the last one where a slug had several.
///
/// # Errors
/// Those of the database.
pub async fn find(app: &App, id: Option<Uuid>, slug: Option<&str>) -> Result<Option<Signed>, DbErr> {
    let entry = audit::last_of(app.tenancy.catalog(), Action::TenantPurged, id, slug).await?;
    Ok(entry.and_then(|entry| Signed::read(entry.detail)))
}

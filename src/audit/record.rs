//! Writing entries.

use std::net::IpAddr;

use sea_orm::{ConnectionTrait, DbErr};
use serde_json::Value;
use tenants::{TenantTx, entity::audit as installation};
use uuid::Uuid;

use super::store;
use crate::{auth::Caller, clock::Clock, entity::audit, state::App};

/// The first schema version with a log of its own.
const FIRST_WITH_LOG: i32 = 4;

/// What was done, as programs read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; what each has in its detail is where it is recorded")]
pub enum Action {
    Login,
    LoginRefused,
    OperatorCreated,
    OperatorDeleted,
    OperatorPasswordChanged,
    ApiKeyCreated,
    ApiKeyDeleted,
    KeysRotated,
    MasterKeyRotated,
    MigrationStarted,
    MigrationResumed,
    MigrationRetried,
    JobRetried,
    TenantProvisioned,
    TenantOwnerInvited,
    TenantRenamed,
    TenantSuspended,
    TenantResumed,
    TenantDeleted,
    TenantRestored,
    TenantUsersViewed,
    TenantPurgeRequested,
    TenantPurged,
    InstallationMended,
    OrphanDropped,
    TenantExported,
    TenantImportRequested,
    TenantImported,
    TenantCloneRequested,
    TenantCloned,
    TenantRestoreRequested,
    TenantRestoredFrom,
    TenantReplaced,
    ArchiveUploaded,
    ArchiveDownloaded,
    ArchiveDeleted,
    ExportScheduleSet,
    ExportScheduleRemoved,
    TenantLimitsChanged,
    PlanCreated,
    PlanChanged,
    PlanDeleted,
    RetentionChanged,
    ImpersonationBegun,
    ImpersonationCalled,
    ImpersonationEnded,
    TenantClosed,
    SettingsChanged,
    UserRoleChanged,
    UserActivated,
    UserDeactivated,
    UserRemoved,
}

impl Action {
    /// Its name: what it is about, and what became of that.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login.succeeded",
            Self::LoginRefused => "login.refused",
            Self::OperatorCreated => "operator.created",
            Self::OperatorDeleted => "operator.deleted",
            Self::OperatorPasswordChanged => "operator.password_changed",
            Self::ApiKeyCreated => "api_key.created",
            Self::ApiKeyDeleted => "api_key.deleted",
            Self::KeysRotated => "keys.rotated",
            Self::MasterKeyRotated => "keys.master_rotated",
            Self::MigrationStarted => "migration.started",
            Self::MigrationResumed => "migration.resumed",
            Self::MigrationRetried => "migration.retried",
            Self::JobRetried => "job.retried",
            Self::TenantProvisioned => "tenant.provisioned",
            Self::TenantOwnerInvited => "tenant.owner_invited",
            Self::TenantRenamed => "tenant.renamed",
            Self::TenantSuspended => "tenant.suspended",
            Self::TenantResumed => "tenant.resumed",
            Self::TenantDeleted => "tenant.deleted",
            Self::TenantRestored => "tenant.restored",
            Self::TenantUsersViewed => "tenant.users_viewed",
            Self::TenantPurgeRequested => "tenant.purge_requested",
            Self::TenantPurged => "tenant.purged",
            Self::InstallationMended => "installation.mended",
            Self::OrphanDropped => "orphan.dropped",
            Self::TenantExported => "tenant.exported",
            Self::TenantImportRequested => "tenant.import_requested",
            Self::TenantImported => "tenant.imported",
            Self::TenantCloneRequested => "tenant.clone_requested",
            Self::TenantCloned => "tenant.cloned",
            Self::TenantRestoreRequested => "tenant.restore_requested",
            Self::TenantRestoredFrom => "tenant.restored_from",
            Self::TenantReplaced => "tenant.replaced",
            Self::ArchiveUploaded => "archive.uploaded",
            Self::ArchiveDownloaded => "archive.downloaded",
            Self::ArchiveDeleted => "archive.deleted",
            Self::ExportScheduleSet => "export_schedule.set",
            Self::ExportScheduleRemoved => "export_schedule.removed",
            Self::TenantLimitsChanged => "tenant.limits_changed",
            Self::PlanCreated => "plan.created",
            Self::PlanChanged => "plan.changed",
            Self::PlanDeleted => "plan.deleted",
            Self::RetentionChanged => "tenant.retention_changed",
            Self::ImpersonationBegun => "impersonation.begun",
            Self::ImpersonationCalled => "impersonation.called",
            Self::ImpersonationEnded => "impersonation.ended",
            Self::TenantClosed => "tenant.closed",
            Self::SettingsChanged => "settings.changed",
            Self::UserRoleChanged => "user.role_changed",
            Self::UserActivated => "user.activated",
            Self::UserDeactivated => "user.deactivated",
            Self::UserRemoved => "user.removed",
        }
    }
}

/// Who acts on the installation.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The operator, if it is one.
    pub operator: Option<Uuid>,
    /// For people: the operator's address, or what else it is.
    pub name: String,
    /// The API key it is done with: its id and what it is called.
    pub api_key: Option<(Uuid, String)>,
    /// From where.
    pub ip: Option<IpAddr>,
}

impl Actor {
    /// Who types commands on a machine that has the master key: nobody asks for his name.
    #[must_use]
    pub fn command_line() -> Self {
        Self { operator: None, name: "command line".to_owned(), api_key: None, ip: None }
    }

    /// What nobody has to ask for.
    #[must_use]
    pub fn clean_up() -> Self {
        Self { operator: None, name: "clean-up".to_owned(), api_key: None, ip: None }
    }

    /// The service itself, at its start.
    #[must_use]
    pub fn start() -> Self {
        Self { operator: None, name: "start of the service".to_owned(), api_key: None, ip: None }
    }

    /// Somebody who has not proven who he is.
    #[must_use]
    pub fn nobody(ip: IpAddr) -> Self {
        Self { operator: None, name: "nobody".to_owned(), api_key: None, ip: Some(ip) }
    }
}

/// A tenant as an entry names it.
#[derive(Clone, Copy, Debug)]
struct Named<'a> {
    id: Uuid,
    slug: &'a str,
}

/// Records what somebody did to the installation. No secret belongs into the detail.
///
/// # Errors
/// Those of the database.
pub async fn record(
    app: &App,
    db: &impl ConnectionTrait,
    by: &Actor,
    action: Action,
    detail: Value,
) -> Result<(), DbErr> {
    store::insert(db, entry(app, by, action, None, detail)).await
}

/// Records what somebody did about a tenant, in the installation's log alone: because the tenant has none any more.
///
/// # Errors
/// Those of the database.
pub async fn record_about(
    app: &App,
    db: &impl ConnectionTrait,
    (id, slug): (Uuid, &str),
    by: &Actor,
    action: Action,
    detail: Value,
) -> Result<(), DbErr> {
    store::insert(db, entry(app, by, action, Some(Named { id, slug }), detail)).await
}

/// As [`record`], before there is a service: while its database is brought up to date.
///
/// # Errors
/// Those of the database.
pub async fn record_at(
    clock: &Clock,
    db: &impl ConnectionTrait,
    by: &Actor,
    action: Action,
    detail: Value,
) -> Result<(), DbErr> {
    store::insert(db, entry_at(clock, by, action, None, detail)).await
}

/// Records what somebody did to a tenant, in the installation's log and in the tenant's own. The connection is one that
/// runs in the tenant's schema and may write to the catalog.
///
/// # Errors
/// Those of the database.
pub async fn record_of_tenant(
    app: &App,
    db: &impl ConnectionTrait,
    (tenant, slug, schema_version): (Uuid, &str, i32),
    by: &Actor,
    action: Action,
    detail: Value,
) -> Result<(), DbErr> {
    let named = Named { id: tenant, slug };
    let entry = entry(app, by, action, Some(named), detail);
    // Such a tenant is served to nobody, but an operator may have to suspend or delete it.
    if schema_version >= FIRST_WITH_LOG {
        let own = audit::Model {
            id: entry.id,
            by_operator: true,
            actor_pk: None,
            action: entry.action.clone(),
            detail: entry.detail.clone(),
            created_at: entry.created_at,
        };
        store::insert_own(db, own).await?;
    }
    store::insert(db, entry).await
}

fn entry(
    app: &App,
    by: &Actor,
    action: Action,
    tenant: Option<Named<'_>>,
    detail: Value,
) -> installation::Model {
    entry_at(&app.clock, by, action, tenant, detail)
}

fn entry_at(
    clock: &Clock,
    by: &Actor,
    action: Action,
    tenant: Option<Named<'_>>,
    detail: Value,
) -> installation::Model {
    let (api_key_id, api_key_name) = by.api_key.clone().unzip();
    installation::Model {
        id: clock.uuid_v7(),
        operator_id: by.operator,
        actor: by.name.clone(),
        api_key_id,
        api_key_name,
        action: action.as_str().to_owned(),
        tenant_id: tenant.map(|tenant| tenant.id),
        tenant_slug: tenant.map(|tenant| tenant.slug.to_owned()),
        detail,
        ip: by.ip.map(|ip| ip.to_string()),
        created_at: clock.now(),
    }
}

/// Notes in a tenant's own log what one of its admins did, in the transaction in which he did it.
///
/// # Errors
/// Those of the database.
pub async fn note(app: &App, tx: &TenantTx, by: &Caller, action: Action, detail: Value) -> Result<(), DbErr> {
    note_in(app, tx, by, action, detail).await
}

/// As [`note`], on a connection that runs in the tenant's schema as its owner.
pub(crate) async fn note_in(
    app: &App,
    db: &impl ConnectionTrait,
    by: &Caller,
    action: Action,
    detail: Value,
) -> Result<(), DbErr> {
    let row = audit::Model {
        id: app.clock.uuid_v7(),
        by_operator: false,
        actor_pk: Some(by.account.pk),
        action: action.as_str().to_owned(),
        detail,
        created_at: app.clock.now(),
    };
    store::insert_own(db, row).await
}

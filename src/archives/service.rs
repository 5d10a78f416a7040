//! What is decided before the work begins: whether it can be done, under which name, and who wants it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenants::{
    Slug, Status, Which,
    archive::{ArchiveError, ArchivedTenant},
};
use uuid::Uuid;

use super::{ArchiveName, ArchivesError, Entry};
use crate::{
    admin::{self, AdminError},
    audit::{self, Action, Actor},
    operations::{self, Kind, New, Operation},
    state::App,
};

/// With what an export is left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ExportParams {
    pub(super) archive: String,
    /// How many scheduled archives of the tenant stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keep: Option<u32>,
}

/// With what an import, a clone or a restore is left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImportParams {
    /// The id of the tenant to be.
    pub(super) id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) archive: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) slug: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) trust: bool,
    /// Whether another tenant's archive may take the place.
    #[serde(default)]
    pub(super) other_tenant: bool,
}

/// An archive that is to become a tenant.
#[derive(Clone, Debug)]
pub struct Import {
    /// The archive.
    pub archive: ArchiveName,
    /// The new tenant's slug.
    pub slug: Slug,
    /// The new tenant's name.
    pub name: String,
    /// Whether another installation's archive is taken.
    pub trust: bool,
}

/// A tenant that is to be like another.
#[derive(Clone, Debug)]
pub struct CloneOf {
    /// The new tenant's slug.
    pub slug: Slug,
    /// The new tenant's name.
    pub name: String,
}

/// An archive that is to take the place of a tenant.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The archive.
    pub archive: ArchiveName,
    /// Whether another installation's archive is taken.
    pub trust: bool,
    /// Whether an archive is taken that is neither of this tenant nor of one whose place it took.
    pub other_tenant: bool,
}

/// Does what blocks beside what must not.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ArchivesError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?;
    Ok(done?)
}

async fn leave(
    app: &App,
    tx: &impl sea_orm::ConnectionTrait,
    new: New,
    is_taken: bool,
) -> Result<Operation, ArchivesError> {
    Ok(if is_taken {
        operations::leave_taken(app, tx, new).await?
    } else {
        operations::leave(app, tx, new).await?
    })
}

/// Leaves the export of a tenant.
///
/// # Errors
/// There is no such tenant, or those of the database.
pub async fn request_export(
    app: &App,
    which: Which<'_>,
    by: &Actor,
    is_taken: bool,
) -> Result<Operation, ArchivesError> {
    let action = app.tenancy.act_on(which).await?.ok_or(AdminError::NotFound)?;
    if action.status()? == Status::Purging {
        return Err(AdminError::NotFound.into());
    }
    let tenant = action.tenant().clone();
    let archive = ArchiveName::of(&tenant.slug, tenant.id, app.clock.now(), false).to_string();
    let params = json!(ExportParams { archive: archive.clone(), keep: None });
    let named = Some((tenant.id, tenant.slug.clone()));
    let new = New { kind: Kind::Export, params, tenant: named, by: by.clone() };
    let operation = leave(app, action.reached(), new, is_taken).await?;
    let detail = json!({"operation": operation.id, "archive": archive});
    let named = (tenant.id, tenant.slug.as_str(), tenant.schema_version);
    audit::record_of_tenant(app, action.reached(), named, by, Action::TenantExported, detail).await?;
    action.commit().await?;
    app.wake_workers();
    Ok(operation)
}

/// Looks at what would be refused anyway, before anything is left: later it is looked at again, and whole.
async fn look_at(app: &App, archive: &ArchiveName, trust: bool) -> Result<ArchivedTenant, ArchivesError> {
    let (directory, name) = (app.archives.clone(), archive.clone());
    let entry = blocking(move || directory.entry(&name)).await?;
    let entry = entry.ok_or_else(|| ArchivesError::NoSuchArchive(archive.clone()))?;
    let (installation, tenant, _) = entry.header.ok_or(ArchiveError::NotAnArchive)?;
    if installation == app.tenancy.installation().to_string() || trust {
        Ok(tenant)
    } else {
        Err(ArchiveError::Foreign(installation).into())
    }
}

async fn check_slug(app: &App, slug: &Slug) -> Result<(), ArchivesError> {
    if app.tenancy.is_slug_taken(slug, app.clock.now()).await? {
        return Err(ArchivesError::slug_taken(slug));
    }
    Ok(())
}

/// Leaves the import of an archive as a new tenant.
///
/// # Errors
/// There is no such archive, it is another installation's, the slug is taken; or those of the database.
pub async fn request_import(
    app: &App,
    Import { archive, slug, name, trust }: Import,
    by: &Actor,
    is_taken: bool,
) -> Result<Operation, ArchivesError> {
    look_at(app, &archive, trust).await?;
    check_slug(app, &slug).await?;
    let params = json!(ImportParams {
        id: app.clock.uuid_v7(),
        archive: Some(archive.to_string()),
        slug: Some(slug.to_string()),
        name: Some(name),
        trust,
        other_tenant: false,
    });
    let tx = app.tenancy.catalog().begin().await?;
    let new = New { kind: Kind::Import, params: params.clone(), tenant: None, by: by.clone() };
    let operation = leave(app, &tx, new, is_taken).await?;
    let detail = json!({"operation": operation.id, "after": params});
    audit::record(app, &tx, by, Action::TenantImportRequested, detail).await?;
    tx.commit().await?;
    app.wake_workers();
    Ok(operation)
}

/// Leaves the cloning of a tenant.
///
/// # Errors
/// There is no such tenant, the slug is taken; or those of the database.
pub async fn request_clone(
    app: &App,
    which: Which<'_>,
    CloneOf { slug, name }: CloneOf,
    by: &Actor,
    is_taken: bool,
) -> Result<Operation, ArchivesError> {
    check_slug(app, &slug).await?;
    let id = app.clock.uuid_v7();
    let (slug, name) = (Some(slug.to_string()), Some(name));
    let params = ImportParams { id, archive: None, slug, name, trust: false, other_tenant: false };
    request(app, which, Kind::Clone, Action::TenantCloneRequested, params, by, is_taken).await
}

/// Leaves the restoring of a tenant from an archive, which takes its place.
///
/// # Errors
/// There is no such tenant or archive, it is another installation's or another tenant's; or those of the database.
pub async fn request_restore(
    app: &App,
    which: Which<'_>,
    Restore { archive, trust, other_tenant }: Restore,
    by: &Actor,
    is_taken: bool,
) -> Result<Operation, ArchivesError> {
    // Who there is comes before what was sent.
    let tenant = admin::reach(app, which).await?.tenant().id;
    let archived = look_at(app, &archive, trust).await?;
    if !other_tenant && !app.tenancy.is_earlier_state(archived.id, tenant).await? {
        return Err(ArchiveError::of_other_tenant(&archived).into());
    }
    let (id, archive) = (app.clock.uuid_v7(), Some(archive.to_string()));
    let params = ImportParams { id, archive, slug: None, name: None, trust, other_tenant };
    request(app, which, Kind::RestoreFrom, Action::TenantRestoreRequested, params, by, is_taken).await
}

async fn request(
    app: &App,
    which: Which<'_>,
    kind: Kind,
    what: Action,
    params: ImportParams,
    by: &Actor,
    is_taken: bool,
) -> Result<Operation, ArchivesError> {
    let action = app.tenancy.act_on(which).await?.ok_or(AdminError::NotFound)?;
    match (action.status()?, kind) {
        (Status::Purging, _) => return Err(AdminError::NotFound.into()),
        (Status::Deleting, Kind::RestoreFrom) => return Err(AdminError::Deleting.into()),
        _ => {}
    }
    let tenant = action.tenant().clone();
    let (params, named): (Value, _) = (json!(params), Some((tenant.id, tenant.slug.clone())));
    let new = New { kind, params: params.clone(), tenant: named, by: by.clone() };
    let operation = leave(app, action.reached(), new, is_taken).await?;
    let detail = json!({"operation": operation.id, "after": params});
    let named = (tenant.id, tenant.slug.as_str(), tenant.schema_version);
    audit::record_of_tenant(app, action.reached(), named, by, what, detail).await?;
    action.commit().await?;
    app.wake_workers();
    Ok(operation)
}

/// Some archives of the store, the latest first, and how many there are.
///
/// # Errors
/// The store cannot be read.
pub async fn entries(
    app: &App,
    newest_first: bool,
    (offset, limit): (u64, u64),
) -> Result<(u64, Vec<Entry>), ArchivesError> {
    let directory = app.archives.clone();
    blocking(move || {
        let mut names = directory.names()?;
        if !newest_first {
            names.reverse();
        }
        let part = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut entries = Vec::new();
        for (name, _) in names.iter().skip(part(offset)).take(part(limit)) {
            entries.extend(directory.entry(name)?);
        }
        Ok((names.len() as u64, entries))
    })
    .await
}

/// Removes an archive. That it is removed is recorded before it is: an entry too many is better than none.
///
/// # Errors
/// There is none, or it cannot be removed.
pub async fn remove(app: &App, name: &ArchiveName, by: &Actor) -> Result<(), ArchivesError> {
    let detail = json!({"before": {"archive": name.as_str()}});
    audit::record(app, app.tenancy.catalog(), by, Action::ArchiveDeleted, detail).await?;
    let (directory, archive) = (app.archives.clone(), name.clone());
    if blocking(move || directory.remove(&archive)).await? {
        Ok(())
    } else {
        Err(ArchivesError::NoSuchArchive(name.clone()))
    }
}

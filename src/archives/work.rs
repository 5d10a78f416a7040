//! What the operations do. Each can be begun anew after any part of it was done.

use std::{
    io::{self, BufWriter, Seek as _},
    sync::Arc,
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tenants::{
    Slug, SlugChoice, Which,
    archive::{ArchiveError, CheckedArchive, Importing, Manifest, Meter},
};
use uuid::Uuid;

use super::{
    ArchiveName, ArchivesError, Draft, Inspector,
    service::{ExportParams, ImportParams, blocking},
};
use crate::{
    audit::{self, Action},
    operations::{Failure, Progress},
    state::App,
};

/// How often it is looked how far a copy is.
const LOOK: Duration = Duration::from_millis(250);
/// How much is written at once: a piece of a table, compressed.
const BUFFER: usize = 256 * 1024;

fn damaged(error: impl std::fmt::Display) -> Failure {
    Failure::GiveUp(format!("its parameters make no sense: {error}"))
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Failure> {
    serde_json::from_value(params).map_err(damaged)
}

/// Works, and tells meanwhile how many rows are done; as many again may be to come.
async fn metered<T>(
    progress: &Progress,
    meter: &Meter,
    times: u64,
    work: impl Future<Output = Result<T, ArchivesError>>,
) -> Result<T, ArchivesError> {
    let mut told = 0;
    let mut tell = || {
        let done = meter.done();
        // Of an export the total is what PostgreSQL believes.
        let total = meter.total().max(done).saturating_mul(times);
        if progress.measure().total.is_none_or(|before| before.unsigned_abs() < total) {
            progress.set_total(total);
        }
        progress.advance(done - std::mem::replace(&mut told, done));
    };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                tell();
                return done;
            }
            () = tokio::time::sleep(LOOK) => tell(),
        }
    }
}

/// Writes an archive of a tenant into a draft.
async fn drafted(
    app: &App,
    progress: &Progress,
    tenant: Uuid,
    times: u64,
) -> Result<(Draft, Manifest), ArchivesError> {
    let directory = app.archives.clone();
    let draft = blocking(move || directory.draft()).await?;
    let meter = Arc::new(Meter::default());
    let out = BufWriter::with_capacity(BUFFER, draft.file()?);
    let writing = async { Ok(app.tenancy.export(tenant, out, app.clock.now(), &meter).await?) };
    let (_, manifest) = metered(progress, &meter, times, writing).await?;
    Ok((draft, manifest))
}

/// Exports a tenant.
///
/// # Errors
/// See [`Failure`].
pub async fn export(app: &App, progress: &Progress, params: Value) -> Result<Value, Failure> {
    let ExportParams { archive, keep } = read(params)?;
    let name: ArchiveName = archive.parse().map_err(damaged)?;
    let tenant = progress.operation().tenant_id.ok_or_else(|| damaged("no tenant"))?;
    let (draft, manifest) = drafted(app, progress, tenant, 1).await?;
    let (directory, kept) = (app.archives.clone(), name.clone());
    let bytes = blocking(move || {
        let bytes = draft.file()?.metadata()?.len();
        draft.keep(&kept)?;
        if let Some(keep) = keep {
            let names = directory.names()?.into_iter().map(|(name, _)| name);
            let keep = usize::try_from(keep).unwrap_or(usize::MAX);
            for old in names.filter(|name| name.is_scheduled_of(tenant)).skip(keep) {
                directory.remove(&old)?;
            }
        }
        Ok(bytes)
    })
    .await?;
    Ok(json!({"archive": name.as_str(), "bytes": bytes, "rows": manifest.rows()}))
}

/// Makes a tenant of an archive.
///
/// # Errors
/// See [`Failure`].
pub async fn import(app: &App, progress: &Progress, params: Value) -> Result<Value, Failure> {
    let params: ImportParams = read(params)?;
    if let Some(done) = done_before(app, &params).await? {
        return Ok(done);
    }
    let checked = opened(app, &params).await?;
    let importing = loaded(app, progress, checked, params.id).await?;
    Ok(entered(app, progress, importing, &params, Action::TenantImported, None).await?)
}

/// Makes a tenant like another: of an archive that nobody else sees.
///
/// # Errors
/// See [`Failure`].
pub async fn clone(app: &App, progress: &Progress, params: Value) -> Result<Value, Failure> {
    let params: ImportParams = read(params)?;
    if let Some(done) = done_before(app, &params).await? {
        return Ok(done);
    }
    let source = progress.operation().tenant_id.ok_or_else(|| damaged("no tenant"))?;
    let (draft, _) = drafted(app, progress, source, 2).await?;
    let mut file = draft.file().map_err(ArchivesError::from)?;
    file.rewind().map_err(ArchivesError::from)?;
    let checked = app.tenancy.check_archive(file, false).await.map_err(ArchivesError::from)?;
    let importing = loaded(app, progress, checked, params.id).await?;
    drop(draft);
    Ok(entered(app, progress, importing, &params, Action::TenantCloned, Some(source)).await?)
}

/// Puts what an archive holds in the place of a tenant, which is kept aside.
///
/// # Errors
/// See [`Failure`].
pub async fn restore(app: &App, progress: &Progress, params: Value) -> Result<Value, Failure> {
    let params: ImportParams = read(params)?;
    let other = progress.operation().tenant_id.ok_or_else(|| damaged("no tenant"))?;
    if let Some(done) = done_before(app, &params).await? {
        return Ok(done);
    }
    let checked = opened(app, &params).await?;
    let importing = loaded(app, progress, checked, params.id).await?;
    Ok(put_in_place(app, progress, importing, &params, other).await?)
}

/// What came of it, if an attempt before this one came to the end and could not say so.
async fn done_before(app: &App, params: &ImportParams) -> Result<Option<Value>, Failure> {
    let reached = app.tenancy.reach(Which::Id(params.id)).await?;
    Ok(reached.map(|reached| {
        let tenant = reached.tenant();
        json!({"tenant": {"id": tenant.id, "slug": tenant.slug, "name": tenant.name}})
    }))
}

async fn opened(app: &App, params: &ImportParams) -> Result<CheckedArchive, Failure> {
    let name: ArchiveName = params.archive.as_deref().unwrap_or_default().parse().map_err(damaged)?;
    let (directory, archive) = (app.archives.clone(), name.clone());
    let file = blocking(move || directory.open(&archive)).await?;
    let file = file.ok_or(ArchivesError::NoSuchArchive(name))?;
    Ok(app.tenancy.check_archive(file, params.trust).await.map_err(ArchivesError::from)?)
}

async fn loaded(
    app: &App,
    progress: &Progress,
    checked: CheckedArchive,
    id: Uuid,
) -> Result<Importing, ArchivesError> {
    let meter = Arc::new(Meter::default());
    let loading = async { Ok(app.tenancy.import(checked, id, &Inspector, &meter).await?) };
    metered(progress, &meter, 1, loading).await
}

/// What the audit says of where it came from.
fn origin(manifest: &Manifest, params: &ImportParams) -> Value {
    json!({
        "archive": params.archive, "installation": manifest.installation, "tenant": manifest.tenant.id,
        "created_at": manifest.created_at, "schema_version": manifest.schema_version, "rows": manifest.rows(),
        "trusted": params.trust,
    })
}

async fn entered(
    app: &App,
    progress: &Progress,
    importing: Importing,
    params: &ImportParams,
    what: Action,
    source: Option<Uuid>,
) -> Result<Value, ArchivesError> {
    let wanted = params.slug.as_deref().unwrap_or_default();
    let wanted: Slug = wanted.parse().map_err(|_| io::Error::other("the slug in its parameters is none"))?;
    let name = params.name.as_deref().unwrap_or(&importing.manifest().tenant.name).to_owned();
    let slug = importing.enter(SlugChoice::Exactly(wanted.clone()), &name, app.clock.now()).await;
    let slug = slug.map_err(|error| match error {
        ArchiveError::Database(tenants::Error::SlugTaken) => ArchivesError::slug_taken(&wanted),
        error => error.into(),
    })?;
    let (id, rows) = (importing.id(), importing.manifest().rows());
    let after = json!({"slug": slug.as_str(), "name": name, "mails_held": true});
    let detail = json!({
        "operation": progress.operation().id, "from": origin(importing.manifest(), params), "source": source,
        "after": after,
    });
    let named = (id, slug.as_str(), newest());
    audit::record_of_tenant(app, &importing, named, &progress.actor(), what, detail).await?;
    importing.commit().await?;
    Ok(json!({"tenant": {"id": id, "slug": slug.as_str(), "name": name}, "rows": rows, "mails_held": true}))
}

async fn put_in_place(
    app: &App,
    progress: &Progress,
    mut importing: Importing,
    params: &ImportParams,
    other: Uuid,
) -> Result<Value, ArchivesError> {
    let replaced = importing.enter_for(other, params.other_tenant, app.clock.now()).await?;
    let (id, by) = (importing.id(), progress.actor());
    let (slug, aside) = (replaced.slug.as_str(), replaced.aside.as_str());
    let from = origin(importing.manifest(), params);
    let detail =
        json!({"operation": progress.operation().id, "from": from, "replaced": other, "aside": aside});
    audit::record_of_tenant(app, &importing, (id, slug, newest()), &by, Action::TenantRestoredFrom, detail)
        .await?;
    let detail = json!({
        "operation": progress.operation().id, "replaced_by": id,
        "before": {"slug": slug, "status": replaced.status_before}, "after": {"slug": aside, "status": "suspended"},
    });
    let named = (other, aside, replaced.schema_version);
    importing
        .in_replaced(&replaced, async |importing| {
            audit::record_of_tenant(app, importing, named, &by, Action::TenantReplaced, detail).await
        })
        .await?;
    let (name, rows) = (replaced.name.clone(), importing.manifest().rows());
    importing.commit().await?;
    Ok(json!({
        "tenant": {"id": id, "slug": slug, "name": name},
        "replaced": {"id": other, "slug": aside, "status": "suspended"}, "rows": rows,
    }))
}

/// An import ends at the version of this program.
fn newest() -> i32 {
    *tenants::served_versions().end()
}

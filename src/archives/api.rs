//! The endpoints of archives.

use chrono::{DateTime, Utc};
use poem_openapi::{OpenApi, param::Path};
use tenants::{Which, archive::ArchivedTenant};
use uuid::Uuid;

use super::{
    ArchiveName, ArchivesError, Entry,
    service::{self, CloneOf, Import, Restore, blocking},
    transfer::{ArchiveBody, ArchiveFile},
};
use crate::{
    app::Tag,
    audit::{self, Action},
    error::ServiceError,
    http::{Accepted, Body, Created, IfMatch, Json, Listing, Name, NoContent, Page, PageQuery, Problem},
    operations::OperationOut,
    operators::{Destroys, Provisions, Reads},
    sign_up::ChosenSlug,
    state::App,
};

crate::input! {
    /// An archive that is to become a tenant.
    pub struct TenantImportIn {
        /// The archive's name in the export store.
        pub archive: Name<1, 160>,
        /// The tenant's name in hosts.
        pub slug: ChosenSlug,
        /// The organization's name.
        pub name: Name<1, 100>,
        /// Whether an archive is taken that another installation wrote: nobody can tell here whether it was changed since.
        /// Left out, no.
        pub trust: Option<bool>,
    }
}

crate::input! {
    /// A tenant that is to be like another.
    pub struct TenantCloneIn {
        /// Its name in hosts.
        pub slug: ChosenSlug,
        /// The organization's name.
        pub name: Name<1, 100>,
    }
}

crate::input! {
    /// An archive that is to take the place of a tenant.
    pub struct TenantRestoreFromIn {
        /// The archive's name in the export store.
        pub archive: Name<1, 160>,
        /// Whether an archive is taken that another installation wrote. Left out, no.
        pub trust: Option<bool>,
        /// Whether an archive is taken that is neither of this tenant nor of one whose place it took in a restore before.
        /// Left out, no.
        pub other_tenant: Option<bool>,
    }
}

crate::output! {
    /// An archive in the export store.
    pub struct ArchiveOut {
        /// Its name.
        pub name: String,
        /// Its length in bytes.
        pub size: u64,
        /// The installation that wrote it, by its own word; null where the file is no archive.
        pub installation: Option<String>,
        /// The tenant that it is of, by its own word.
        pub tenant: Option<ArchivedTenantOut>,
        /// When its content was read, by its own word.
        pub created_at: Option<DateTime<Utc>>,
        /// When it came into the store.
        pub stored_at: DateTime<Utc>,
    }
}

crate::output! {
    /// The tenant of an archive, as it was then.
    pub struct ArchivedTenantOut {
        /// Its id.
        pub id: Uuid,
        /// Its slug.
        pub slug: String,
        /// The organization's name.
        pub name: String,
    }
}

impl From<Entry> for ArchiveOut {
    fn from(Entry { name, size, stored_at, header }: Entry) -> Self {
        let (mut installation, mut tenant, mut created_at) = (None, None, None);
        if let Some((by, ArchivedTenant { id, slug, name }, at)) = header {
            installation = Some(by);
            tenant = Some(ArchivedTenantOut { id, slug, name });
            created_at = Some(at);
        }
        Self { name: name.to_string(), size, installation, tenant, created_at, stored_at }
    }
}

/// The list of archives.
pub struct Archives;

impl Listing for Archives {
    const FIELDS: &'static [&'static str] = &["stored_at"];
    const DEFAULT: &'static str = "-stored_at";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct ArchivesApi(pub App);

/// The archive that a body names.
fn named(name: &str) -> Result<ArchiveName, Problem> {
    name.parse().map_err(|error: super::name::ArchiveNameError| Problem::field("archive", error.to_string()))
}

#[OpenApi(tag = "Tag::Admin")]
impl ArchivesApi {
    /// Export a tenant
    ///
    /// Scope `provision`: an archive holds all that a tenant has, but sessions, links, and what waits to be done. The
    /// operation's `result.archive` is its name in the export store.
    #[oai(path = "/api/admin/tenants/:id/export", method = "post", operation_id = "exportTenant")]
    async fn export(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
    ) -> Result<Accepted<OperationOut>, Problem> {
        let by = &operator.0.actor;
        let operation = service::request_export(&self.0, Which::Id(id.0), by, false).await?;
        Ok(Accepted(operation.into()))
    }

    /// Make a tenant of an archive
    ///
    /// Scope `provision`. The operation's `result.tenant` is the new tenant. None of its mails goes out until it is resumed.
    #[oai(path = "/api/admin/tenants/import", method = "post", operation_id = "importTenant")]
    async fn import(
        &self,
        operator: Provisions,
        Body(input): Body<TenantImportIn>,
    ) -> Result<Accepted<OperationOut>, Problem> {
        let ChosenSlug(slug) = input.slug;
        let (archive, trust) = (named(&input.archive)?, input.trust.unwrap_or(false));
        let import = Import { archive, slug, name: input.name.into_string(), trust };
        let operation = service::request_import(&self.0, import, &operator.0.actor, false).await?;
        Ok(Accepted(operation.into()))
    }

    /// Clone a tenant
    ///
    /// Scope `provision`. The operation's `result.tenant` is the new tenant. None of its mails goes out until it is resumed.
    #[oai(path = "/api/admin/tenants/:id/clone", method = "post", operation_id = "cloneTenant")]
    async fn clone_tenant(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
        Body(input): Body<TenantCloneIn>,
    ) -> Result<Accepted<OperationOut>, Problem> {
        let ChosenSlug(slug) = input.slug;
        let clone = CloneOf { slug, name: input.name.into_string() };
        let by = &operator.0.actor;
        let operation = service::request_clone(&self.0, Which::Id(id.0), clone, by, false).await?;
        Ok(Accepted(operation.into()))
    }

    /// Restore a tenant from an archive
    ///
    /// Scope `destroy`. The archive is loaded beside the tenant and takes its slug, name, domains, plan and limits at once.
    /// The tenant that was there is suspended and kept, by another slug: `result.replaced`. Its people sign in again. An
    /// archive of a tenant whose place this one never took is refused (409), unless `other_tenant` says that it is meant.
    #[oai(path = "/api/admin/tenants/:id/restore_from", method = "post", operation_id = "restoreTenantFrom")]
    async fn restore_from(
        &self,
        operator: Destroys,
        /// The tenant's id.
        id: Path<Uuid>,
        Body(input): Body<TenantRestoreFromIn>,
    ) -> Result<Accepted<OperationOut>, Problem> {
        let restore = Restore {
            archive: named(&input.archive)?,
            trust: input.trust.unwrap_or(false),
            other_tenant: input.other_tenant.unwrap_or(false),
        };
        let by = &operator.0.actor;
        let operation = service::request_restore(&self.0, Which::Id(id.0), restore, by, false).await?;
        Ok(Accepted(operation.into()))
    }

    /// The archives
    ///
    /// Scope `read`. What is in the export store, the latest first.
    #[oai(path = "/api/admin/archives", method = "get", operation_id = "listArchives")]
    async fn list(
        &self,
        _operator: Reads,
        query: PageQuery<Archives>,
    ) -> Result<Json<Page<ArchiveOut>>, Problem> {
        let (count, _) = service::entries(&self.0, true, (0, 0)).await?;
        let window = query.window(count)?;
        let part = (window.offset, window.limit);
        let (_, entries) = service::entries(&self.0, query.is_descending(), part).await?;
        Ok(Json(query.page(&window, entries.into_iter().map(Into::into).collect())))
    }

    /// Download an archive
    ///
    /// Scope `provision`: it holds personal data. It is sealed, and not encrypted.
    #[oai(path = "/api/admin/archives/:name", method = "get", operation_id = "downloadArchive")]
    async fn download(
        &self,
        operator: Provisions,
        /// The archive's name.
        name: Path<String>,
    ) -> Result<ArchiveFile, Problem> {
        let (name, file) = self.open(&name.0).await?;
        let detail = serde_json::json!({"archive": name.as_str()});
        let (catalog, by) = (self.0.tenancy.catalog(), &operator.0.actor);
        let recorded = audit::record(&self.0, catalog, by, Action::ArchiveDownloaded, detail).await;
        recorded.map_err(ServiceError::from)?;
        Ok(file)
    }

    /// Upload an archive
    ///
    /// Scope `provision`. It is looked at when it is imported; here only that it begins as an archive. One that is there is
    /// never written over.
    #[oai(path = "/api/admin/archives/:name", method = "put", operation_id = "uploadArchive")]
    async fn upload(
        &self,
        operator: Provisions,
        /// The archive's name: letters, digits, hyphens, underscores and dots, ending with `.tenantry`.
        name: Path<String>,
        if_match: IfMatch,
        body: ArchiveBody,
    ) -> Result<Created<ArchiveOut>, Problem> {
        let name: ArchiveName = name.0.parse().map_err(|_| Problem::not_found())?;
        let there = ArchiveFile::open(&self.0.archives, name.clone()).await?;
        if_match.check_tag(there.as_ref().map(ArchiveFile::tag))?;
        if there.is_some() {
            return Err(ArchivesError::Exists(name).into());
        }
        let draft = body.store(&self.0.archives).await?;
        let kept = name.clone();
        if !blocking(move || draft.keep_new(&kept)).await? {
            return Err(ArchivesError::Exists(name).into());
        }
        let detail = serde_json::json!({"after": {"archive": name.as_str()}});
        let (catalog, by) = (self.0.tenancy.catalog(), &operator.0.actor);
        let recorded = audit::record(&self.0, catalog, by, Action::ArchiveUploaded, detail).await;
        recorded.map_err(ServiceError::from)?;
        let directory = self.0.archives.clone();
        let entry = blocking(move || directory.entry(&name)).await?;
        Ok(Created(entry.ok_or_else(Problem::not_found)?.into()))
    }

    /// Delete an archive
    ///
    /// Scope `destroy`.
    #[oai(path = "/api/admin/archives/:name", method = "delete", operation_id = "deleteArchive")]
    async fn delete(
        &self,
        operator: Destroys,
        /// The archive's name.
        name: Path<String>,
        if_match: IfMatch,
    ) -> Result<NoContent, Problem> {
        let (name, file) = self.open(&name.0).await?;
        if_match.check_tag(Some(file.tag()))?;
        match service::remove(&self.0, &name, &operator.0.actor).await {
            Err(ArchivesError::NoSuchArchive(_)) => Err(Problem::not_found()),
            removed => Ok(removed.map(|()| NoContent)?),
        }
    }
}

impl ArchivesApi {
    /// The archive that a path names.
    async fn open(&self, name: &str) -> Result<(ArchiveName, ArchiveFile), Problem> {
        let name: ArchiveName = name.parse().map_err(|_| Problem::not_found())?;
        let file = ArchiveFile::open(&self.0.archives, name.clone()).await?;
        Ok((name, file.ok_or_else(Problem::not_found)?))
    }
}

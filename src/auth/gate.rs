//! The gate: from the names in a request to a tenant's database, and from its token to a user. Every request passes
//! here once, before its endpoint, so no endpoint can forget it.

use std::{sync::Arc, time::Duration};

use poem::Request;
use tenants::{Slug, Status, Tenant, TenantDb, TenantName};
use uuid::Uuid;

use super::{Caller, Claims, sessions};
use crate::{
    error::ServiceError,
    http::{
        Admission, ClientAddr, Face, Gate, Host, Origin, Problem, Turn, Viewer, bearer::Bearer,
        routes::is_admin,
    },
    impersonation::{self, Call},
    limits, metrics, operators,
    state::{App, Site},
};

/// When a process that serves this tenant's schema version may be there.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Lets users into tenants, and operators into the installation.
#[derive(Clone, Debug)]
pub struct TenantGate {
    app: App,
    face: Face,
}

/// What the host of a request says.
enum HostName {
    /// The service itself, or an address: no tenant.
    None,
    /// `<slug>.<base domain>`.
    Slug(Slug),
    /// A host of somebody's own, or nobody's.
    Domain(String),
    /// Under the base domain, but nothing that could be a slug.
    Nobody,
}

impl HostName {
    fn of(host: &Host, site: &Site) -> Self {
        let Host::Name(name) = host else { return Self::None };
        let names_no_tenant = [site.base_domain.as_str(), "localhost"].contains(&name.as_str())
            || site.public_url.host_str() == Some(name);
        if names_no_tenant {
            return Self::None;
        }
        // Links in mails lead to names under the public URL's host, which need not be the base domain.
        let domains = [site.public_url.host_str(), Some(&site.base_domain)];
        let label =
            domains.into_iter().flatten().find_map(|domain| name.strip_suffix(domain)?.strip_suffix('.'));
        match label {
            Some(label) => label.parse().map_or(Self::Nobody, Self::Slug),
            None => Self::Domain(name.clone()),
        }
    }
}

impl Gate for TenantGate {
    async fn is_there(&self, host: &Host, route: &str) -> Result<bool, Problem> {
        if self.face == Face::Metrics || !(is_admin(route) || route == metrics::PATH) {
            return Ok(true);
        }
        Ok(match HostName::of(host, &self.app.site) {
            HostName::None => true,
            // A listener of its own may be called as its operators like, but not like a tenant.
            HostName::Domain(domain) if self.face == Face::Admin => {
                let found = self.app.tenancy.resolver().resolve(TenantName::Domain(domain)).await;
                found.map_err(ServiceError::from)?.is_none()
            }
            HostName::Slug(_) | HostName::Nobody | HostName::Domain(_) => false,
        })
    }

    async fn admit(&self, request: &mut Request, admission: &Admission) -> Result<(), Problem> {
        if is_admin(&admission.route) {
            return self.admit_operator(request, admission).await;
        }
        if !admission.access.tenant {
            return Ok(());
        }
        let (tenant, claims) = self.resolve(admission).await?;
        check_status(&tenant)?;
        let db = self.app.tenancy.database_of(Arc::clone(&tenant));
        let mut viewer = Viewer { tenant: Some(tenant.id), user: None };
        // For the log, which tells of those that are refused too.
        request.extensions_mut().insert(viewer);
        let claims = match claims {
            None if admission.access.credentials => Some(self.claims(&admission.bearer).await?),
            claims => claims,
        };
        if claims.as_ref().is_some_and(|claims| claims.tenant != tenant.id) {
            return Err(Problem::token_not_valid());
        }
        // Before the first query: who sends too much costs the database nothing. Asked a second time, it is the same request.
        if admission.turn == Turn::First {
            let place = request.extensions().get();
            let (visit, entered) = limits::enter(&self.app, &tenant, place).await;
            request.extensions_mut().insert(visit);
            entered?;
        }
        if let Some(claims) = claims {
            let caller = self.caller(&db, &claims).await?;
            if claims.act.is_some() && admission.turn != Turn::Afterwards {
                let call = Call {
                    tenant: tenant.id,
                    session: claims.sid,
                    method: request.method(),
                    route: &admission.route,
                    path: request.uri().path(),
                    ip: ClientAddr::of(request).0,
                };
                // Rare, and its future is large.
                Box::pin(impersonation::admit(&self.app, &call)).await?;
            }
            viewer.user = Some(caller.account.pk);
            request.extensions_mut().insert(caller);
        }
        request.extensions_mut().insert(viewer);
        request.extensions_mut().insert(self.origin(admission));
        request.extensions_mut().insert(db);
        Ok(())
    }
}

impl TenantGate {
    /// The gate of a listener.
    #[must_use]
    pub fn new(app: App, face: Face) -> Self {
        Self { app, face }
    }

    async fn admit_operator(&self, request: &mut Request, admission: &Admission) -> Result<(), Problem> {
        if admission.access.credentials {
            let identity = operators::identify(&self.app, &admission.bearer).await?;
            request.extensions_mut().insert(Viewer { tenant: None, user: Some(identity.operator) });
            request.extensions_mut().insert(identity);
        }
        request.extensions_mut().insert(self.admin_origin(admission));
        Ok(())
    }

    /// As [`origin`](Self::origin). A listener of its own is nowhere but where it was asked; for other machines, behind
    /// what ends TLS for the public URL, too.
    fn admin_origin(&self, admission: &Admission) -> Origin {
        if self.face != Face::Admin {
            return self.origin(admission);
        }
        let scheme = match &admission.host {
            Host::Name(name) if name != "localhost" => self.app.site.public_url.scheme(),
            _ => "http",
        };
        let port = admission.port.map(|port| format!(":{port}")).unwrap_or_default();
        Origin(format!("{scheme}://{}{port}", admission.host).into())
    }

    /// The tenant that the request names, by whichever source; and what its token says, where that was needed for it.
    async fn resolve(&self, admission: &Admission) -> Result<(Arc<Tenant>, Option<Claims>), Problem> {
        let header = admission.x_tenant.as_deref();
        let host = HostName::of(&admission.host, &self.app.site);
        let name = match (&host, header) {
            (HostName::Slug(slug), Some(header)) if slug.as_str() != header => {
                return Err(Problem::tenant_mismatch());
            }
            (HostName::Nobody, Some(_)) => return Err(Problem::tenant_mismatch()),
            (HostName::Nobody, None) => return Err(Problem::tenant_not_found()),
            (HostName::Slug(slug), _) => TenantName::Slug(slug.clone()),
            (HostName::Domain(domain), _) => TenantName::Domain(domain.clone()),
            (HostName::None, Some(header)) => {
                TenantName::Slug(header.parse().map_err(|_| Problem::tenant_not_found())?)
            }
            (HostName::None, None) => return self.resolve_by_token(admission).await,
        };
        let tenant = self.find(name).await?;
        if matches!(host, HostName::Domain(_)) && header.is_some_and(|header| header != tenant.slug.as_str())
        {
            return Err(Problem::tenant_mismatch());
        }
        Ok((tenant, None))
    }

    async fn resolve_by_token(
        &self,
        admission: &Admission,
    ) -> Result<(Arc<Tenant>, Option<Claims>), Problem> {
        if !admission.access.credentials || admission.bearer == Bearer::Absent {
            return Err(Problem::tenant_required());
        }
        // A token that is there and not valid is told so: its owner has to refresh it, not to name a tenant.
        let claims = self.claims(&admission.bearer).await?;
        Ok((self.find(TenantName::Id(claims.tenant)).await?, Some(claims)))
    }

    async fn find(&self, name: TenantName) -> Result<Arc<Tenant>, Problem> {
        let found = self.app.tenancy.resolver().resolve(name).await.map_err(ServiceError::from)?;
        found.ok_or_else(Problem::tenant_not_found)
    }

    async fn claims(&self, bearer: &Bearer) -> Result<Claims, Problem> {
        let token = match bearer {
            Bearer::Absent => return Err(Problem::not_authenticated()),
            Bearer::Malformed => return Err(Problem::token_not_valid()),
            Bearer::Token(token) => token,
        };
        let claims = self.app.tokens.verify(token).await.map_err(ServiceError::from)?;
        claims.ok_or_else(Problem::token_not_valid)
    }

    /// The user of the token's session, if both are still there: asked at every request, so that what ended is ended.
    async fn caller(&self, db: &TenantDb, claims: &Claims) -> Result<Caller, Problem> {
        let account = sessions::account_of(db, claims.sid, claims.sub, self.app.clock.now())
            .await
            .map_err(ServiceError::from)?
            .ok_or_else(Problem::token_not_valid)?;
        Ok(Caller { account: Arc::new(account), session: claims.sid })
    }

    /// What links in answers start with: the host that was asked, where it is one of ours; else the public URL.
    fn origin(&self, admission: &Admission) -> Origin {
        let site = &self.app.site;
        let ours = match HostName::of(&admission.host, site) {
            // The tenant was found by it.
            HostName::Slug(_) | HostName::Domain(_) => true,
            HostName::None => matches!(&admission.host, Host::Name(name) if *name == site.base_domain),
            HostName::Nobody => false,
        };
        if !ours {
            return Origin(site.issuer().into());
        }
        let port = admission.port.map(|port| format!(":{port}")).unwrap_or_default();
        Origin(format!("{}://{}{port}", site.public_url.scheme(), admission.host).into())
    }
}

/// The tenant's database, if whoever was let in by this session would be let in by it again now, with a token that is still
/// valid; `None` if not.
///
/// # Errors
/// The catalog or the tenant could not be asked.
pub(crate) async fn admit_again(
    app: &App,
    tenant: Uuid,
    user: Uuid,
    session: Uuid,
) -> Result<Option<TenantDb>, ServiceError> {
    let found = app.tenancy.resolver().resolve(TenantName::Id(tenant)).await?;
    let Some(tenant) = found.filter(|tenant| check_status(tenant).is_ok()) else { return Ok(None) };
    let db = app.tenancy.database_of(tenant);
    Ok(sessions::goes_on(&db, session, user, app.clock.now()).await?.then_some(db))
}

fn check_status(tenant: &Tenant) -> Result<(), Problem> {
    match tenant.status {
        Status::Suspended => Err(Problem::tenant_suspended()),
        Status::Deleting | Status::Purging => Err(Problem::tenant_not_found()),
        Status::Active if !tenant.is_served() => Err(Problem::unavailable(RETRY_AFTER)),
        Status::Active => Ok(()),
    }
}

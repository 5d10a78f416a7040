//! What every endpoint has at hand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tenants::Tenancy;
use tokio::sync::watch;
use url::Url;

use crate::{
    auth::Tokens, clock::Clock, mail::Mailer, metrics::Metrics, password::Hasher, streams::Streams,
    throttle::Throttles,
};

/// The parts of the running service. Cloning it costs a reference count.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parts: Parts,
    metrics: Metrics,
    /// Whether something was left for the workers since they were last woken.
    left: AtomicBool,
    wake: watch::Sender<()>,
    leaving: AtomicBool,
}

/// What an [`App`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// The installation: its tenants and its catalog.
    pub tenancy: Tenancy,
    /// The time.
    pub clock: Clock,
    /// Hashes passwords.
    pub hasher: Hasher,
    /// Makes and checks access tokens.
    pub tokens: Tokens,
    /// Delivers mails.
    pub mailer: Mailer,
    /// Where the service is.
    pub site: Site,
    /// What is refused when it happens too often.
    pub throttles: Throttles,
    /// The answers that go on.
    pub streams: Streams,
    /// Whether strangers may sign organizations up.
    pub tenant_sign_up: bool,
    /// For how long an organization that was deleted can be restored.
    pub grace: chrono::TimeDelta,
    /// The archives of tenants.
    pub archives: crate::archives::Directory,
}

impl App {
    /// The service made of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (left, wake) = (AtomicBool::new(false), watch::Sender::new(()));
        let leaving = AtomicBool::new(false);
        Self(Arc::new(Shared { parts, metrics: Metrics::default(), left, wake, leaving }))
    }

    /// What this process counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Has whoever asks sent elsewhere: the process is about to stop. What comes is answered none the less.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether it is about to stop.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::Relaxed)
    }

    /// Notes that something is being left for the workers. They are woken once it is committed.
    pub(crate) fn leaves_work(&self) {
        self.0.left.store(true, Ordering::Release);
    }

    /// Wakes this process's workers if something was left for them. A hint: they look by themselves each second, for what
    /// was left elsewhere, and for what is committed only after the hint was used up.
    pub(crate) fn wake_workers(&self) {
        // Most requests leave nothing, and then nobody is to wait for the line of memory that all share.
        if self.0.left.load(Ordering::Acquire) && self.0.left.swap(false, Ordering::AcqRel) {
            self.0.wake.send_replace(());
        }
    }

    /// Hears when workers are woken.
    pub(crate) fn work(&self) -> watch::Receiver<()> {
        self.0.wake.subscribe()
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

/// Where the service is, from outside.
#[derive(Clone, Debug)]
pub struct Site {
    /// `example.com`: tenants are `<slug>.example.com`. In lower case, without a final dot.
    pub base_domain: String,
    /// Where links lead to that name no tenant.
    pub public_url: Url,
    /// Where the pages are that links in mails lead to, if it is not the server that has them.
    pub frontend_url: Option<Url>,
}

impl Site {
    /// Where a tenant is: `<scheme>://<slug>.<host and port of the public URL>`. Never built from a request.
    #[must_use]
    pub fn tenant_url(&self, slug: &tenants::Slug) -> String {
        let port = self.public_url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = self.public_url.host_str().unwrap_or(&self.base_domain);
        format!("{}://{slug}.{host}{port}", self.public_url.scheme())
    }

    /// Where a tenant's people work: at the tenant itself, or with a front end `<front end>/?tenant=<slug>`.
    #[must_use]
    pub fn home(&self, slug: &tenants::Slug) -> String {
        match &self.frontend_url {
            Some(frontend) => format!("{}/?tenant={slug}", frontend.as_str().trim_end_matches('/')),
            None => self.tenant_url(slug),
        }
    }

    /// Where a link in a mail leads: `<tenant>/account/<page>?token=…`, or with a front end
    /// `<front end>/account/<page>?tenant=<slug>&token=…`.
    #[must_use]
    pub fn account_link(&self, slug: &tenants::Slug, page: &str, token: &str) -> String {
        match &self.frontend_url {
            Some(frontend) => {
                let frontend = frontend.as_str().trim_end_matches('/');
                format!("{frontend}/account/{page}?tenant={slug}&token={token}")
            }
            None => format!("{}/account/{page}?token={token}", self.tenant_url(slug)),
        }
    }

    /// The public URL without a final slash: the issuer of tokens.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.public_url.as_str().trim_end_matches('/').to_owned()
    }
}

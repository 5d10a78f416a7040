//! TLS in the process, by rustls: certificates for one name or for many, and their files as they change.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use futures_util::future::join_all;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::ServerName,
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use super::{Signals, certificate::Certificate, follow::Follower};
use crate::clock::Clock;

/// A certificate with the chain above it, and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate first, then what signed it.
    pub chain: PathBuf,
    /// The key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, io::Error),
    /// There is no certificate in it.
    #[error("{0} holds no certificate in PEM")]
    NoCertificate(String),
    /// One of the certificates in it is none.
    #[error("{0}: certificate {1} in it is garbled")]
    Garbled(String, usize),
    /// There is no key in it. What is in it is not told.
    #[error("{0} holds no key in PEM that is not encrypted")]
    NoKey(String),
    /// They are of no use together.
    #[error("{chain} and {key} cannot be used together: {source}")]
    Unusable {
        /// The file with the certificate.
        chain: String,
        /// The file with the key.
        key: String,
        /// What is wrong.
        source: rustls::Error,
    },
    /// No protocol can be spoken: a defect.
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
}

/// What speaks TLS. Clones share the certificates.
#[derive(Clone)]
pub struct Tls {
    pairs: Arc<Pairs>,
    acceptor: Arc<RwLock<TlsAcceptor>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.0.iter().map(|pair| &pair.files)).finish()
    }
}

/// The certificates, the first of which is for whoever asks for none of the others.
#[derive(Debug)]
struct Pairs(Vec<Arc<Pair>>);

/// Two files and what they held when that was of use.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) files: CertificateFiles,
    loaded: RwLock<Certificate>,
}

impl Pair {
    fn load(files: &CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let loaded = RwLock::new(Certificate::read(files)?);
        Ok(Arc::new(Self { files: files.clone(), loaded }))
    }

    pub(super) fn loaded(&self) -> Certificate {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn reload(&self) -> Result<bool, TlsError> {
        let loaded = Certificate::read(&self.files)?;
        if loaded.from == self.loaded().from {
            return Ok(false);
        }
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        tracing::info!(file = %self.files.chain.display(), "the certificate changed");
        Ok(true)
    }
}

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut keys = self.0.iter().map(|pair| pair.loaded().key);
        let name = hello.server_name().filter(|_| self.0.len() > 1);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| keys.find(|key| is_for(key, &name)));
        named.or_else(|| self.0.first().map(|pair| pair.loaded().key))
    }
}

/// Whether a certificate is for this name, by a wildcard too.
fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok().and_then(|it| webpki::EndEntityCert::try_from(it).ok());
    certificate.is_some_and(|it| it.verify_is_valid_for_subject_name(name).is_ok())
}

impl Pairs {
    /// With sessions of its own.
    fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            // 1.2 and 1.3, with the suites that rustls has: all of them with forward secrecy and authenticated.
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        // No h2: over it, a client that takes nothing of one answer holds it in memory for as long as it likes, a hundred
        // times per connection, and there is no deadline to set for that. A proxy speaks it to browsers.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl Tls {
    /// With the certificates in these files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(files: &[CertificateFiles]) -> Result<Self, TlsError> {
        let pairs = Arc::new(Pairs(files.iter().map(Pair::load).collect::<Result<_, _>>()?));
        let acceptor = Arc::new(RwLock::new(pairs.acceptor()?));
        Ok(Self { pairs, acceptor })
    }

    /// What a connection is encrypted with that comes now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Never ends: takes other certificates when the files hold some, looked at every few seconds and on SIGHUP, each pair for
    /// itself. What cannot be used changes nothing. Of one that has ended, or is about to, it is told at once, and every day.
    pub async fn follow(&self, signals: &Signals, clock: &Clock) {
        let followers = self.pairs.0.iter().map(|pair| {
            let changed = || self.forget_sessions();
            Follower::of(pair).follow(signals, clock, changed)
        });
        join_all(followers).await;
    }

    /// Those of before would go on without having been shown the new certificate.
    fn forget_sessions(&self) {
        match self.pairs.acceptor() {
            Ok(acceptor) => *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor,
            // It went well with the same at the start.
            Err(error) => tracing::error!(%error, "sessions with the certificate of before go on"),
        }
    }

    /// Takes what the files hold now, of each pair that can be used. Whether that was anything new.
    ///
    /// # Errors
    /// See [`TlsError`]; what is wrong with the first of those that cannot be used, whose certificates are those of before.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let reloaded: Vec<_> = self.pairs.0.iter().map(|pair| pair.reload()).collect();
        if reloaded.iter().any(|changed| matches!(changed, Ok(true))) {
            self.forget_sessions();
        }
        reloaded.into_iter().try_fold(false, |any, changed| Ok(any | changed?))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

    use super::*;

    fn write(directory: &Path, name: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let Made { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let [chain, key] = ["pem", "key"].map(|kind| directory.join(format!("{name}.{kind}")));
        std::fs::write(&chain, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        CertificateFiles { chain, key }
    }

    #[test]
    fn a_certificate_is_for_its_names_and_for_what_its_wildcard_covers() {
        let directory = tempfile::tempdir().unwrap();
        let files = write(directory.path(), "a", &["example.com", "*.example.com"]);
        let key = Tls::load(&[files]).unwrap().pairs.0[0].loaded().key;
        let is_for = |name: &str| is_for(&key, &ServerName::try_from(name.to_owned()).unwrap());
        assert!(is_for("example.com") && is_for("acme.example.com"));
        assert!(!is_for("a.b.example.com") && !is_for("example.org"));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_key_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| write(directory.path(), name, &["example.com"]));
        let tls = Tls::load(std::slice::from_ref(&one)).unwrap();
        let before = tls.pairs.0[0].loaded();
        assert!(!tls.reload().unwrap(), "nothing has changed");

        std::fs::copy(&other.key, &one.key).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("one.pem") && error.contains("cannot be used together"), "{error}");
        std::fs::write(&one.key, "-----BEGIN s3cret").unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("holds no key") && !error.contains("s3cret"), "{error}");
        let whole = std::fs::read_to_string(&other.chain).unwrap();
        for (chain, index) in [(whole[..60].to_owned(), 1), (format!("{whole}{}", &whole[..60]), 2)] {
            std::fs::write(&one.chain, chain).unwrap();
            let error = tls.reload().unwrap_err().to_string();
            assert!(error.contains(&format!("certificate {index} in it is garbled")), "{error}");
        }
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&one.chain, std::fs::read_to_string(&other.chain).unwrap() + garbled).unwrap();
        std::fs::copy(&other.key, &one.key).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("certificate 2 in it is garbled"), "{error}");
        std::fs::write(&one.chain, "").unwrap();
        assert!(tls.reload().unwrap_err().to_string().contains("holds no certificate"));
        std::fs::remove_file(&one.chain).unwrap();
        assert!(tls.reload().unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(tls.pairs.0[0].loaded().from, before.from);

        std::fs::copy(&other.chain, &one.chain).unwrap();
        std::fs::copy(&other.key, &one.key).unwrap();
        assert!(tls.reload().unwrap());
        assert_ne!(tls.pairs.0[0].loaded().from, before.from);
    }

    #[test]
    fn each_pair_is_renewed_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other, new] =
            ["one", "other", "new"].map(|name| write(directory.path(), name, &["example.com"]));
        let tls = Tls::load(&[other.clone(), one.clone()]).unwrap();
        let hashes = || [0, 1].map(|pair| tls.pairs.0[pair].loaded().from);
        let before = hashes();
        std::fs::remove_file(&other.chain).unwrap();
        std::fs::copy(&new.chain, &one.chain).unwrap();
        std::fs::copy(&new.key, &one.key).unwrap();
        assert!(tls.reload().unwrap_err().to_string().contains("other.pem cannot be read"));
        assert!(hashes()[0] == before[0] && hashes()[1] != before[1]);
    }
}

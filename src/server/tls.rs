//! TLS in the process, by rustls: certificates for one name or for many, and their files as they change.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use blake3::Hash;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

/// How often the files are looked at. Those who renew certificates do so days before the old one ends, but one that was
/// stolen is to be gone when it is replaced.
const POLL: Duration = Duration::from_secs(5);

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
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.certificates.files)
    }
}

/// The certificates, the first of which is for whoever asks for none of the others.
struct Certificates {
    files: Vec<CertificateFiles>,
    loaded: RwLock<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    keys: Arc<[Arc<CertifiedKey>]>,
    /// The hash of what the files held.
    from: Hash,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl Certificates {
    fn loaded(&self) -> Loaded {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.loaded().keys;
        let name = hello.server_name().filter(|_| keys.len() > 1);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| keys.iter().find(|key| is_for(key, &name)));
        named.or(keys.first()).cloned()
    }
}

/// Whether a certificate is for this name, by a wildcard too.
fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok().and_then(|it| webpki::EndEntityCert::try_from(it).ok());
    certificate.is_some_and(|it| it.verify_is_valid_for_subject_name(name).is_ok())
}

impl Tls {
    /// With the certificates in these files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(files: &[CertificateFiles]) -> Result<Self, TlsError> {
        let loaded = RwLock::new(read(files)?);
        let certificates = Arc::new(Certificates { files: files.to_vec(), loaded });
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            // 1.2 and 1.3, with the suites that rustls has: all of them with forward secrecy and authenticated.
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        // No h2: over it, a client that takes nothing of one answer holds it in memory for as long as it likes, a hundred
        // times per connection, and there is no deadline to set for that. A proxy speaks it to browsers.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificates })
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Takes other certificates when the files hold some, for as long as this is awaited: looked at every few seconds, and on
    /// SIGHUP. What cannot be used changes nothing.
    ///
    /// # Errors
    /// Signals cannot be listened for.
    pub async fn follow(&self) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut complained = None;
        loop {
            tokio::select! {
                () = sleep(POLL) => {}
                // Somebody waits for what comes of it.
                _ = hangup.recv() => complained = None,
            }
            let tls = self.clone();
            let Ok(reloaded) = tokio::task::spawn_blocking(move || tls.reload()).await else { continue };
            let complaint = reloaded.err().map(|error| error.to_string());
            if complaint != complained
                && let Some(error) = &complaint
            {
                // Once, not every few seconds.
                tracing::error!(error, "the new certificate is of no use, the one before stays");
            }
            complained = complaint;
        }
    }

    /// Takes what the files hold now. Whether that was anything new.
    ///
    /// # Errors
    /// See [`TlsError`]; the certificates are those of before.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let loaded = read(&self.certificates.files)?;
        if loaded.from == self.certificates.loaded().from {
            return Ok(false);
        }
        *self.certificates.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        tracing::info!("the certificates changed");
        Ok(true)
    }
}

fn read(files: &[CertificateFiles]) -> Result<Loaded, TlsError> {
    let mut hasher = blake3::Hasher::new();
    let keys: Vec<_> = files.iter().map(|files| certified(files, &mut hasher)).collect::<Result<_, _>>()?;
    Ok(Loaded { keys: keys.into(), from: hasher.finalize() })
}

fn certified(files: &CertificateFiles, hasher: &mut blake3::Hasher) -> Result<Arc<CertifiedKey>, TlsError> {
    let [chain, key] = [&files.chain, &files.key].map(|path| path.display().to_string());
    let read = |path: &PathBuf, name: &str| {
        std::fs::read(path).map_err(|error| TlsError::Unreadable(name.to_owned(), error))
    };
    let pem = read(&files.chain, &chain)?;
    hasher.update(&pem);
    let certificates: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.ok().filter(|all| !all.is_empty());
    let certificates = certificates.ok_or_else(|| TlsError::NoCertificate(chain.clone()))?;
    let pem = secrecy::zeroize::Zeroizing::new(read(&files.key, &key)?);
    hasher.update(&pem);
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey(key.clone()))?;
    // It compares the key with the certificate's, too.
    match CertifiedKey::from_der(certificates, private, &ring::default_provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(source) => Err(TlsError::Unusable { chain, key, source }),
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
        let key = Arc::clone(&Tls::load(&[files]).unwrap().certificates.loaded().keys[0]);
        let is_for = |name: &str| is_for(&key, &ServerName::try_from(name.to_owned()).unwrap());
        assert!(is_for("example.com") && is_for("acme.example.com"));
        assert!(!is_for("a.b.example.com") && !is_for("example.org"));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_key_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| write(directory.path(), name, &["example.com"]));
        let tls = Tls::load(std::slice::from_ref(&one)).unwrap();
        let before = tls.certificates.loaded();
        assert!(!tls.reload().unwrap(), "nothing has changed");

        std::fs::copy(&other.key, &one.key).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("one.pem") && error.contains("cannot be used together"), "{error}");
        std::fs::write(&one.key, "-----BEGIN s3cret").unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("holds no key") && !error.contains("s3cret"), "{error}");
        std::fs::write(&one.chain, "").unwrap();
        assert!(tls.reload().unwrap_err().to_string().contains("holds no certificate"));
        std::fs::remove_file(&one.chain).unwrap();
        assert!(tls.reload().unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(tls.certificates.loaded().from, before.from);

        std::fs::copy(&other.chain, &one.chain).unwrap();
        std::fs::copy(&other.key, &one.key).unwrap();
        assert!(tls.reload().unwrap());
        assert_ne!(tls.certificates.loaded().from, before.from);
    }
}

//! The keys of an installation: one master key from the operator wraps the random data keys kept in the catalog.

use std::{collections::HashMap, fmt};

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString, zeroize::Zeroizing};
use sha2::Sha256;

use crate::Error;

const NONCE_LEN: usize = 24;

/// 256 secret bits. Never printed; wiped when dropped.
pub struct SecretKey(SecretBox<[u8; 32]>);

impl SecretKey {
    /// A key from bytes that came from elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    /// A new random key, from the operating system's generator by way of a CSPRNG.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_bytes(rand::random())
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// HMAC-SHA-256 (RFC 2104) of `message` under this key.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        let mut mac = self.hmac();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` is what [`mac`](Self::mac) gives for `message`, compared in constant time.
    #[must_use]
    pub fn verifies(&self, message: &[u8], tag: &[u8]) -> bool {
        let mut mac = self.hmac();
        mac.update(message);
        mac.verify_slice(tag).is_ok()
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    fn hmac(&self) -> Hmac<Sha256> {
        <Hmac<Sha256> as KeyInit>::new_from_slice(self.expose()).expect("HMAC takes keys of any length")
    }

    /// Encrypts `plain` with XChaCha20-Poly1305 under a random nonce, which comes first in the result. `context` is
    /// authenticated with it: what was sealed for one place does not open in another.
    ///
    /// # Errors
    /// [`Error::Sealed`], for a text of more than 256 GiB.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: context.as_bytes() })
            .map_err(|_| Error::Sealed)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// What [`seal`](Self::seal) made of the text for this `context`, undone. Wiped when dropped.
    ///
    /// # Errors
    /// [`Error::Sealed`] where the key, the context or the text is another.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Error::Sealed)?;
        self.cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: context.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| Error::Sealed)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.expose().into())
    }
}

impl Clone for SecretKey {
    fn clone(&self) -> Self {
        Self::from_bytes(*self.expose())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// What a data key is for. Each use has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKey {
    /// Wraps the private halves of the signing keys.
    Signing,
    /// Encrypts what is secret in the payload of a job.
    Outbox,
    /// Hashes refresh tokens and derives their successors.
    Refresh,
    /// Hashes e-mail addresses for the blind index.
    BlindIndex,
    /// Derives the passwords of the installation's logins.
    Lanes,
    /// Signs cursors that clients bring back.
    Cursor,
    /// Seals archives.
    Archive,
}

impl DataKey {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Signing,
        Self::Outbox,
        Self::Refresh,
        Self::BlindIndex,
        Self::Lanes,
        Self::Cursor,
        Self::Archive,
    ];

    /// Its name in the catalog.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Outbox => "outbox",
            Self::Refresh => "refresh",
            Self::BlindIndex => "blind_index",
            Self::Lanes => "lanes",
            Self::Cursor => "cursor",
            Self::Archive => "archive",
        }
    }

    /// What its wrapping is bound to.
    pub(crate) fn context(self) -> String {
        data_key_context(self.name())
    }
}

/// What the wrapping of the data key of this name is bound to.
pub(crate) fn data_key_context(name: &str) -> String {
    format!("tenantry data key {name}")
}

/// The unwrapped data keys of an installation.
#[derive(Debug)]
pub(crate) struct DataKeys(HashMap<DataKey, SecretKey>);

impl DataKeys {
    pub(crate) fn unwrap(
        master: &SecretKey,
        wrapped: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, Error> {
        let mut keys = HashMap::new();
        for (name, wrapped) in wrapped {
            let Some(key) = DataKey::ALL.into_iter().find(|key| key.name() == name) else { continue };
            let bytes = master.open(&key.context(), &wrapped)?;
            keys.insert(key, SecretKey::from_bytes(bytes.as_slice().try_into().map_err(|_| Error::Sealed)?));
        }
        match DataKey::ALL.into_iter().find(|key| !keys.contains_key(key)) {
            Some(missing) => Err(Error::MissingDataKey(missing.name())),
            None => Ok(Self(keys)),
        }
    }

    /// The key for this use.
    pub(crate) fn get(&self, key: DataKey) -> &SecretKey {
        &self.0[&key]
    }

    /// The password of one of the installation's logins. It is derived and never stored, so that it can be set again
    /// on another cluster, from the catalog alone.
    pub(crate) fn login_password(&self, role: &str) -> SecretString {
        data_encoding::HEXLOWER.encode(&self.get(DataKey::Lanes).mac(role.as_bytes())).into()
    }
}

/// The SCRAM-SHA-256 verifier of a password, as `ALTER ROLE … PASSWORD` takes it: so the password itself stands in no
/// statement and in no log of the server. RFC 5803; 4096 iterations, PostgreSQL's own default.
pub(crate) fn scram_verifier(password: &str) -> String {
    use data_encoding::BASE64;
    use sha2::Digest;

    const ITERATIONS: u32 = 4096;
    let salt: [u8; 16] = rand::random();
    let password = SecretBytes(password.as_bytes());
    // PBKDF2 with one block of output (RFC 8018, 5.2).
    let mut block = password.mac(&[&salt[..], &1_u32.to_be_bytes()].concat());
    let mut salted = block;
    for _ in 1..ITERATIONS {
        block = password.mac(&block);
        salted.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    let salted = SecretBytes(&salted);
    let stored_key = Sha256::digest(salted.mac(b"Client Key"));
    let server_key = salted.mac(b"Server Key");
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        BASE64.encode(&salt),
        BASE64.encode(&stored_key),
        BASE64.encode(&server_key)
    )
}

/// An HMAC key of any length, borrowed.
struct SecretBytes<'a>(&'a [u8]);

impl SecretBytes<'_> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        let mut mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(self.0).expect("HMAC takes keys of any length");
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_context_only() {
        let key = SecretKey::generate();
        let sealed = key.seal("here", b"secret").unwrap();
        assert_eq!(*key.open("here", &sealed).unwrap(), b"secret");
        assert!(key.open("there", &sealed).is_err());
        assert!(SecretKey::generate().open("here", &sealed).is_err());
        assert!(key.open("here", &sealed[..10]).is_err());
        let mut tampered = sealed;
        *tampered.last_mut().unwrap() ^= 1;
        assert!(key.open("here", &tampered).is_err());
    }

    #[test]
    fn sealing_twice_gives_different_texts() {
        let key = SecretKey::generate();
        assert_ne!(key.seal("here", b"secret").unwrap(), key.seal("here", b"secret").unwrap());
    }

    #[test]
    fn a_missing_data_key_is_named() {
        let master = SecretKey::generate();
        let wrapped = DataKey::ALL.into_iter().filter(|key| *key != DataKey::Cursor).map(|key| {
            (key.name().to_owned(), master.seal(&key.context(), SecretKey::generate().expose()).unwrap())
        });
        let error = DataKeys::unwrap(&master, wrapped).unwrap_err();
        assert!(matches!(error, Error::MissingDataKey("cursor")), "{error}");
    }

    #[test]
    fn a_key_never_shows_in_its_debug_text() {
        let key = SecretKey::from_bytes([0x41; 32]);
        assert_eq!(format!("{key:?}"), "SecretKey(…)");
    }
}

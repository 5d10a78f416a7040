//! A certificate and its key, out of their files.

use std::{fs, sync::Arc};

use blake3::Hash;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use secrecy::zeroize::Zeroizing;
use tokio_rustls::rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::tls::{CertificateFiles, TlsError};

/// How long before its end a certificate is to be replaced, at least where it is for months: those who issue them renew those
/// for three months a month before.
const SOON: TimeDelta = TimeDelta::days(14);
/// Tags of DER (X.690): the version of a certificate, and the two kinds of time (RFC 5280, 4.1.2.5).
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// What a pair of files held.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// The hash of it.
    pub(super) from: Hash,
    begins: DateTime<Utc>,
    ends: DateTime<Utc>,
}

impl Certificate {
    /// Reads it. Every certificate of the chain has to be one: clients break off at one that is not.
    pub(super) fn read(files: &CertificateFiles) -> Result<Self, TlsError> {
        let [chain, key] = [&files.chain, &files.key].map(|path| path.display().to_string());
        let mut hasher = blake3::Hasher::new();
        let pem = fs::read(&files.chain).map_err(|error| TlsError::Unreadable(chain.clone(), error))?;
        hasher.update(&pem);
        let certificates = CertificateDer::pem_slice_iter(&pem)
            .enumerate()
            .map(|(index, certificate)| certificate.map_err(|_| TlsError::Garbled(chain.clone(), index + 1)));
        let certificates: Vec<CertificateDer<'static>> = certificates.collect::<Result<_, _>>()?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate(chain));
        }
        let validities = certificates.iter().enumerate().map(|(index, certificate)| {
            validity(certificate).ok_or_else(|| TlsError::Garbled(chain.clone(), index + 1))
        });
        let validities: Vec<_> = validities.collect::<Result<_, _>>()?;
        // What signed it ends the chain, too.
        let begins = validities.iter().map(|(begins, _)| *begins).max().unwrap_or_default();
        let ends = validities.iter().map(|(_, ends)| *ends).min().unwrap_or_default();
        let pem = fs::read(&files.key).map_err(|error| TlsError::Unreadable(key.clone(), error))?;
        let pem = Zeroizing::new(pem);
        hasher.update(&pem);
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey(key.clone()))?;
        // It compares the key with the certificate's, too.
        match CertifiedKey::from_der(certificates, private, &ring::default_provider()) {
            Ok(certified) => Ok(Self { key: Arc::new(certified), from: hasher.finalize(), begins, ends }),
            Err(source) => Err(TlsError::Unusable { chain, key, source }),
        }
    }

    /// What is to be told of its time at this one, if anything.
    pub(super) fn warning(&self, now: DateTime<Utc>) -> Option<String> {
        let (begins, ends) = (self.begins.to_rfc3339(), self.ends.to_rfc3339());
        // One for six days is renewed when it has two left.
        let soon = SOON.min((self.ends - self.begins) / 5);
        if now >= self.ends {
            Some(format!("it ended at {ends}: clients refuse it"))
        } else if now < self.begins {
            Some(format!("it begins at {begins}: clients refuse it until then"))
        } else if self.ends - now < soon {
            Some(format!("it ends at {ends}, and is not renewed yet"))
        } else {
            None
        }
    }
}

/// From when until when a certificate is good (RFC 5280, 4.1); `None` if it is none.
fn validity(der: &[u8]) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let (_, certificate, []) = element(der)? else { return None };
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        (_, _, fields) = element(fields)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (_, validity, _) = element(fields)?;
    let (tag, begins, rest) = element(validity)?;
    let begins = time(tag, begins)?;
    let (tag, ends, _) = element(rest)?;
    Some((begins, time(tag, ends)?))
}

/// The first element: its tag and what is in it; and what is behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// A time; the years of a short one are those from 1950 on.
fn time(tag: u8, text: &[u8]) -> Option<DateTime<Utc>> {
    let text = str::from_utf8(text).ok()?;
    let text = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok().map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn day(year: i32, month: u32, day: u32) -> DateTime<Utc> {
        chrono::NaiveDate::from_ymd_opt(year, month, day).unwrap().and_time(chrono::NaiveTime::MIN).and_utc()
    }

    #[test]
    fn a_certificate_says_until_when_it_is_good_and_what_is_none_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let [chain, key] = ["pem", "key"].map(|name| directory.path().join(name));
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2053, 1, 1));
        let far = params.self_signed(&pair).unwrap();
        assert_eq!(validity(far.der()).unwrap(), (day(2024, 1, 1), day(2053, 1, 1)));
        for length in 0..40 {
            assert!(validity(&far.der()[..length]).is_none(), "{length}");
        }
        params.not_after = date_time_ymd(2024, 4, 1);
        let near = params.self_signed(&pair).unwrap();
        fs::write(&chain, far.pem() + &near.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        let certificate = Certificate::read(&CertificateFiles { chain, key }).unwrap();
        let warning = |now| certificate.warning(now).unwrap_or_default();
        assert!(warning(day(2023, 12, 31)).contains("begins at 2024-01-01"));
        assert_eq!(warning(day(2024, 3, 1)), "");
        assert!(warning(day(2024, 3, 20)).contains("ends at 2024-04-01"));
        assert!(warning(day(2024, 4, 1)).contains("ended at 2024-04-01"));
    }
}

//! Hashes of passwords as they are stored: texts in the PHC string format, which say themselves how they were made.

use argon2::{
    Algorithm, Params, Version,
    password_hash::phc::{Output, PasswordHash, Salt},
};

/// The most that a hash may ask of whoever checks a password against it. A hash names its own costs, and one that somebody
/// else wrote could name any: 4 GiB, or an hour. So it may ask for no more than is a default anywhere in wide use: Django's
/// hasher has 100 MiB and 8 lanes, PHP's `password_hash` has 4 passes.
const MOST_MEMORY_KIB: u32 = 100 * 1024;
const MOST_LANES: u32 = 8;
const MOST_PASSES: u32 = 4;

/// A hash of a password, and how it was made.
#[derive(Clone, Debug)]
pub struct StoredHash {
    pub(super) version: Version,
    pub(super) params: Params,
    pub(super) salt: Salt,
    pub(super) expected: Output,
}

/// Why a text is no hash that a password can be checked against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredHashError {
    /// It is no PHC string, or has no parameters of Argon2.
    #[error("it is no hash: {0}")]
    Unreadable(String),
    /// It is of another algorithm, or not whole.
    #[error("it is no whole hash of Argon2id")]
    Another,
    /// To check a password against it would cost too much.
    #[error(
        "it asks for {memory} KiB, {passes} passes and {lanes} lanes: more than {MOST_MEMORY_KIB}, {MOST_PASSES} and {MOST_LANES}"
    )]
    TooCostly {
        /// How much memory it asks for, in KiB.
        memory: u32,
        /// How often that is gone over.
        passes: u32,
        /// Into how many lanes it is divided.
        lanes: u32,
    },
}

impl StoredHash {
    /// Reads a hash.
    ///
    /// # Errors
    /// See `StoredHashError`.
    pub fn parse(text: &str) -> Result<Self, StoredHashError> {
        let unreadable = |error: String| StoredHashError::Unreadable(error);
        let hash = PasswordHash::new(text).map_err(|error| unreadable(error.to_string()))?;
        let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else {
            return Err(StoredHashError::Another);
        };
        if hash.algorithm != Algorithm::Argon2id.ident() {
            return Err(StoredHashError::Another);
        }
        let version = hash.version.map_or(Ok(Version::V0x13), Version::try_from);
        let version = version.map_err(|error| unreadable(error.to_string()))?;
        let params = Params::try_from(&hash).map_err(|error| unreadable(error.to_string()))?;
        let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        if memory > MOST_MEMORY_KIB || passes > MOST_PASSES || lanes > MOST_LANES {
            return Err(StoredHashError::TooCostly { memory, passes, lanes });
        }
        Ok(Self { version, params, salt, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costing(costs: &str) -> String {
        format!("$argon2id$v=19${costs}$YWJjZGVmZ2hpamts${}", "A".repeat(43))
    }

    #[test]
    fn a_hash_may_cost_what_is_usual_somewhere_and_no_more() {
        for costs in ["m=19456,t=2,p=1", "m=102400,t=2,p=8", "m=65536,t=4,p=1"] {
            StoredHash::parse(&costing(costs)).unwrap();
        }
        for costs in ["m=102401,t=2,p=8", "m=19456,t=5,p=1", "m=19456,t=2,p=9", "m=4000000,t=100,p=1"] {
            let refused = StoredHash::parse(&costing(costs)).unwrap_err();
            assert!(matches!(refused, StoredHashError::TooCostly { .. }), "{costs}: {refused}");
        }
    }

    #[test]
    fn what_is_no_whole_hash_of_argon2id_is_none() {
        let good = costing("m=19456,t=2,p=1");
        StoredHash::parse(&good).unwrap();
        let cut = good.rsplit_once('$').unwrap().0;
        let others = ["", "garbage", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv", "md5$salt$hash", cut];
        for text in others.map(str::to_owned).into_iter().chain([
            good.replace("argon2id", "argon2i"),
            good.replace("v=19", "v=18"),
            good.replace("m=19456", "m=0"),
            good.replace("t=2", "t=4294967296"),
            costing("m=4294967296,t=2,p=1"),
        ]) {
            assert!(StoredHash::parse(&text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn no_password_is_checked_against_a_hash_that_costs_too_much() {
        let hasher = crate::password::Hasher::new().unwrap();
        let monstrous = costing("m=4000000,t=100,p=1");
        let refused = hasher.verify("password".into(), Some(monstrous)).await.unwrap_err().to_string();
        assert!(refused.contains("it asks for 4000000 KiB, 100 passes and 1 lanes"), "{refused}");
    }
}

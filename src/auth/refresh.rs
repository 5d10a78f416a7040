//! Refresh tokens: what is in them, and how one leads to the next.
//!
//! A token is (session id, generation, secret). Only the first secret of a session is random; each further one is derived
//! from the one before by a keyed hash, so the row of a session, which has the hash of the current one, is enough to
//! recognize every token the session ever had: an old one leads to the current one by as many steps as it is behind.
//! And whoever comes with the one before gets the same successor as the first who did.

use data_encoding::BASE64URL_NOPAD;
use tenants::SecretKey;
use uuid::Uuid;

const SESSION_LEN: usize = 16;
const GENERATION_LEN: usize = 4;
const SECRET_LEN: usize = 32;
const TOKEN_LEN: usize = SESSION_LEN + GENERATION_LEN + SECRET_LEN;

/// How far back a token is recognized. A step is one HMAC, some half a microsecond; a client that refreshes every ten
/// minutes needs 69 days for as many. What is older is not valid and does no harm.
const MAX_STEPS: u32 = 10_000;

/// What a client keeps. Its `Debug` does not tell the secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RefreshToken {
    pub(super) session: Uuid,
    /// How many tokens of this session came before.
    pub(super) generation: u32,
    secret: [u8; SECRET_LEN],
}

/// What a token is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The one to be used next.
    Current,
    /// The one before.
    Previous,
    /// One before that.
    Spent,
    /// None of this session's.
    Forged,
}

/// Recognizes tokens, and makes one of another, with the key of the installation for one tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain<'a> {
    pub(super) key: &'a SecretKey,
    pub(super) tenant: Uuid,
}

impl RefreshToken {
    /// The first of a session.
    pub(super) fn first(session: Uuid) -> Self {
        Self { session, generation: 0, secret: rand::random() }
    }

    /// Reads what a client sent; `None` for what cannot be a token.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Asked first: what is far too long is not decoded to find that out.
        if text.len() != BASE64URL_NOPAD.encode_len(TOKEN_LEN) {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (session, rest) = bytes.split_first_chunk::<SESSION_LEN>()?;
        let (generation, secret) = rest.split_first_chunk::<GENERATION_LEN>()?;
        Some(Self {
            session: Uuid::from_bytes(*session),
            generation: u32::from_be_bytes(*generation),
            secret: secret.try_into().ok()?,
        })
    }

    /// As the client gets it.
    pub(super) fn encode(&self) -> String {
        let bytes = [&self.session.as_bytes()[..], &self.generation.to_be_bytes(), &self.secret].concat();
        BASE64URL_NOPAD.encode(&bytes)
    }
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RefreshToken({}, {}, …)", self.session, self.generation)
    }
}

impl Chain<'_> {
    /// The next token; `None` after four billion.
    pub(super) fn successor(&self, token: &RefreshToken) -> Option<RefreshToken> {
        let generation = token.generation.checked_add(1)?;
        Some(RefreshToken { generation, secret: self.step(token.session, &token.secret), ..*token })
    }

    /// What the session's row keeps of its current token. The tenant is in it, so that rows copied into another tenant's
    /// schema take no token along.
    pub(super) fn hash(&self, token: &RefreshToken) -> [u8; 32] {
        self.key.mac(&self.stored(token.session, &token.secret))
    }

    /// What this token is to its session, of which the row says `generation` and `hash`. Every comparison of secrets is in
    /// constant time.
    pub(super) fn standing(&self, token: &RefreshToken, generation: i64, hash: &[u8]) -> Standing {
        let behind = match u32::try_from(generation - i64::from(token.generation)) {
            Ok(behind) if behind <= MAX_STEPS => behind,
            _ => return Standing::Forged,
        };
        let secret = (0..behind).fold(token.secret, |secret, _| self.step(token.session, &secret));
        if !self.key.verifies(&self.stored(token.session, &secret), hash) {
            return Standing::Forged;
        }
        match behind {
            0 => Standing::Current,
            1 => Standing::Previous,
            _ => Standing::Spent,
        }
    }

    fn step(&self, session: Uuid, secret: &[u8; SECRET_LEN]) -> [u8; SECRET_LEN] {
        self.key.mac(&[b"successor", &session.as_bytes()[..], secret].concat())
    }

    fn stored(&self, session: Uuid, secret: &[u8; SECRET_LEN]) -> Vec<u8> {
        [b"stored", &self.tenant.as_bytes()[..], session.as_bytes(), secret].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TENANT: Uuid = Uuid::from_u128(1);
    const SESSION: Uuid = Uuid::from_u128(2);

    fn key() -> SecretKey {
        SecretKey::from_bytes([7; 32])
    }

    fn chain(key: &SecretKey) -> Chain<'_> {
        Chain { key, tenant: TENANT }
    }

    /// The first `n + 1` tokens of a session.
    fn tokens(chain: Chain<'_>, n: usize) -> Vec<RefreshToken> {
        let first = RefreshToken::first(SESSION);
        std::iter::successors(Some(first), |token| chain.successor(token)).take(n + 1).collect()
    }

    #[test]
    fn a_token_is_told_from_those_before_and_after_it() {
        let key = key();
        let tokens = tokens(chain(&key), 5);
        let hash = chain(&key).hash(&tokens[3]);
        let standings: Vec<_> = tokens.iter().map(|token| chain(&key).standing(token, 3, &hash)).collect();
        assert_eq!(
            standings,
            [
                Standing::Spent,
                Standing::Spent,
                Standing::Previous,
                Standing::Current,
                Standing::Forged,
                Standing::Forged
            ]
        );
    }

    #[test]
    fn whoever_does_not_have_a_secret_has_no_token() {
        let key = key();
        let tokens = tokens(chain(&key), 3);
        let hash = chain(&key).hash(&tokens[3]);
        for generation in 0..5 {
            let guessed = RefreshToken { generation, ..RefreshToken::first(SESSION) };
            assert_eq!(chain(&key).standing(&guessed, 3, &hash), Standing::Forged, "{generation}");
            let other = u32::from(generation == 3);
            let renumbered = RefreshToken { generation: other, ..tokens[3].clone() };
            assert_eq!(chain(&key).standing(&renumbered, 3, &hash), Standing::Forged, "3 as {other}");
        }
        let of_another_session = RefreshToken { session: TENANT, ..tokens[3].clone() };
        assert_eq!(chain(&key).standing(&of_another_session, 3, &hash), Standing::Forged);
        let in_another_tenant = Chain { key: &key, tenant: SESSION };
        assert_eq!(in_another_tenant.standing(&tokens[3], 3, &hash), Standing::Forged);
        let by_another_key = SecretKey::from_bytes([8; 32]);
        assert_eq!(chain(&by_another_key).standing(&tokens[3], 3, &hash), Standing::Forged);
        // What the row has is no token either.
        let from_the_row = RefreshToken { secret: hash, ..tokens[3].clone() };
        assert_eq!(chain(&key).standing(&from_the_row, 3, &hash), Standing::Forged);
    }

    #[test]
    fn a_token_is_recognized_ten_thousand_steps_back_and_no_further() {
        let key = key();
        let tokens = tokens(chain(&key), 10_001);
        let hash = chain(&key).hash(&tokens[10_001]);
        assert_eq!(chain(&key).standing(&tokens[1], 10_001, &hash), Standing::Spent);
        assert_eq!(chain(&key).standing(&tokens[0], 10_001, &hash), Standing::Forged);
        let last = RefreshToken { generation: u32::MAX, ..RefreshToken::first(SESSION) };
        assert_eq!(chain(&key).successor(&last), None);
        assert_eq!(chain(&key).standing(&last, 0, &hash), Standing::Forged);
        assert_eq!(chain(&key).standing(&tokens[0], i64::MAX, &hash), Standing::Forged);
    }

    #[test]
    fn a_token_does_not_show_its_secret() {
        let token = RefreshToken { secret: [0x41; 32], ..RefreshToken::first(SESSION) };
        assert_eq!(format!("{token:?}"), format!("RefreshToken({SESSION}, 0, …)"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(session in any::<u128>(), generation in any::<u32>(), secret in any::<[u8; 32]>()) {
            let token = RefreshToken { session: Uuid::from_u128(session), generation, secret };
            prop_assert_eq!(token.encode().len(), 70);
            prop_assert_eq!(RefreshToken::parse(&token.encode()), Some(token));
        }

        #[test]
        fn a_text_is_read_in_one_way_only(text in "[A-Za-z0-9_=+/. -]{66,74}|\\PC{0,80}") {
            if let Some(token) = RefreshToken::parse(&text) {
                prop_assert_eq!(token.encode(), text);
            }
        }
    }
}

//! What the `Authorization` header says.

use std::fmt;

use poem::http::{HeaderMap, header::AUTHORIZATION};

/// How long a token may be before anything of it is looked at. Ours have some 600 bytes, and an issuer as long as a URL may be.
pub const MAX_TOKEN: usize = 4096;

/// The credentials a request brings along.
#[derive(Clone, PartialEq, Eq)]
pub enum Bearer {
    /// None, or those of a scheme that isn't ours: 401 `not_authenticated` where some are needed, as in
    /// `rest_framework_simplejwt`, where a scheme that no authenticator knows is as good as none.
    Absent,
    /// Something that was meant as a bearer token and is none: 401 `token_not_valid`.
    Malformed,
    /// A token, not yet looked at.
    Token(String),
}

impl Bearer {
    /// Reads the header. Two of them are malformed: a proxy and we might each believe another one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::Absent };
        if values.next().is_some() {
            return Self::Malformed;
        }
        let Ok(value) = value.to_str() else { return Self::Malformed };
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Self::Absent;
        }
        let token = token.trim_matches(' ');
        let token68 = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(token68) {
            return Self::Malformed;
        }
        Self::Token(token.to_owned())
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Malformed => "Malformed",
            Self::Token(_) => "Token(…)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(values: &[&'static str]) -> Bearer {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().expect("a header value"));
        }
        Bearer::of(&headers)
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for value in ["Bearer a.b-c_d", "bearer a.b-c_d", "BEARER   a.b-c_d "] {
            assert_eq!(bearer(&[value]), Bearer::Token("a.b-c_d".into()), "{value}");
        }
    }

    #[test]
    fn what_is_meant_as_a_token_and_is_none_is_malformed() {
        for values in [
            &["Bearer"][..],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a, Bearer b"],
            &["Bearer ü"],
            &["Bearer a", "Bearer a"],
            &["Basic YTpi", "Bearer a"],
        ] {
            assert_eq!(bearer(values), Bearer::Malformed, "{values:?}");
        }
    }

    #[test]
    fn another_scheme_is_as_good_as_none() {
        for values in [&[][..], &["Basic YTpi"], &["Token abc"], &[""]] {
            assert_eq!(bearer(values), Bearer::Absent, "{values:?}");
        }
    }

    #[test]
    fn a_token_is_not_in_the_debug_output() {
        assert_eq!(format!("{:?}", bearer(&["Bearer secret"])), "Token(…)");
    }
}

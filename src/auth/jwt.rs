//! Tokens as RFC 8725 has them read: what a token says of itself decides nothing but which of our keys it is tried with.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::{bearer::MAX_TOKEN, strict_json};

/// The one algorithm (RFC 8725, 3.1): never what a token asks for.
const ALGORITHM: &str = "EdDSA";
/// What every token's header says it is.
const TYPE: &str = "JWT";

/// What is asked of the claims of a token for this audience. When it ends is checked by our own clock.
pub(super) fn validation(issuer: &str, audience: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_exp = false;
    validation
}

/// The id of the key that a token names, if it is of the form that ours have: three parts in base64url, of which the first is
/// an object of `alg`, `typ` and `kid` and nothing else. So there is no key in it and no way to one (`jwk`, `jku`, `x5u`), nothing
/// critical that would have to be understood, no compression, and no member twice.
#[must_use]
pub fn key_id(token: &str) -> Option<String> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let mut parts = token.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    // Strictly: one text has one encoding, or a token that was revoked or remembered would pass in another spelling.
    let [header, claims, signature] =
        [header, claims, signature].map(|part| BASE64URL_NOPAD.decode(part.as_bytes()).ok());
    let (header, _, signature) = (header?, claims?, signature?);
    if signature.len() != ED25519_SIGNATURE {
        return None;
    }
    let Value::Object(mut header) = strict_json::parse(&header).ok()? else { return None };
    let kid = header.remove("kid")?;
    let is_ours = header.remove("alg")? == ALGORITHM && header.remove("typ")? == TYPE && header.is_empty();
    kid.as_str().filter(|kid| is_ours && is_thumbprint(kid)).map(str::to_owned)
}

/// The length of a signature (RFC 8032, 5.1.6).
const ED25519_SIGNATURE: usize = 64;

/// Whether it is a SHA-256 in base64url, as the ids of our keys are: anything else is no reason to ask the catalog.
fn is_thumbprint(kid: &str) -> bool {
    kid.len() == 43 && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// What a token says that this key has signed; `None` for any other. [`key_id`] has found its form sound.
#[must_use]
pub fn read<C: DeserializeOwned + Clone>(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
) -> Option<C> {
    jsonwebtoken::decode::<C>(token, key, validation).ok().map(|data| data.claims)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, crypto};
    use serde_json::json;

    use super::*;

    const KID: &str = "qn1z5Rk0Yv0c1wJ0b3Vw4mJ0kqk2kF1b2gq3h4i5j6k";
    const ISSUER: &str = "https://example.com";

    /// The seed of 32 sevens.
    fn keys() -> (EncodingKey, DecodingKey) {
        const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let public = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
        let public = data_encoding::HEXLOWER.decode(public.as_bytes()).unwrap();
        (EncodingKey::from_ed_der(&[&PKCS8[..], &[7; 32]].concat()), DecodingKey::from_ed_der(&public))
    }

    /// A token with this header and these claims, signed by our key whatever they say.
    fn signed(header: &str, claims: &str) -> String {
        let message = format!(
            "{}.{}",
            BASE64URL_NOPAD.encode(header.as_bytes()),
            BASE64URL_NOPAD.encode(claims.as_bytes())
        );
        let signature = crypto::sign(message.as_bytes(), &keys().0, Algorithm::EdDSA).unwrap();
        format!("{message}.{signature}")
    }

    fn header() -> String {
        json!({"alg": "EdDSA", "typ": "JWT", "kid": KID}).to_string()
    }

    fn claims() -> Value {
        json!({"iss": ISSUER, "aud": "tenantry", "sub": "ann", "exp": 1})
    }

    fn accepted(token: &str) -> bool {
        key_id(token).as_deref() == Some(KID)
            && read::<Value>(token, &keys().1, &validation(ISSUER, "tenantry")).is_some()
    }

    /// By the sections of RFC 8725.
    #[test]
    fn what_best_current_practice_refuses_is_refused() {
        let ours = signed(&header(), &claims().to_string());
        assert!(accepted(&ours), "{ours}");
        let with = |name: &str, value: Value| {
            let mut header: Value = serde_json::from_str(&header()).unwrap();
            header[name] = value;
            header.to_string()
        };
        let headers = [
            ("2.1, 3.1 no algorithm", with("alg", json!("none"))),
            ("2.1, 3.1 in other letters", with("alg", json!("eddsa"))),
            ("2.1, 3.1 another algorithm", with("alg", json!("HS256"))),
            ("2.1, 3.1 the same by its new name, which we do not publish", with("alg", json!("Ed25519"))),
            ("2.4 compressed", with("zip", json!("DEF"))),
            ("3.5, 3.10 a key of its own", with("jwk", json!({"kty": "OKP"}))),
            ("3.10 a key from elsewhere", with("jku", json!("https://evil.example/keys"))),
            ("3.10 a certificate", with("x5c", json!([]))),
            ("3.10 a certificate from elsewhere", with("x5u", json!("https://evil.example/"))),
            ("3.10 a key's id that is a path", with("kid", json!("../../etc/passwd"))),
            ("3.10 a key's id that is no text", with("kid", json!(1))),
            ("3.11 another type", with("typ", json!("at+jwt"))),
            ("3.11 nested", with("cty", json!("JWT"))),
            ("RFC 7515, 4.1.11 critical", with("crit", json!(["b64"]))),
            ("RFC 7797 unencoded", with("b64", json!(false))),
            ("RFC 7515, 4 a member twice", header().replacen('{', r#"{"alg":"none","#, 1)),
            ("RFC 7515, 4 no object", json!(["EdDSA", "JWT", KID]).to_string()),
            ("no key", json!({"alg": "EdDSA", "typ": "JWT"}).to_string()),
            ("no type", json!({"alg": "EdDSA", "kid": KID}).to_string()),
            ("something behind it", format!("{} {{}}", header())),
        ];
        for (what, header) in headers {
            let token = signed(&header, &claims().to_string());
            assert!(!accepted(&token), "{what}");
            assert_eq!(key_id(&token), None, "{what}: its form alone");
        }
        let but = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            claims.to_string()
        };
        let without = |name: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            claims.to_string()
        };
        for (what, claims) in [
            ("3.8 another issuer", but("iss", json!("https://example.com.evil.example"))),
            ("3.8 no issuer", without("iss")),
            ("3.8 no subject", without("sub")),
            ("3.9 another audience", but("aud", json!("tenantry-admin"))),
            ("3.9 no audience", without("aud")),
            ("no end", without("exp")),
        ] {
            assert!(!accepted(&signed(&header(), &claims)), "{what}");
        }
    }

    #[test]
    fn a_token_has_one_spelling_and_a_bound() {
        let ours = signed(&header(), &claims().to_string());
        let mut spelt = vec![
            format!("{ours}="),
            format!("{ours}."),
            format!(" {ours}"),
            format!("{ours}\n"),
            ours.replacen('.', "=.", 1),
            ours.rsplit_once('.').unwrap().0.to_owned(),
            format!("{}.", ours.rsplit_once('.').unwrap().0),
            ours.replace('-', "+").replace('_', "/") + "+",
            String::new(),
            "..".into(),
        ];
        // The last character of 64 bytes in base64 has four bits that say nothing.
        let (rest, last) = ours.split_at(ours.len() - 1);
        let others = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars();
        spelt.extend(others.map(|other| format!("{rest}{other}")).filter(|token| !token.ends_with(last)));
        for token in spelt {
            assert!(!accepted(&token), "{token:?}");
        }
        let long = |name: usize| {
            let mut claims = claims();
            claims["name"] = Value::String("x".repeat(name));
            signed(&header(), &claims.to_string())
        };
        let room = (MAX_TOKEN - long(0).len()) / 4 * 3;
        assert!(accepted(&long(room - 3)) && long(room - 3).len() <= MAX_TOKEN);
        assert!(!accepted(&long(room + 3)), "longer than any of ours");
    }
}

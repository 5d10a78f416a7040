//! Access tokens.

use std::sync::LazyLock;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, crypto};
use serde_json::{Value, json};
use tenantry::auth::jwt;

const KID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

struct Issuer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    token: String,
}

/// The seed of 32 sevens, and a token that it has signed.
static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let encoding = EncodingKey::from_ed_der(&[&PKCS8[..], &[7; 32]].concat());
    let public = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&["https://example.com"]);
    validation.set_audience(&["tenantry"]);
    validation.validate_exp = false;
    let claims = json!({"iss": "https://example.com", "aud": "tenantry", "sub": "ann", "exp": 1});
    let header = Header { kid: Some(KID.into()), ..Header::new(Algorithm::EdDSA) };
    let token = jsonwebtoken::encode(&header, &claims, &encoding).expect("a token");
    Issuer {
        encoding,
        decoding: DecodingKey::from_ed_der(&HEXLOWER.decode(public.as_bytes()).expect("hex")),
        validation,
        token,
    }
});

fn accepts(token: &str) -> bool {
    jwt::key_id(token).as_deref() == Some(KID)
        && jwt::read::<Value>(token, &ISSUER.decoding, &ISSUER.validation).is_some()
}

/// The first byte says what the rest is: a token, changes of a token of ours, or a header that our key signs.
pub(super) fn token(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 3 {
        0 => {
            if let Ok(token) = std::str::from_utf8(rest) {
                form(token);
                assert!(!accepts(token) || token == ISSUER.token, "nobody has signed {token:?}");
            }
        }
        1 => {
            let mut token = ISSUER.token.clone().into_bytes();
            for change in rest.chunks_exact(3) {
                let [high, low, byte] = *change else { return };
                let at = usize::from(u16::from_be_bytes([high, low])) % (token.len() + 1);
                match byte {
                    0 => token.truncate(at),
                    1..=127 if at < token.len() => token[at] = byte,
                    _ => token.insert(at, byte & 127),
                }
            }
            if let Ok(token) = std::str::from_utf8(&token) {
                form(token);
                assert!(!accepts(token) || token == ISSUER.token, "another spelling: {token:?}");
            }
        }
        _ => {
            let claims = ISSUER.token.split('.').nth(1).unwrap_or_default();
            let message = format!("{}.{claims}", BASE64URL_NOPAD.encode(rest));
            let Ok(signature) = crypto::sign(message.as_bytes(), &ISSUER.encoding, Algorithm::EdDSA) else {
                return;
            };
            let token = format!("{message}.{signature}");
            form(&token);
            if accepts(&token) {
                let ours = json!({"alg": "EdDSA", "typ": "JWT", "kid": KID});
                assert_eq!(
                    serde_json::from_slice::<Value>(rest).ok(),
                    Some(ours),
                    "a header of another kind"
                );
            }
        }
    }
}

/// What has the form of a token has it for the library, too, and is what it seems to be.
fn form(token: &str) {
    let Some(kid) = jwt::key_id(token) else { return };
    assert!(token.len() <= 4096 && kid.len() == 43);
    let header = jsonwebtoken::decode_header(token).expect("the library reads it");
    let expected = Header { kid: Some(kid), ..Header::new(Algorithm::EdDSA) };
    assert_eq!(header, expected, "nothing is in it but ours");
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3);
    for part in parts {
        let bytes = BASE64URL_NOPAD.decode(part.as_bytes()).expect("base64url");
        assert_eq!(BASE64URL_NOPAD.encode(&bytes), part, "one spelling");
    }
}

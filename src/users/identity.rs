//! What a person is known and let in by: username, e-mail address, password.

use std::fmt;

use poem_openapi::registry::MetaSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick, is_nfkc_quick};

use crate::http::input::{Field, Wrong, bounded, lengths, string, string_type, too_long, wrong};

/// As long as Django's.
const MAX_USERNAME: usize = 150;
/// RFC 5321 leaves this much for a path, without its angle brackets.
const MAX_EMAIL: usize = 254;
const MAX_LOCAL_PART: usize = 64;
/// NIST SP 800-63B asks for at least 8, and to take at least 64.
const MIN_PASSWORD: usize = 8;
/// Hashing costs the same for any length; this bounds what is normalized.
const MAX_PASSWORD: usize = 128;
/// No character becomes shorter than a third by being composed, so a longer text is too long however it is written.
const COMPOSITION: usize = 3;

/// A name, unique in its tenant whatever its case and form: letters and digits of any script, `.`, `_`, `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Username(String);

impl Username {
    /// Reads a name.
    ///
    /// # Errors
    /// The sentences for the person who chose it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let text = text.trim();
        if text.chars().nth(MAX_USERNAME * COMPOSITION).is_some() {
            return wrong(too_long(MAX_USERNAME));
        }
        let name = if is_nfkc_quick(text.chars()) == IsNormalized::Yes {
            text.to_owned()
        } else {
            text.nfkc().collect()
        };
        bounded(&name, 1, MAX_USERNAME)?;
        if !name.chars().all(in_username) {
            return wrong(
                "Enter a valid username. This value may contain only letters, numbers, and ./_/- characters.",
            );
        }
        Ok(Self(name))
    }

    /// The name as its owner writes it, in NFKC.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two names share that differ in nothing but case or form.
    #[must_use]
    pub fn key(&self) -> String {
        fold(&self.0)
    }
}

fn in_username(character: char) -> bool {
    // Fillers count as letters and show as nothing, so that two names would look the same.
    const INVISIBLE: [char; 6] = ['\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{3164}', '\u{ffa0}'];
    (character.is_alphanumeric() && !INVISIBLE.contains(&character)) || matches!(character, '.' | '_' | '-')
}

/// Folds the case of an NFKC text. The standard library has no case folding; lower case of upper case of each character
/// by itself gives the same classes ("ß" and "SS", "ς" and "Σ") and merges a few more ("ı" and "i"), which for names is
/// only right.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let once = |text: &str| -> String {
        text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
    };
    // Composing can bring up a letter with a case of its own, so fold until nothing changes; two rounds do in practice.
    let mut folded = once(text);
    loop {
        let again = once(&folded);
        if again == folded {
            return folded;
        }
        folded = again;
    }
}

impl Field for Username {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        Self::parse(&string(value)?)
    }
}

string_type!([] Username, "username", |schema| {
    lengths::<1, MAX_USERNAME>(schema);
    schema.description = Some("Letters and digits of any script, `.`, `_` and `-`; unique whatever the case.");
    schema.example = Some("ann.lee".into());
});

/// An e-mail address, kept as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email {
    written: String,
    key: String,
}

impl Email {
    /// Reads an address by the rules of Django's validator, but for what only trouble-makers use: quoted local parts and
    /// address literals.
    ///
    /// # Errors
    /// The sentences for the person who gave it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let text = text.trim();
        bounded(text, 1, MAX_EMAIL)?;
        match text.rsplit_once('@').and_then(|(local, domain)| Some((local, ascii_domain(domain)?))) {
            Some((local, domain)) if is_local_part(local) => {
                Ok(Self { written: text.to_owned(), key: format!("{}@{domain}", local.to_ascii_lowercase()) })
            }
            _ => wrong("Enter a valid email address."),
        }
    }

    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// What two spellings of one address share: lower case, the domain as DNS has it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The domain as DNS has it.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.key.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a person's address, a log needs to know only where it is.
        write!(f, "Email(…@{})", self.domain())
    }
}

impl Serialize for Email {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

fn is_local_part(local: &str) -> bool {
    let atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_atext);
    local.len() <= MAX_LOCAL_PART && local.split('.').all(atom)
}

fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// A domain as DNS has it; `None` if it can't have it.
fn ascii_domain(domain: &str) -> Option<String> {
    // What a URL's host may hold beside these (percent-encoding, addresses) is none of a mail domain's.
    if !domain.chars().all(|character| {
        !character.is_ascii() || character.is_ascii_alphanumeric() || "-.".contains(character)
    }) {
        return None;
    }
    let url::Host::Domain(ascii) = url::Host::parse(domain).ok()? else { return None };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top_level = ascii.rsplit('.').next().is_some_and(|top| top.len() >= 2);
    let dotted = ascii.contains('.') && top_level && ascii.split('.').all(label);
    // Django's validator has `localhost` on its list.
    (ascii.len() <= 253 && (dotted || ascii == "localhost")).then_some(ascii)
}

impl Field for Email {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        Self::parse(&string(value)?)
    }
}

string_type!([] Email, "email", |schema| {
    schema.format = Some("email");
    lengths::<1, MAX_EMAIL>(schema);
    schema.example = Some("ann@example.com".into());
});

/// A password somebody chooses: 8 to 128 characters, in NFC so that two keyboards give the same bytes, never trimmed.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

impl Password {
    /// Reads a new password.
    ///
    /// # Errors
    /// The sentences for the person who chose it.
    pub fn parse(text: String) -> Result<Self, Wrong> {
        let secret = secret(text)?;
        if secret.expose_secret().chars().nth(MIN_PASSWORD - 1).is_none() {
            return wrong(format!(
                "This password is too short. It must contain at least {MIN_PASSWORD} characters."
            ));
        }
        Ok(Self(secret))
    }

    /// The password itself.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

/// A password somebody claims to have: one that can't be right is wrong, not malformed, so it has no least length.
#[derive(Clone, Debug)]
pub struct Credential(SecretString);

impl Credential {
    /// Reads a claimed password.
    ///
    /// # Errors
    /// The sentences for the person who typed it.
    pub fn parse(text: String) -> Result<Self, Wrong> {
        secret(text).map(Self)
    }

    /// The password itself.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

fn secret(text: String) -> Result<SecretString, Wrong> {
    // Whatever way this goes, no copy of the text is left behind.
    let text = SecretString::from(text);
    let raw = text.expose_secret();
    if raw.chars().nth(MAX_PASSWORD * COMPOSITION).is_some() {
        return wrong(too_long(MAX_PASSWORD));
    }
    if raw.contains('\0') {
        return wrong("Null characters are not allowed.");
    }
    let normal = if is_nfc_quick(raw.chars()) == IsNormalized::Yes {
        text
    } else {
        // Room for the whole at once: a buffer that grew would leave copies of its beginning behind.
        let mut normal = String::with_capacity(raw.len() * COMPOSITION);
        normal.extend(raw.nfc());
        SecretString::from(normal)
    };
    bounded(normal.expose_secret(), 1, MAX_PASSWORD)?;
    Ok(normal)
}

impl Field for Password {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        Self::parse(string(value)?)
    }
}

impl Field for Credential {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        Self::parse(string(value)?)
    }
}

string_type!([] Password, "password", |schema| {
    hidden(schema);
    lengths::<MIN_PASSWORD, MAX_PASSWORD>(schema);
});

string_type!([] Credential, "credential", |schema| {
    hidden(schema);
    lengths::<1, MAX_PASSWORD>(schema);
});

fn hidden(schema: &mut MetaSchema) {
    schema.format = Some("password");
    schema.write_only = true;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const BAD_USERNAME: &str =
        "Enter a valid username. This value may contain only letters, numbers, and ./_/- characters.";

    fn username(text: &str) -> Result<String, Wrong> {
        Username::parse(text).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn a_username_is_letters_digits_and_three_signs() {
        for name in ["a", "ann.lee", "Ann_Lee-2", "Zoë", "анна", "山田", "०१"] {
            assert_eq!(username(name), Ok(name.into()));
        }
        assert_eq!(username("  ann "), Ok("ann".into()));
        assert_eq!(username("ａｎｎ"), Ok("ann".into()), "compatibility forms are what they stand for");
        assert_eq!(username("Zoe\u{308}"), Ok("Zoë".into()));
        for name in [
            "a b",
            "a@b",
            "a\u{0}b",
            "a\u{200b}b",
            "a\u{202e}b",
            "\u{3164}",
            "a\u{1160}",
            "a/b",
            "½",
            "😀",
            "a\tb",
        ] {
            assert_eq!(username(name), wrong(BAD_USERNAME), "{name:?}");
        }
        assert_eq!(username(" "), wrong("This field may not be blank."));
        assert_eq!(username(&"ä".repeat(150)), Ok("ä".repeat(150)));
        assert_eq!(username(&"ä".repeat(151)), wrong("Ensure this field has no more than 150 characters."));
        assert_eq!(
            username(&"\u{fdfa}".repeat(20)),
            wrong("Ensure this field has no more than 150 characters.")
        );
        assert_eq!(Username::from_value(json!(1)).map(drop), wrong("Not a valid string."));
    }

    #[test]
    fn names_that_differ_in_case_only_have_one_key() {
        let key = |text: &str| Username::parse(text).expect("a username").key();
        for (one, other) in
            [("Ann", "aNN"), ("STRASSE", "straße"), ("ΣΑΣ", "σας"), ("ZOË", "zoe\u{308}"), ("Ǆ", "ǆ")]
        {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
        assert_ne!(key("ann"), key("anna"));
    }

    #[test]
    fn an_email_is_what_djangos_validator_takes() {
        for text in [
            "ann@example.com",
            "Ann.Lee+tag@Example.Co.UK",
            "a@b.cc",
            "!#$%&'*+-/=?^_`{|}~@example.com",
            "ann@localhost",
            "ann@xn--bcher-kva.example",
            "ann@bücher.example",
            "a@exa-mple.com",
        ] {
            assert_eq!(Email::parse(text).map(|email| email.as_str().to_owned()), Ok(text.into()));
        }
        for text in [
            "ann",
            "@example.com",
            "ann@",
            "ann@example",
            "ann@@example.com",
            "ann@example..com",
            "ann@.com",
            "ann@-a.com",
            "ann@a-.com",
            "an n@example.com",
            "ann@exa mple.com",
            "ann.@example.com",
            ".ann@example.com",
            "a..b@example.com",
            "\"a b\"@example.com",
            "ann@[127.0.0.1]",
            "ann@127.0.0.1",
            "ann@example.c",
            "ann@example.com.",
            "änn@example.com",
            "ann@ex%61mple.com",
            "ann@example.com\nBcc: x@example.com",
            "ann@exam_ple.com",
            "ann@example.com>",
            "a@b@example.com",
        ] {
            assert_eq!(Email::parse(text).map(drop), wrong("Enter a valid email address."), "{text:?}");
        }
        let long = format!("{}@{}.example.com", "a".repeat(64), "b".repeat(63));
        assert!(Email::parse(&long).is_ok());
        assert_eq!(Email::parse(&format!("a{long}")).map(drop), wrong("Enter a valid email address."));
        let longer = format!("a@{}com", "b.".repeat(130));
        assert_eq!(
            Email::parse(&longer).map(drop),
            wrong("Ensure this field has no more than 254 characters.")
        );
    }

    #[test]
    fn spellings_of_one_address_have_one_key() {
        let key = |text: &str| Email::parse(text).expect("an address").key().to_owned();
        assert_eq!(key("Ann@Example.COM"), "ann@example.com");
        assert_eq!(key("ann@BÜCHER.example"), "ann@xn--bcher-kva.example");
        assert_eq!(key("ann@xn--BCHER-KVA.example"), key("ann@bücher.example"));
        assert_eq!(
            format!("{:?}", Email::parse("ann@example.com").expect("an address")),
            "Email(…@example.com)"
        );
    }

    #[test]
    fn a_new_password_has_bounds_in_characters_and_keeps_its_spaces() {
        let password = |text: &str| {
            Password::parse(text.to_owned()).map(|password| password.secret().expose_secret().to_owned())
        };
        assert_eq!(password(" passwd "), Ok(" passwd ".into()));
        assert_eq!(password("pässwörd"), Ok("pässwörd".into()));
        assert_eq!(password("pa\u{308}sswo\u{308}rd"), Ok("pässwörd".into()));
        assert_eq!(
            password("o\u{308}o\u{308}o\u{308}o\u{308}"),
            wrong("This password is too short. It must contain at least 8 characters.")
        );
        assert_eq!(password(""), wrong("This field may not be blank."));
        assert_eq!(password(&"x".repeat(128)), Ok("x".repeat(128)));
        assert_eq!(password(&"x".repeat(129)), wrong("Ensure this field has no more than 128 characters."));
        assert_eq!(password(&"o\u{308}".repeat(128)), Ok("ö".repeat(128)));
        assert_eq!(password("passw\0ord"), wrong("Null characters are not allowed."));
    }

    #[test]
    fn a_claimed_password_may_be_short() {
        assert!(Credential::parse("x".into()).is_ok());
        assert_eq!(
            Credential::parse("x".repeat(129)).map(drop),
            wrong("Ensure this field has no more than 128 characters.")
        );
    }

    #[test]
    fn a_password_is_not_in_the_debug_output() {
        let shown = format!(
            "{:?} {:?}",
            Password::parse("open sesame".into()).expect("a password"),
            Credential::parse("open sesame".into()).expect("a credential")
        );
        assert!(!shown.contains("sesame"), "{shown}");
    }

    proptest! {
        #[test]
        fn a_username_reads_back_as_itself(text in "\\PC{0,20}|[\\w.-]{1,20}") {
            if let Ok(name) = Username::parse(&text) {
                prop_assert_eq!(Username::parse(name.as_str()), Ok(name));
            }
        }

        #[test]
        fn a_key_does_not_depend_on_case_or_form(text in "[\\w.-]{1,20}") {
            if let Ok(name) = Username::parse(&text) {
                let key = name.key();
                prop_assert_eq!(fold(&key), key.clone());
                for other in [text.to_uppercase(), text.to_lowercase(), text.nfd().collect()] {
                    if let Ok(other) = Username::parse(&other) {
                        prop_assert_eq!(other.key(), key.clone());
                    }
                }
            }
        }

        #[test]
        fn an_address_has_one_key_and_no_line_breaks(text in "\\PC{1,20}@\\PC{1,20}|[a-zA-Z.+]{1,9}@[a-zA-Zäßς-]{1,9}\\.[a-zA-Z]{2,5}") {
            if let Ok(email) = Email::parse(&text) {
                prop_assert!(email.key().is_ascii() && !email.key().contains(|c: char| c.is_ascii_control() || c == ' '));
                prop_assert_eq!(Email::parse(email.key()).map(|again| again.key().to_owned()), Ok(email.key().to_owned()));
                prop_assert_eq!(Email::parse(&text.to_ascii_uppercase()).map(|upper| upper.key().to_owned()), Ok(email.key().to_owned()));
            }
        }

        #[test]
        fn any_text_is_a_password_or_is_told_why(text in any::<String>()) {
            match Password::parse(text.clone()) {
                Ok(password) => {
                    let secret = password.secret().expose_secret();
                    prop_assert!((8..=128).contains(&secret.chars().count()));
                    prop_assert_eq!(secret.to_owned(), text.nfc().collect::<String>());
                }
                Err(sentences) => prop_assert_eq!(sentences.len(), 1),
            }
        }
    }
}

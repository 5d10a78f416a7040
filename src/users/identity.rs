//! What a person is known and let in by: username, e-mail address, password.

use std::{fmt, ops::Deref};

use poem_openapi::registry::MetaSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use unicode_normalization::{
    IsNormalized, UnicodeNormalization as _, char::is_combining_mark, is_nfc_quick, is_nfkc_quick,
};
use unicode_security::{
    GeneralSecurityProfile as _, MixedScript as _, RestrictionLevel, RestrictionLevelDetection as _,
    general_security_profile::IdentifierType as Type, skeleton,
};

use crate::http::input::{
    BLANK, Field, Wrong, bounded, lengths, shows_nothing, string, string_type, too_long, trimmed, wrong,
};

/// As long as Django's.
const MAX_USERNAME: usize = 150;
/// RFC 5321 leaves this much for a path, without its angle brackets.
const MAX_EMAIL: usize = 254;
const MAX_LOCAL_PART: usize = 64;
/// RFC 1035 leaves this much for a name in text.
pub(crate) const MAX_DOMAIN: usize = 253;
/// NIST SP 800-63B asks for at least 8, and to take at least 64.
const MIN_PASSWORD: usize = 8;
/// Hashing costs the same for any length; this bounds what is normalized.
const MAX_PASSWORD: usize = 128;
/// No character becomes shorter than a third by being composed, so a longer text is too long however it is written.
const COMPOSITION: usize = 3;

/// A name, unique in its tenant whatever its case and form: letters and digits of any one script, `.`, `_`, `-`.
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
        if !name.chars().all(in_username) || has_lonely_mark(&name) {
            return wrong(
                "Enter a valid username. This value may contain only letters, numbers, and ./_/- characters.",
            );
        }
        if mixes_scripts(&name) || disguises_signs(&name) {
            return wrong("Enter a valid username. This value may not mix letters of different scripts.");
        }
        Ok(Self(name))
    }

    /// A name for somebody of whom only the address is known: what stands before the `@`, without a tag (`+news`), and a
    /// dot for what names cannot have.
    #[must_use]
    pub fn from_email(email: &Email) -> Self {
        let local = email.as_str().split(['@', '+']).next().unwrap_or_default();
        let name: String =
            local.chars().map(|character| if in_username(character) { character } else { '.' }).collect();
        match name.trim_matches('.') {
            "" => Self("user".to_owned()),
            name => Self(name.to_owned()),
        }
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

/// Whether a name is made of letters that nobody writes in one word, as an "admin" whose first letter is Cyrillic. Names
/// in one script, whichever it is, are fine; of several, those that UTS #39 calls highly restrictive: Latin together with
/// what Japanese, Chinese or Korean is written in.
fn mixes_scripts(name: &str) -> bool {
    // The level by itself would refuse whole scripts that are not in wide use today.
    !name.is_ascii()
        && !name.is_single_script()
        && !name.check_restriction_level(RestrictionLevel::HighlyRestrictive)
}

/// Whether a mark that belongs on a letter stands by itself: it would show on whatever is before the name.
fn has_lonely_mark(name: &str) -> bool {
    let before = std::iter::once('.').chain(name.chars());
    before
        .zip(name.chars())
        .any(|(before, character)| is_combining_mark(character) && !before.is_alphanumeric())
}

/// Whether a name is Latin but for characters that look like signs and Latin letters ("admin一", "aノb"), so that it reads as
/// another one. Beside others of their script they are what they are: "日本一taro", "サーバーadmin".
fn disguises_signs(name: &str) -> bool {
    if name.is_ascii() || name.is_single_script() {
        return false;
    }
    // Long vowels and vertical strokes, to which UTS #39 leads all that look like them, are drawn like "-" and "|".
    let is_sign = |look: char| look.is_ascii() || matches!(look, 'ー' | '丨');
    let looks_like_one = |character: char| skeleton(character.encode_utf8(&mut [0; 4])).all(is_sign);
    let goes_with_latin = |character: &char| ['a', *character].iter().collect::<String>().is_single_script();
    name.chars().filter(|character| !goes_with_latin(character)).all(looks_like_one)
}

/// What names are made of: letters and digits, of the types that UTS #39 has for what people write today, minorities with
/// them. Those of dead scripts, of phonetics, in circles and squares, and fillers, which show as nothing, are out, and with
/// them most that somebody would choose only because it looks like something else.
pub(crate) fn in_username(character: char) -> bool {
    const FILLERS: [char; 6] = ['\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{3164}', '\u{ffa0}'];
    let is_written = match character.identifier_type() {
        // What has another form is judged in that one.
        Some(Type::Recommended | Type::Limited_Use | Type::Not_NFKC) => true,
        // Apostrophes and colons that count as letters: 'U+02BB' and its like.
        Some(Type::Inclusion) => !('\u{2b0}'..='\u{2ff}').contains(&character),
        // Those of the later planes are the rare Han characters of names.
        Some(Type::Uncommon_Use) => character >= '\u{20000}',
        _ => false,
    };
    (character.is_alphanumeric() && is_written && !FILLERS.contains(&character))
        || matches!(character, '.' | '_' | '-')
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
    schema.description = Some("Letters and digits of any one script, `.`, `_` and `-`; unique whatever the case.");
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

    /// The mailbox that mails to this address reach, as far as that can be told: without a tag (`+news`), by which one
    /// mailbox has as many addresses as it likes.
    #[must_use]
    pub fn mailbox(&self) -> String {
        let (local, domain) = self.key.rsplit_once('@').unwrap_or((&self.key, ""));
        let untagged = local.split('+').next().filter(|untagged| !untagged.is_empty());
        format!("{}@{domain}", untagged.unwrap_or(local))
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
pub(crate) fn ascii_domain(domain: &str) -> Option<String> {
    // What a URL's host may hold beside these (percent-encoding, addresses) is none of a mail domain's.
    if !domain.chars().all(|character| {
        // IDNA leaves out what shows as nothing, and the address would be shown with it.
        (!character.is_ascii() && !shows_nothing(character))
            || character.is_ascii_alphanumeric()
            || "-.".contains(character)
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
    (ascii.len() <= MAX_DOMAIN && (dotted || ascii == "localhost")).then_some(ascii)
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

/// A password somebody claims to have: one that can't be right is wrong, not malformed, so any length will do.
#[derive(Clone, Debug)]
pub struct Credential(SecretString);

impl Credential {
    /// Reads a claimed password.
    ///
    /// # Errors
    /// The sentences for the person who typed it.
    pub fn parse(text: String) -> Result<Self, Wrong> {
        let text = SecretString::from(text);
        if text.expose_secret().is_empty() {
            return wrong(BLANK);
        }
        // Longer than anybody's can be: no hash is of it, in whatever form.
        Ok(Self(if is_too_long(&text) { text } else { normalized(text) }))
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
    if is_too_long(&text) {
        return wrong(too_long(MAX_PASSWORD));
    }
    if text.expose_secret().contains('\0') {
        return wrong("Null characters are not allowed.");
    }
    let normal = normalized(text);
    bounded(normal.expose_secret(), 1, MAX_PASSWORD)?;
    Ok(normal)
}

/// Too long to be a password in any form, and too long to be normalized only to find that out.
fn is_too_long(text: &SecretString) -> bool {
    text.expose_secret().chars().nth(MAX_PASSWORD * COMPOSITION).is_some()
}

fn normalized(text: SecretString) -> SecretString {
    let raw = text.expose_secret();
    if is_nfc_quick(raw.chars()) == IsNormalized::Yes {
        return text;
    }
    // Room for the whole at once: a buffer that grew would leave copies of its beginning behind.
    let mut normal = String::with_capacity(raw.len() * COMPOSITION);
    normal.extend(raw.nfc());
    SecretString::from(normal)
}

/// A username or an address somebody claims to have: like a [`Credential`], one that can't be is wrong, not malformed.
#[derive(Clone, Debug)]
pub struct Identifier(String);

impl Deref for Identifier {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Field for Identifier {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let text = trimmed(string(value)?);
        if text.is_empty() { wrong(BLANK) } else { Ok(Self(text)) }
    }
}

string_type!([] Identifier, "identifier", |schema| {
    lengths::<1, MAX_EMAIL>(schema);
});

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
mod tests;

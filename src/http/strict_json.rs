//! JSON without the liberties: what two parsers may read differently is refused.
//!
//! `serde_json` does the parsing and already refuses lone surrogates and numbers out of range. Its own `Value` keeps
//! the last of two members of one name, takes NUL (which PostgreSQL can't store) and nests 128 deep; ours refuses.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest. The deepest input of ours needs three levels.
pub const MAX_DEPTH: usize = 64;
/// How much of a client's member name an error repeats, in characters.
const QUOTED: usize = 40;

/// Parses one JSON text.
///
/// # Errors
/// A sentence for people, saying what is wrong and at which line and column.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8: invalid sequence after {} bytes", error.valid_up_to()))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value =
        Strict { levels: MAX_DEPTH }.deserialize(&mut deserializer).map_err(|error| reason(&error))?;
    deserializer.end().map_err(|error| reason(&error))?;
    Ok(value)
}

fn reason(error: &serde_json::Error) -> String {
    // What `serde_json` calls the missing second half of a surrogate pair, and only that.
    error.to_string().replacen("unexpected end of hex escape", "lone leading surrogate in hex escape", 1)
}

/// Reads a value that may nest `levels` deep.
#[derive(Clone, Copy)]
struct Strict {
    levels: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { levels }),
            None => Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        without_nul(&value, "a string")?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            without_nul(&name, "the name of a member")?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member {} given twice", quoted(&name))));
            }
            let value = members.next_value_seed(deeper)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

fn without_nul<E: Error>(text: &str, what: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom(format_args!("NUL in {what}"))) } else { Ok(()) }
}

fn quoted(name: &str) -> String {
    match name.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refusal(text: &str) -> String {
        parse(text.as_bytes()).expect_err("must be refused")
    }

    #[test]
    fn ordinary_json_is_what_it_is() {
        let text =
            r#" {"a": [1, -2, 3.5, "x\u00e9\ud83d\ude00", true, null], "b": {"a": 18446744073709551615}} "#;
        let expected = json!({"a": [1, -2, 3.5, "xé😀", true, null], "b": {"a": u64::MAX}});
        assert_eq!(parse(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_refusal_says_what_and_where() {
        assert_eq!(refusal(r#"{"a": 1, "a": 2}"#), r#"member "a" given twice at line 1 column 12"#);
        assert_eq!(
            refusal(r#"{"o": [{"b": 1, "\u0062": 2}]}"#),
            r#"member "b" given twice at line 1 column 24"#
        );
        assert_eq!(refusal(r#"{"a": "x\u0000"}"#), "NUL in a string at line 1 column 15");
        assert_eq!(refusal(r#"{"\u0000": 1}"#), "NUL in the name of a member at line 1 column 9");
        assert!(refusal(r#"{"a": "\ud800"}"#).contains("surrogate"));
        assert!(refusal(r#"{"\udc00": 1}"#).contains("surrogate"));
        assert!(refusal(r#"{"a": "\ud800x"}"#).contains("line 1 column"));
        assert_eq!(refusal(r#"{"a": 1} x"#), "trailing characters at line 1 column 10");
        assert_eq!(refusal("{"), "EOF while parsing an object at line 1 column 1");
        assert_eq!(refusal(""), "EOF while parsing a value at line 1 column 0");
        assert_eq!(refusal(r#"{"a": 1e999}"#), "number out of range at line 1 column 11");
        assert_eq!(parse(b"{\"a\": \"\xff\"}"), Err("not UTF-8: invalid sequence after 7 bytes".into()));
        assert_eq!(parse(b"\xef\xbb\xbf{}"), Err("expected value at line 1 column 1".into()));
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(refusal(&nested(MAX_DEPTH + 1)).starts_with("nested deeper than 64 levels"));
        assert!(refusal(&"[".repeat(10_000)).starts_with("nested deeper than 64 levels"));
        assert!(refusal(&r#"{"a":"#.repeat(10_000)).starts_with("nested deeper than 64 levels"));
    }

    #[test]
    fn a_long_name_is_not_repeated_whole() {
        let name = "ü".repeat(5_000);
        assert!(refusal(&format!(r#"{{"{name}": 1, "{name}": 2}}"#)).len() < 200);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[^\0]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map("[^\0]{0,6}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_was_written_is_read_back(value in any_json()) {
            prop_assert_eq!(parse(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn bytes_never_panic_and_never_bring_a_nul(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = parse(&bytes) {
                prop_assert!(!value.to_string().contains("\\u0000"));
            }
        }

        #[test]
        fn a_member_given_twice_is_refused_wherever_it_is(name in "[a-z]{1,4}", depth in 0_usize..8) {
            let text = format!("{}{{{name:?}:1,{name:?}:1}}{}", "[".repeat(depth), "]".repeat(depth));
            prop_assert!(refusal(&text).contains("given twice"));
        }
    }
}

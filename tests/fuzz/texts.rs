//! Bodies in JSON, and tables in CSV.

use serde_json::Value;
use tenantry::{cli::provision, http::strict_json};
use tenants::Slug;

/// `serde_json` is the reference: ours reads the same and refuses more, each time for a reason of its own.
pub(super) fn body(input: &[u8]) {
    let reference = serde_json::from_slice::<Value>(input);
    match strict_json::parse(input) {
        Ok(value) => {
            let reference = reference.expect("what ours takes, the reference takes");
            assert_eq!(value, reference);
            assert!(depth(&value) <= strict_json::MAX_DEPTH && !has_nul(&value));
            let written = value.to_string();
            assert!(written.len() <= 8 * input.len() + 32, "it grows out of bounds");
            let again = strict_json::parse(written.as_bytes()).expect("what was written is read");
            // Of numbers with a fraction the shortest text may be a neighbour's: the reference is not asked for more.
            assert!(has_fraction(&value) || again == value, "{written}");
        }
        Err(sentence) => {
            assert!(sentence.len() <= 1024, "a sentence for people: {sentence}");
            assert!(!sentence.contains(char::is_control), "it goes onto terminals: {sentence:?}");
            if let Ok(reference) = reference {
                let ours = ["given twice", "NUL in", "nested deeper"];
                assert!(ours.iter().any(|it| sentence.contains(it)), "{sentence}: {reference}");
            }
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn any(value: &Value, found: &impl Fn(&Value) -> bool) -> bool {
    found(value)
        || match value {
            Value::Array(items) => items.iter().any(|item| any(item, found)),
            Value::Object(members) => members.values().any(|member| any(member, found)),
            _ => false,
        }
}

fn has_nul(value: &Value) -> bool {
    any(value, &|value| match value {
        Value::String(text) => text.contains('\0'),
        Value::Object(members) => members.keys().any(|name| name.contains('\0')),
        _ => false,
    })
}

fn has_fraction(value: &Value) -> bool {
    any(value, &Value::is_f64)
}

/// Each line of a table that makes sense is one tenant, with a slug of its own, and stands where it is said to.
pub(super) fn table(input: &[u8]) {
    match provision::lines_of(input) {
        Ok(lines) => {
            let text = std::str::from_utf8(input).expect("what is no text makes no sense");
            let mut slugs = std::collections::HashSet::new();
            let mut last = 1;
            for (line, slug, name) in &lines {
                assert!(*line > last, "lines go up: {lines:?}");
                last = *line;
                assert!(slugs.insert(slug.clone()), "one slug, one tenant: {lines:?}");
                assert!(slug.parse::<Slug>().is_ok() && !name.is_empty() && !name.contains('\0'));
            }
            let count = text.replace("\r\n", "\n").split(['\n', '\r']).count();
            assert!(u64::try_from(count).is_ok_and(|count| last <= count), "{last} of {count} lines");
            // Written in one way by another program, it says the same.
            let rows = lines
                .iter()
                .map(|(_, slug, name)| format!("\"{}\",{slug},a@b.example\n", name.replace('"', "\"\"")));
            let again = format!("name,slug,owner_email\n{}", rows.collect::<String>());
            let again = provision::lines_of(again.as_bytes()).expect("the same table");
            let said = |lines: &[(u64, String, String)]| -> Vec<_> {
                lines.iter().map(|(_, slug, name)| (slug.clone(), name.clone())).collect()
            };
            assert_eq!(said(&again), said(&lines));
        }
        Err(sentence) => assert!(!sentence.is_empty()),
    }
}

//! Entity tags, and the lists of them that requests bring.

use data_encoding::BASE64URL_NOPAD;
use poem::http::HeaderValue;
use uuid::Uuid;

use crate::http::edge::Viewer;

/// 128 bits of the hash: two bodies of one user never share them by chance.
const TAG_BYTES: usize = 16;

/// A strong tag over tenant, user and body.
pub(crate) fn tag(viewer: Viewer, body: &[u8]) -> HeaderValue {
    let mut hash = blake3::Hasher::new();
    // Both have a fixed length, so no two combinations run into the same bytes.
    hash.update(viewer.tenant.unwrap_or(Uuid::nil()).as_bytes());
    hash.update(viewer.user.unwrap_or(Uuid::nil()).as_bytes());
    hash.update(body);
    let tag = format!("\"{}\"", BASE64URL_NOPAD.encode(&hash.finalize().as_bytes()[..TAG_BYTES]));
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// How two tags are compared: section 8.8.3.2 of RFC 9110.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Both are strong and the same.
    Strong,
    /// They are the same but for being weak.
    Weak,
}

/// Whether the lines of a header name the tag. `*` names every tag, and stands alone; lines that can't be read name none.
pub(super) fn name(lines: &[HeaderValue], tag: &[u8], comparison: Comparison) -> bool {
    if let [line] = lines
        && line.as_bytes().trim_ascii() == b"*"
    {
        return true;
    }
    let mut named = false;
    for line in lines {
        match names(line.as_bytes(), tag, comparison) {
            Some(found) => named |= found,
            // The lines are one list; what can't be read spoils it.
            None => return false,
        }
    }
    named
}

/// Whether a list of tags names this one; `None` if it is no such list.
fn names(list: &[u8], tag: &[u8], comparison: Comparison) -> Option<bool> {
    let mut named = false;
    let mut rest = list.trim_ascii();
    while !rest.is_empty() {
        // Empty elements are to be passed over.
        if let Some(more) = rest.strip_prefix(b",") {
            rest = more.trim_ascii_start();
            continue;
        }
        let (one, more) = first_tag(rest)?;
        named |= match comparison {
            Comparison::Strong => one == tag && one.starts_with(b"\""),
            Comparison::Weak => opaque(one) == opaque(tag),
        };
        rest = more.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
    Some(named)
}

/// A tag without the mark of a weak one.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The tag at the start, and what follows it.
fn first_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = opaque(text).strip_prefix(b"\"")?;
    let end = inner.iter().position(|byte| *byte == b'"')?;
    let allowed = |byte: &u8| *byte == 0x21 || (0x23..=0x7e).contains(byte) || *byte >= 0x80;
    inner[..end].iter().all(allowed).then(|| text.split_at(text.len() - inner.len() + end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Comparison::{Strong, Weak},
        *,
    };

    fn named(lines: &[&str], tag: &str, comparison: Comparison) -> bool {
        let lines: Vec<HeaderValue> =
            lines.iter().map(|line| HeaderValue::from_str(line).expect("a line")).collect();
        name(&lines, tag.as_bytes(), comparison)
    }

    #[test]
    fn a_list_names_its_tags() {
        for list in [
            r#""a""#,
            r#" "x" , "a" "#,
            r#","a","#,
            r#""x,y","a""#,
            r#"W/"x", "a""#,
            "*",
            " * ",
            r#""",,"a""#,
            "\"x\"\t, \"a\"",
        ] {
            assert!(named(&[list], r#""a""#, Strong), "{list}");
            assert!(named(&[list], r#""a""#, Weak), "{list}");
        }
        for list in [
            "",
            ",",
            "a",
            r#""b""#,
            r#"w/"a""#,
            r#"W/ "a""#,
            r#""a"#,
            r#""a" "b""#,
            r#"*, "a""#,
            r#""a", *"#,
            r#""x" y, "a""#,
            r#""a", x"#,
            r#""a "b""#,
            r#""A""#,
            "'a'",
        ] {
            assert!(!named(&[list], r#""a""#, Strong), "{list}");
            assert!(!named(&[list], r#""a""#, Weak), "{list}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        assert!(named(&[r#""x""#, r#""a""#], r#""a""#, Strong));
        assert!(named(&[r#""a""#, ""], r#""a""#, Strong));
        assert!(!named(&[r#""x""#, r#""y""#], r#""a""#, Weak));
        assert!(!named(&["*", r#""a""#], r#""a""#, Weak), "`*` is no member of a list");
        assert!(!named(&[r#""a""#, "b"], r#""a""#, Weak), "a line that can't be read spoils the list");
        assert!(!named(&[], r#""a""#, Weak));
    }

    #[test]
    fn a_weak_tag_counts_only_where_weak_ones_do() {
        for (list, tag) in [(r#"W/"a""#, r#""a""#), (r#""a""#, r#"W/"a""#), (r#"W/"a""#, r#"W/"a""#)] {
            assert!(named(&[list], tag, Weak), "{list} {tag}");
            assert!(!named(&[list], tag, Strong), "{list} {tag}");
        }
    }

    #[test]
    fn the_tag_tells_tenants_and_users_apart() {
        let [a, b] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let viewer = |tenant, user| Viewer { tenant, user };
        let tags = [
            tag(viewer(None, None), b"{}"),
            tag(viewer(Some(a), None), b"{}"),
            tag(viewer(None, Some(a)), b"{}"),
            tag(viewer(Some(a), Some(b)), b"{}"),
            tag(viewer(Some(b), Some(a)), b"{}"),
            tag(viewer(Some(b), Some(a)), b"{ }"),
        ];
        for (index, one) in tags.iter().enumerate() {
            assert_eq!(tags.iter().position(|tag| tag == one), Some(index));
        }
        assert_eq!(tag(viewer(Some(a), Some(b)), b"{}"), tags[3]);
    }

    proptest! {
        #[test]
        fn a_tag_is_found_wherever_it_stands(
            before in proptest::collection::vec("[!#-~]{0,8}", 0..4), tag in "[!#-~]{0,8}",
            after in proptest::collection::vec("[!#-~]{0,8}", 0..4), weak in any::<bool>(), space in "[ \t]{0,2}",
        ) {
            let tags: Vec<String> = before.iter().chain([&tag]).chain(&after)
                .map(|tag| format!("{}\"{tag}\"", if weak { "W/" } else { "" })).collect();
            let list = tags.join(&format!("{space},{space}"));
            let quoted = format!("\"{tag}\"");
            prop_assert_eq!(names(list.as_bytes(), quoted.as_bytes(), Weak), Some(true));
            prop_assert_eq!(names(list.as_bytes(), quoted.as_bytes(), Strong), Some(!weak));
        }

        #[test]
        fn bytes_never_panic(list in proptest::collection::vec(any::<u8>(), 0..40)) {
            for comparison in [Strong, Weak] {
                let _ = names(&list, b"\"a\"", comparison);
            }
        }
    }
}

//! Lists in headers and in queries.

use poem::http::HeaderValue;
use tenantry::http::{Listing, PageQuery, conditional};

const TAG: &[u8] = b"\"a\"";

/// The first byte says where the lines break. The reference goes through a list as the grammar of RFC 9110 has it, one byte
/// after the other.
pub(super) fn etag(input: &[u8]) {
    let Some((separator, list)) = input.split_first() else { return };
    let lines: Option<Vec<HeaderValue>> =
        list.split(|byte| byte == separator).map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let Some(lines) = lines else { return };
    for strongly in [true, false] {
        let expected = reference(&lines, strongly);
        assert_eq!(conditional::names(&lines, TAG, strongly), expected, "{lines:?}, strongly: {strongly}");
    }
}

fn reference(lines: &[HeaderValue], strongly: bool) -> bool {
    #[derive(PartialEq)]
    enum At {
        Start,
        Weak,
        Quote,
        Inside,
        After,
    }
    if let [line] = lines
        && line.as_bytes().trim_ascii() == b"*"
    {
        return true;
    }
    let mut named = false;
    for line in lines {
        let (mut at, mut weak, mut tag) = (At::Start, false, Vec::new());
        for &byte in line.as_bytes() {
            at = match (at, byte) {
                (At::Start | At::After, b',') => At::Start,
                (At::Start, b' ' | b'\t') => At::Start,
                (At::After, b' ' | b'\t') => At::After,
                (At::Start, b'W') => At::Weak,
                (At::Weak, b'/') => At::Quote,
                (start @ (At::Start | At::Quote), b'"') => {
                    (weak, tag) = (start == At::Quote, Vec::new());
                    At::Inside
                }
                (At::Inside, b'"') => {
                    named |= tag == b"a" && !(weak && strongly);
                    At::After
                }
                (At::Inside, 0x21 | 0x23..=0x7e | 0x80..) => {
                    tag.push(byte);
                    At::Inside
                }
                _ => return false,
            };
        }
        if !matches!(at, At::Start | At::After) {
            return false;
        }
    }
    named
}

struct Things;

impl Listing for Things {
    const FIELDS: &'static [&'static str] = &["name", "created", "size"];
    const DEFAULT: &'static str = "-created";
    const SEARCH: Option<&'static str> = Some("names");
}

/// Whatever is asked for, the window lies within the list, and the links lead to the neighbours of the same list.
pub(super) fn page(input: &[u8]) {
    let Some((count, query)) = input.split_first_chunk::<2>() else { return };
    let (count, Ok(query)) = (u64::from(u16::from_be_bytes(*count)), std::str::from_utf8(query)) else {
        return;
    };
    let Ok(asked) = PageQuery::<Things>::parse(query) else { return };
    assert!(asked.words().len() <= 16 && asked.words().iter().all(|word| !word.contains('\0')));
    let fields: Vec<&str> = asked.order().iter().map(|order| order.field).collect();
    assert!(!fields.is_empty() && fields.iter().all(|field| Things::FIELDS.contains(field)));
    assert_eq!(fields.iter().collect::<std::collections::HashSet<_>>().len(), fields.len(), "each once");
    let Ok(window) = asked.window(count) else { return };
    assert!((1..=100).contains(&window.limit) && window.offset <= count.saturating_sub(1));
    assert_eq!(window.offset % window.limit, 0);
    let page = serde_json::to_value(asked.page(&window, Vec::<u8>::new())).expect("JSON");
    let (next, previous) = (&page["next"], &page["previous"]);
    assert_eq!(previous.is_null(), window.offset == 0);
    assert_eq!(next.is_null(), window.offset + window.limit >= count);
    for (link, offset) in
        [(next, window.offset + window.limit), (previous, window.offset.saturating_sub(window.limit))]
    {
        let Some(link) = link.as_str() else { continue };
        let linked = PageQuery::<Things>::parse(link.strip_prefix('?').unwrap_or(link)).expect("a link");
        assert_eq!((linked.words(), linked.order()), (asked.words(), asked.order()), "{link}");
        let there = linked.window(count).expect("a page that is there");
        assert_eq!((there.offset, there.limit), (offset, window.limit), "{link}");
    }
}

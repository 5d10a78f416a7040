//! `ETag` and `If-None-Match`.

use data_encoding::BASE64URL_NOPAD;
use poem::{
    Body, Request, Response,
    http::{
        HeaderValue, Method, StatusCode,
        header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY},
    },
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{edge::Viewer, error::Problem};

/// 128 bits of the hash: two bodies of one user never share them by chance.
const TAG_BYTES: usize = 16;

/// What a GET asks about a version it already has. Read before the endpoint takes the request.
pub(crate) struct Conditions {
    if_none_match: Vec<HeaderValue>,
    viewer: Viewer,
}

impl Conditions {
    /// Those of a request; `None` if its method has no use for them.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        (*request.method() == Method::GET).then(|| Self {
            if_none_match: request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect(),
            viewer: request.data::<Viewer>().copied().unwrap_or_default(),
        })
    }

    /// Tags the answer, and shortens it to 304 if the client has it already. An answer with a `Cache-Control` of its own
    /// keeps that and, unless it also brought a tag, goes without.
    pub(crate) async fn apply(self, response: &mut Response) -> Result<(), Problem> {
        if response.status() != StatusCode::OK {
            return Ok(());
        }
        if is_json(response) && !response.headers().contains_key(CACHE_CONTROL) {
            let body = response.take_body().into_bytes().await.map_err(Problem::internal)?;
            let tag = tag(self.viewer, &body);
            let headers = response.headers_mut();
            headers.insert(ETAG, tag);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
            // The host is part of every cache's key; the user and the tenant may come from these.
            headers.append(VARY, HeaderValue::from_static("Authorization, X-Tenant"));
            response.set_body(Body::from_bytes(body));
        }
        let known = response.headers().get(ETAG).is_some_and(|tag| self.knows(tag.as_bytes()));
        if known {
            response.set_status(StatusCode::NOT_MODIFIED);
            response.set_body(());
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        Ok(())
    }

    fn knows(&self, tag: &[u8]) -> bool {
        self.if_none_match.iter().any(|line| names(line.as_bytes(), tag))
    }
}

fn is_json(response: &Response) -> bool {
    response.content_type().is_some_and(|media_type| media_type.starts_with("application/json"))
}

/// A strong tag over tenant, user and body.
pub(crate) fn tag(viewer: Viewer, body: &[u8]) -> HeaderValue {
    let mut hash = Sha256::new();
    // Both have a fixed length, so no two combinations run into the same bytes.
    hash.update(viewer.tenant.unwrap_or(Uuid::nil()));
    hash.update(viewer.user.unwrap_or(Uuid::nil()));
    hash.update(body);
    let tag = format!("\"{}\"", BASE64URL_NOPAD.encode(&hash.finalize()[..TAG_BYTES]));
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether `If-None-Match` names the tag, compared weakly, as RFC 9110 has it. A list that can't be read names none:
/// the client then gets the whole answer, which is never wrong.
fn names(list: &[u8], tag: &[u8]) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let mut named = false;
    let mut rest = list.trim_ascii();
    while !rest.is_empty() {
        if let Some(more) = rest.strip_prefix(b",") {
            rest = more.trim_ascii_start();
            continue;
        }
        let Some((one, more)) = entity_tag(rest) else { return false };
        named |= one == tag.strip_prefix(b"W/").unwrap_or(tag);
        rest = more.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return false;
        }
    }
    named
}

/// The quoted part of the tag at the start, and what follows it.
fn entity_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"W/").unwrap_or(text);
    let inner = text.strip_prefix(b"\"")?;
    let end = inner.iter().position(|byte| *byte == b'"')?;
    let allowed = |byte: &u8| *byte == 0x21 || (0x23..=0x7e).contains(byte) || *byte >= 0x80;
    inner[..end].iter().all(allowed).then(|| text.split_at(end + 2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_names_its_tags_weak_or_strong() {
        for list in [
            r#""a""#,
            r#"W/"a""#,
            r#" "x" , W/"a" "#,
            r#","a","#,
            r#""x,y","a""#,
            "*",
            " * ",
            r#""",,"a""#,
            r#""x"	, "a""#,
        ] {
            assert!(names(list.as_bytes(), b"\"a\""), "{list}");
        }
        assert!(names(b"\"a\"", b"W/\"a\""));
        for list in [
            "",
            ",",
            "a",
            r#""b""#,
            r#"w/"a""#,
            r#""a"#,
            r#""a" "b""#,
            r#"*, "a""#,
            r#""x" y, "a""#,
            r#""a "b""#,
            r#""A""#,
        ] {
            assert!(!names(list.as_bytes(), b"\"a\""), "{list}");
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
            prop_assert!(names(list.as_bytes(), quoted.as_bytes()));
        }

        #[test]
        fn bytes_never_panic(list in proptest::collection::vec(any::<u8>(), 0..40)) {
            names(&list, b"\"a\"");
        }
    }
}

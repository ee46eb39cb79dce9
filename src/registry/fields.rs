//! The header fields of requests and answers.

use http::{HeaderMap, HeaderValue, header};

use crate::digest::Digest;
use crate::media_type::MediaType;

const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";

/// The full list, always: without it distribution 2.8 rewrites manifests to schema 1, and answers 404
/// for what it cannot rewrite.
pub(super) fn accept_manifests() -> HeaderMap {
    MediaType::MANIFESTS
        .iter()
        .map(|media_type| (header::ACCEPT, from_text(media_type.as_str())))
        .collect::<Vec<_>>()
        .into_iter()
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
}

pub(super) fn from_text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("media types and digits are visible ASCII")
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(super) fn announced_digest(headers: &HeaderMap) -> Option<Digest> {
    text(headers, DOCKER_CONTENT_DIGEST)?.trim().parse().ok()
}

pub(super) fn content_type(headers: &HeaderMap) -> Option<MediaType> {
    text(headers, header::CONTENT_TYPE.as_str())?.parse().ok()
}

/// The `N` of `bytes N-M/L`.
pub(super) fn first_byte(content_range: &str) -> Option<u64> {
    let (first, _) = content_range.strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_asked_for_by_all_four_types() {
        assert_eq!(accept_manifests().get_all(header::ACCEPT).iter().count(), 4);
    }

    #[test]
    fn a_content_range_starts_at_its_first_number() {
        for (field, first) in [
            ("bytes 5-9/10", Some(5)),
            ("bytes 5-9/*", Some(5)),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes -5", None),
            ("", None),
        ] {
            assert_eq!(first_byte(field), first, "{field}");
        }
    }
}

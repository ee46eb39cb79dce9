//! The header fields of requests and answers.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use jiff::fmt::rfc2822::DateTimeParser;

use crate::digest::Digest;
use crate::media_type::MediaType;

const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";

/// The full list, always: without it distribution 2.8 rewrites manifests to schema 1, and answers 404
/// for what it cannot rewrite. On one line, since there are proxies that pass on one line of a name.
pub(super) fn accept_manifests() -> HeaderMap {
    let types = MediaType::MANIFESTS.map(|media_type| media_type.to_string());
    HeaderMap::from_iter([(header::ACCEPT, from_text(&types.join(", ")))])
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

/// How long a response asks us to wait: a number of seconds, or a date.
///
/// A date is compared with the response's own `Date`, so our clock need not agree with theirs.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| DateTimeParser::new().parse_timestamp(text).ok();
    let wait = date(asked)?.duration_since(date(text(header::DATE)?)?);
    Duration::try_from(wait).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<header::HeaderName>().unwrap(),
                    value.parse::<header::HeaderValue>().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (fields, wait) in [
            (vec![("retry-after", "7")], Some(7)),
            (
                vec![
                    ("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"),
                    ("date", "Fri, 31 Dec 1999 23:59:50 GMT"),
                ],
                Some(9),
            ),
            (
                vec![
                    ("retry-after", "Fri, 31 Dec 1999 23:59:50 GMT"),
                    ("date", "Fri, 31 Dec 1999 23:59:59 GMT"),
                ],
                None,
            ),
            (vec![("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], None),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-1")], None),
            (vec![], None),
        ] {
            assert_eq!(
                retry_after(&headers(&fields)),
                wait.map(Duration::from_secs),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn manifests_are_asked_for_by_all_four_types_on_one_line() {
        let headers = accept_manifests();
        let lines: Vec<_> = headers.get_all(header::ACCEPT).iter().collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].to_str().unwrap().split(", ").count(), 4);
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

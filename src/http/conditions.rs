//! The conditions of a request: whether the client has the content already, or wants only that very one.
//!
//! [RFC 9110, section 13](https://www.rfc-editor.org/rfc/rfc9110#section-13), in its order of precedence. A
//! field that cannot be read is no condition, except `If-Match`, which then fails.

use std::time::SystemTime;

use http::header::{
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{Method, StatusCode};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::range::{ByteRanges, TooMany};

/// What tells one content from the next at the same place.
#[derive(Debug, Clone)]
pub struct Validators {
    /// The entity tag; always a strong one.
    pub etag: HeaderValue,
    /// When the content was last changed.
    pub modified: Option<Timestamp>,
}

impl Validators {
    /// Those of content that is named by its digest: it never changes, so no date is needed.
    pub fn of(etag: HeaderValue) -> Self {
        Self {
            etag,
            modified: None,
        }
    }

    /// The `Last-Modified` field.
    pub fn last_modified(&self) -> Option<HeaderValue> {
        let text = self.modified?.strftime(IMF_FIXDATE).to_string();
        HeaderValue::try_from(text).ok()
    }

    /// The status to answer with instead of the content: 304 or 412.
    pub fn precondition(&self, headers: &HeaderMap) -> Option<StatusCode> {
        let changed_since = |name| {
            // The field has whole seconds only.
            let modified = self.modified?.as_second();
            Some(modified > date(headers.get(name)?)?.as_second())
        };
        let unwanted = if headers.contains_key(IF_MATCH) {
            !lists(headers, IF_MATCH, |tag| tag == self.etag.as_bytes())
        } else {
            changed_since(IF_UNMODIFIED_SINCE) == Some(true)
        };
        if unwanted {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        let known = if headers.contains_key(IF_NONE_MATCH) {
            matches_etag(headers, &self.etag)
        } else {
            changed_since(IF_MODIFIED_SINCE) == Some(false)
        };
        known.then_some(StatusCode::NOT_MODIFIED)
    }
}

/// Whether `If-None-Match` names the entity tag, weak or strong.
pub fn matches_etag(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    lists(headers, IF_NONE_MATCH, |tag| {
        tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes()
    })
}

/// The ranges a request asks for, unless there are none we understand or `If-Range` names other content.
///
/// Only `GET` has ranges. A date in `If-Range` counts as other content: it tells two versions of the same
/// second not apart, and sending the whole is never wrong.
pub fn requested_ranges(
    method: &Method,
    headers: &HeaderMap,
    etag: &HeaderValue,
) -> Result<Option<ByteRanges>, TooMany> {
    let mut fields = headers.get_all(RANGE).iter();
    let (Some(field), None, true) = (fields.next(), fields.next(), method == Method::GET) else {
        return Ok(None);
    };
    let other = |condition: &HeaderValue| condition != etag;
    if headers.get_all(IF_RANGE).iter().any(other) {
        return Ok(None);
    }
    field.to_str().map_or(Ok(None), ByteRanges::parse)
}

/// Whether a field that lists entity tags is `*` or has a tag that `matches`.
fn lists(headers: &HeaderMap, name: HeaderName, matches: impl Fn(&[u8]) -> bool) -> bool {
    let lines = headers.get_all(name);
    let mut tags = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    tags.any(|tag| tag == b"*" || matches(tag))
}

/// How HTTP writes times; the two older forms must be understood as well (RFC 9110, section 5.6.7).
const IMF_FIXDATE: &str = "%a, %d %b %Y %H:%M:%S GMT";
const RFC_850: &str = "%A, %d-%b-%y %H:%M:%S GMT";
const ASCTIME: &str = "%a %b %e %H:%M:%S %Y";

fn date(field: &HeaderValue) -> Option<Timestamp> {
    let text = field.to_str().ok()?;
    let forms = [IMF_FIXDATE, RFC_850, ASCTIME];
    let date = forms
        .iter()
        .find_map(|form| DateTime::strptime(form, text).ok())?;
    TimeZone::UTC.to_timestamp(date).ok()
}

/// A file's time as a timestamp, if it is one that can be written.
pub(super) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    time.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODIFIED: i64 = 784_111_777;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn validators() -> Validators {
        Validators {
            etag: HeaderValue::from_static("\"a\""),
            modified: Some(Timestamp::from_millisecond(MODIFIED * 1000 + 700).unwrap()),
        }
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn conditions_are_asked_in_the_order_of_the_rfc() {
        type Fields<'a> = &'a [(HeaderName, &'a str)];
        let cases: &[(Fields<'_>, Option<u16>)] = &[
            (&[], None),
            (&[(IF_NONE_MATCH, "\"a\"")], Some(304)),
            (&[(IF_NONE_MATCH, "\"x\", W/\"a\"")], Some(304)),
            (
                &[(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a\"")],
                Some(304),
            ),
            (&[(IF_NONE_MATCH, "*")], Some(304)),
            (&[(IF_NONE_MATCH, "\"x\"")], None),
            (&[(IF_NONE_MATCH, "a")], None),
            (&[(IF_MODIFIED_SINCE, DATE)], Some(304)),
            (
                &[(IF_MODIFIED_SINCE, "Sunday, 06-Nov-94 08:49:37 GMT")],
                Some(304),
            ),
            (
                &[(IF_MODIFIED_SINCE, "Sun Nov  6 08:49:37 1994")],
                Some(304),
            ),
            (&[(IF_MODIFIED_SINCE, EARLIER)], None),
            (&[(IF_MODIFIED_SINCE, "yesterday")], None),
            (&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, DATE)], None),
            (&[(IF_MATCH, "\"a\"")], None),
            (&[(IF_MATCH, "*")], None),
            (&[(IF_MATCH, "W/\"a\"")], Some(412)),
            (&[(IF_MATCH, "\"x\"")], Some(412)),
            (&[(IF_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a\"")], Some(412)),
            (&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, "\"a\"")], Some(304)),
            (&[(IF_UNMODIFIED_SINCE, DATE)], None),
            (&[(IF_UNMODIFIED_SINCE, EARLIER)], Some(412)),
            (&[(IF_MATCH, "\"a\""), (IF_UNMODIFIED_SINCE, EARLIER)], None),
        ];
        for (fields, expected) in cases {
            let status = validators().precondition(&headers(fields));
            assert_eq!(
                status.map(|status| status.as_u16()),
                *expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn content_named_by_its_digest_has_no_date() {
        let validators = Validators::of(HeaderValue::from_static("\"a\""));
        let asked = headers(&[(IF_MODIFIED_SINCE, DATE)]);
        assert_eq!(validators.precondition(&asked), None);
        assert_eq!(validators.last_modified(), None);
    }

    #[test]
    fn last_modified_is_written_as_it_is_read() {
        assert_eq!(validators().last_modified().unwrap(), DATE);
    }

    #[test]
    fn a_range_counts_for_get_and_for_this_content_only() {
        let etag = HeaderValue::from_static("\"a\"");
        let range = |method: Method, fields: &[(HeaderName, &str)]| {
            requested_ranges(&method, &headers(fields), &etag)
                .unwrap()
                .is_some()
        };
        let asked = (RANGE, "bytes=0-1");
        assert!(range(Method::GET, std::slice::from_ref(&asked)));
        assert!(range(Method::GET, &[asked.clone(), (IF_RANGE, "\"a\"")]));
        assert!(!range(Method::HEAD, std::slice::from_ref(&asked)));
        for other in ["\"x\"", "W/\"a\"", DATE] {
            assert!(!range(Method::GET, &[asked.clone(), (IF_RANGE, other)]));
        }
        assert!(!range(Method::GET, &[asked.clone(), asked]));
    }

    proptest! {
        #[test]
        fn reading_never_panics(value in "[ -~]{0,60}") {
            let fields = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];
            let fields: Vec<_> = fields.into_iter().map(|name| (name, value.as_str())).collect();
            let _ = validators().precondition(&headers(&fields));
            drop(requested_ranges(&Method::GET, &headers(&fields), &validators().etag));
        }
    }
}

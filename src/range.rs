//! Byte ranges: what a client asks for with `Range`, and what of it a blob has.
//!
//! Follows [RFC 9110, section 14](https://www.rfc-editor.org/rfc/rfc9110#section-14): a field we do
//! not understand is ignored and the whole is sent; only a well-formed range that lies outside the
//! content is an error (416).

use std::fmt;
use std::ops::Range;

/// Most ranges honoured in one field.
///
/// More is answered with the whole content, as the RFC allows: thousands of tiny overlapping ranges
/// are a known attack (RFC 9110, section 17.15).
pub const MAX_RANGES: usize = 200;

/// One range as written by a client, before the length of the content is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// `a-b`: from `a` to `b`, both included.
    FromTo(u64, u64),
    /// `a-`: from `a` to the end.
    From(u64),
    /// `-n`: the last `n` bytes.
    Last(u64),
}

impl ByteRange {
    /// The bytes this selects out of a content of `length` bytes, or `None` if it selects none.
    pub fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::FromTo(first, last) => first..last.saturating_add(1).min(length),
            Self::From(first) => first..length,
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromTo(first, last) => write!(f, "{first}-{last}"),
            Self::From(first) => write!(f, "{first}-"),
            Self::Last(count) => write!(f, "-{count}"),
        }
    }
}

/// A `Range` field that asks for bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteRanges(Vec<ByteRange>);

impl ByteRanges {
    /// Parses the value of a `Range` field; `None` means it is to be ignored.
    ///
    /// ```
    /// use oci_mirror::range::{ByteRanges, Selection};
    /// let ranges = ByteRanges::parse("bytes=2-").unwrap();
    /// assert_eq!(ranges.select(10), Selection::Part(2..10));
    /// assert_eq!(ranges.select(2), Selection::Unsatisfiable);
    /// ```
    pub fn parse(field: &str) -> Option<Self> {
        let (unit, set) = field.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let mut ranges = Vec::new();
        for spec in set
            .split(',')
            .map(str::trim)
            .filter(|spec| !spec.is_empty())
        {
            if ranges.len() == MAX_RANGES {
                return None;
            }
            let (first, last) = spec.split_once('-')?;
            ranges.push(match (number(first).ok()?, number(last).ok()?) {
                (Some(first), Some(last)) if first <= last => ByteRange::FromTo(first, last),
                (Some(first), None) => ByteRange::From(first),
                (None, Some(count)) => ByteRange::Last(count),
                _ => return None,
            });
        }
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    /// What of a content of `length` bytes to send.
    pub fn select(&self, length: u64) -> Selection {
        let mut parts = self.0.iter().filter_map(|range| range.within(length));
        match (parts.next(), parts.next()) {
            (None, _) => Selection::Unsatisfiable,
            (Some(part), None) => Selection::Part(part),
            (Some(_), Some(_)) => Selection::Whole,
        }
    }

    /// Whether the client asks for the rest of a transfer that broke: one open range past the
    /// beginning.
    pub fn is_resumption(&self) -> bool {
        matches!(self.0[..], [ByteRange::From(first)] if first > 0)
    }
}

/// The answer to a `Range` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Several parts, which we answer with the whole, as section 14.2 allows.
    Whole,
    /// One part: 206.
    Part(Range<u64>),
    /// Nothing the content has: 416.
    Unsatisfiable,
}

/// What should be a number has something else in it.
struct NotANumber;

/// The number in `text`, or none if it is empty.
fn number(text: &str) -> Result<Option<u64>, NotANumber> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(NotANumber);
    }
    // A number beyond 64 bits lies past any content.
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selects_what_the_rfc_says() {
        for (field, expected) in [
            ("bytes=0-0", Selection::Part(0..1)),
            ("bytes=500-1499", Selection::Part(500..1499 + 1)),
            ("bytes=500-", Selection::Part(500..2048)),
            ("bytes=-500", Selection::Part(1548..2048)),
            ("bytes=-5000", Selection::Part(0..2048)),
            ("bytes=2000-5000", Selection::Part(2000..2048)),
            ("bytes=5000-10000", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("Bytes = 1-2", Selection::Part(1..3)),
            ("bytes=0-1,4-5", Selection::Whole),
            ("bytes=0-1,5000-", Selection::Part(0..2)),
        ] {
            assert_eq!(
                ByteRanges::parse(field).unwrap().select(2048),
                expected,
                "{field}"
            );
        }
    }

    #[test]
    fn ignores_what_it_does_not_understand() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=500-0",
            "bytes=a-b",
            "lines=1-2",
            "bytes=-",
            "bytes=+1-2",
        ] {
            assert_eq!(ByteRanges::parse(field), None, "{field}");
        }
        let many = format!("bytes={}", "0-0,".repeat(MAX_RANGES + 1));
        assert_eq!(ByteRanges::parse(&many), None);
    }

    #[test]
    fn only_an_open_range_past_the_start_is_a_resumption() {
        for (field, resumption) in [
            ("bytes=1-", true),
            ("bytes=0-", false),
            ("bytes=1-2", false),
            ("bytes=-1", false),
            ("bytes=1-,3-", false),
        ] {
            assert_eq!(
                ByteRanges::parse(field).unwrap().is_resumption(),
                resumption,
                "{field}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_inside_the_content(field in "bytes=[0-9]{0,4}-[0-9]{0,4}", length in 0_u64..5000) {
            if let Some(Selection::Part(part)) = ByteRanges::parse(&field).map(|r| r.select(length)) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }

        #[test]
        fn parsing_never_panics(field in ".{0,100}") {
            drop(ByteRanges::parse(&field));
        }

        #[test]
        fn ranges_round_trip(first: u64, extra: u32) {
            let range = ByteRange::FromTo(first, first.saturating_add(extra.into()));
            let parsed = ByteRanges::parse(&format!("bytes={range}"));
            prop_assert_eq!(parsed, Some(ByteRanges(vec![range])));
        }
    }
}

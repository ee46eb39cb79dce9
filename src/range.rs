//! Byte ranges: what a client asks for with `Range`, and what of it a blob has.
//!
//! Follows [RFC 9110, section 14](https://www.rfc-editor.org/rfc/rfc9110#section-14): a field we do
//! not understand is ignored and the whole is sent; only a well-formed range that lies outside the
//! content is an error (416).

use std::fmt;
use std::ops::Range;

/// Most ranges read from one field: as many as podman asks for when it fetches parts of a layer.
///
/// A field of that many, each with numbers of 14 digits, still fits the largest request head a
/// [server](crate::http::server::Limits) reads. Thousands of tiny overlapping ranges are a known attack
/// (RFC 9110, section 17.15).
pub const MAX_RANGES: usize = 1024;

/// One range as written by a client, before the length of the content is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ByteRanges(Vec<ByteRange>);

impl ByteRanges {
    /// Parses the value of a `Range` field; `None` means it is to be ignored.
    ///
    /// ```
    /// use oci_mirror::range::{ByteRanges, Selection};
    /// let ranges = ByteRanges::parse("bytes=2-").unwrap().unwrap();
    /// assert_eq!(ranges.select(10), Selection::Part(2..10));
    /// assert_eq!(ranges.select(2), Selection::Unsatisfiable);
    /// ```
    pub fn parse(field: &str) -> Result<Option<Self>, TooMany> {
        let Some((unit, set)) = field.split_once('=') else {
            return Ok(None);
        };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Ok(None);
        }
        let mut ranges = Vec::new();
        for spec in set
            .split(',')
            .map(str::trim)
            .filter(|spec| !spec.is_empty())
        {
            let Some(range) = byte_range(spec) else {
                return Ok(None);
            };
            if ranges.len() == MAX_RANGES {
                return Err(TooMany);
            }
            ranges.push(range);
        }
        Ok((!ranges.is_empty()).then_some(Self(ranges)))
    }

    /// What of a content of `length` bytes to send.
    pub fn select(&self, length: u64) -> Selection {
        let mut parts = self.0.iter().filter_map(|range| range.within(length));
        let (first, second) = match (parts.next(), parts.next()) {
            (None, _) => return Selection::Unsatisfiable,
            (Some(part), None) => return Selection::Part(part),
            (Some(first), Some(second)) => (first, second),
        };
        let mut selected = Vec::with_capacity(self.0.len());
        selected.extend([first, second]);
        selected.extend(parts);
        // Only ranges that overlap can add up to more than there is; the whole is then shorter.
        let mut room = length;
        for part in &selected {
            match room.checked_sub(part.end - part.start) {
                Some(rest) => room = rest,
                None => return Selection::Whole,
            }
        }
        Selection::Parts(selected)
    }

    /// Where the client goes on, if it asks for one open range past the beginning: the rest of a transfer that
    /// broke, or a chunk of which it does not say the end.
    pub fn resumes_at(&self) -> Option<u64> {
        match self.0[..] {
            [ByteRange::From(first)] if first > 0 => Some(first),
            _ => None,
        }
    }

    /// Whether the client asks for several ranges, however many of them there are.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }
}

/// The field asks for more than [`MAX_RANGES`] ranges.
///
/// It may be ignored; where clients know how to ask again for fewer, it is better refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_RANGES} ranges are asked for at once")]
pub struct TooMany;

/// The answer to a `Range` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Everything, because the ranges add up to more than that.
    Whole,
    /// One part: 206.
    Part(Range<u64>),
    /// Several parts in the order asked for, neither sorted nor merged: clients take them by position.
    Parts(Vec<Range<u64>>),
    /// Nothing the content has: 416.
    Unsatisfiable,
}

/// One `a-b`, `a-` or `-n`.
fn byte_range(spec: &str) -> Option<ByteRange> {
    let (first, last) = spec.split_once('-')?;
    match (number(first).ok()?, number(last).ok()?) {
        (Some(first), Some(last)) if first <= last => Some(ByteRange::FromTo(first, last)),
        (Some(first), None) => Some(ByteRange::From(first)),
        (None, Some(count)) => Some(ByteRange::Last(count)),
        _ => None,
    }
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

    fn parse(field: &str) -> ByteRanges {
        ByteRanges::parse(field).unwrap().unwrap()
    }

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
            ("bytes=5000-10000,-0", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("Bytes = 1-2", Selection::Part(1..3)),
            ("bytes=0-1,5000-", Selection::Part(0..2)),
        ] {
            assert_eq!(parse(field).select(2048), expected, "{field}");
        }
    }

    #[test]
    fn several_ranges_keep_order_and_count_and_the_unsatisfiable_are_left_out() {
        for (field, expected) in [
            ("bytes=0-1,4-5", vec![0..2, 4..6]),
            ("bytes=8-,0-1", vec![8..10, 0..2]),
            ("bytes=0-1,2-3", vec![0..2, 2..4]),
            ("bytes=0-1, 90-99 ,,-1", vec![0..2, 9..10]),
            ("bytes=1-2,1-2", vec![1..3, 1..3]),
        ] {
            assert_eq!(
                parse(field).select(10),
                Selection::Parts(expected),
                "{field}"
            );
        }
    }

    #[test]
    fn ranges_that_add_up_to_more_than_there_is_select_the_whole() {
        for field in ["bytes=0-,0-0", "bytes=0-5,0-5", "bytes=-9,-9,-9"] {
            assert_eq!(parse(field).select(10), Selection::Whole, "{field}");
        }
        assert_eq!(
            parse("bytes=0-4,5-9").select(10),
            Selection::Parts(vec![0..5, 5..10])
        );
        // Nor is the sum ever past what a number holds.
        assert_eq!(parse("bytes=0-,0-").select(u64::MAX), Selection::Whole);
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
            "bytes=0-1,x",
        ] {
            assert_eq!(ByteRanges::parse(field), Ok(None), "{field}");
        }
    }

    #[test]
    fn as_many_ranges_are_read_as_podman_sends_and_no_more() {
        let field = |count| format!("bytes={}", vec!["0-0"; count].join(","));
        assert!(parse(&field(MAX_RANGES)).are_several());
        assert_eq!(ByteRanges::parse(&field(MAX_RANGES + 1)), Err(TooMany));
    }

    #[test]
    fn the_longest_field_fits_the_head_of_a_request() {
        let number = "9".repeat(14);
        let field = format!(
            "Range: bytes={}\r\n",
            vec![format!("{number}-{number}"); MAX_RANGES].join(",")
        );
        let limit = crate::http::server::Limits::default().header_bytes;
        assert!(field.len() + 1024 < limit, "{}", field.len());
    }

    #[test]
    fn only_an_open_range_past_the_start_is_a_resumption() {
        for (field, resumption) in [
            ("bytes=1-", Some(1)),
            ("bytes=0-", None),
            ("bytes=1-2", None),
            ("bytes=-1", None),
            ("bytes=1-,3-", None),
        ] {
            assert_eq!(parse(field).resumes_at(), resumption, "{field}");
        }
    }

    proptest! {
        #[test]
        fn parts_lie_inside_the_content_and_are_no_more_than_it(
            field in "bytes=[0-9]{0,4}-[0-9]{0,4}(,[0-9]{0,4}-[0-9]{0,4}){0,6}", length in 0_u64..5000
        ) {
            let parts = match ByteRanges::parse(&field).unwrap().map(|ranges| ranges.select(length)) {
                Some(Selection::Part(part)) => vec![part],
                Some(Selection::Parts(parts)) => parts,
                _ => Vec::new(),
            };
            prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= length);
        }

        #[test]
        fn parsing_never_panics(field in ".{0,100}") {
            drop(ByteRanges::parse(&field));
        }

        #[test]
        fn ranges_round_trip(first: u64, extra: u32) {
            let range = ByteRange::FromTo(first, first.saturating_add(extra.into()));
            let parsed = ByteRanges::parse(&format!("bytes={range}"));
            prop_assert_eq!(parsed, Ok(Some(ByteRanges(vec![range]))));
        }
    }
}

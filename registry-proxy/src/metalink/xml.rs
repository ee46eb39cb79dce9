//! The little of XML that a metalink needs, written straight into the document.
//!
//! A library for writing XML builds each element from strings of its own; here the text around the
//! values is known, and only what comes from others is escaped. That the result is what a parser makes
//! of it is checked with one.

use crate::v2::fields::Decimal;

/// Appends text or the value of an attribute, escaped.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    let special = |byte: &u8| matches!(byte, b'<' | b'>' | b'&' | b'\'' | b'"');
    let mut rest = text.as_bytes();
    // Nearly no value has any; to look at all bytes without a way out is several at a time.
    if !rest.iter().fold(false, |found, byte| found | special(byte)) {
        out.extend_from_slice(rest);
        return;
    }
    while let Some(at) = rest.iter().position(special) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'&' => b"&amp;",
            b'\'' => b"&apos;",
            _ => b"&quot;",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends a number.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(Decimal::from(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_xml_is_escaped() {
        let mut out = Vec::new();
        escape(&mut out, "a<b>&'c'\"é");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a&lt;b&gt;&amp;&apos;c&apos;&quot;é"
        );
    }
}

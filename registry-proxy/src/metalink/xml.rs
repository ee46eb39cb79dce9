//! The little of XML that a metalink needs, written straight into the document.
//!
//! A library for writing XML builds each element from strings of its own; here the text around the
//! values is known, and only what comes from others is escaped. That the result is what a parser makes
//! of it is checked with one.

/// Appends text or the value of an attribute, escaped.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    let special = |byte: &u8| matches!(byte, b'<' | b'>' | b'&' | b'\'' | b'"');
    let mut rest = text.as_bytes();
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
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 7, 10, 1_048_576, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}

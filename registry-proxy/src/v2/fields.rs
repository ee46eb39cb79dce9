//! Header fields whose values are written one after the other into one piece of memory.
//!
//! A redirect has a dozen fields that hold the same digest in several spellings. One allocation for
//! all of them, of which each value is a slice, costs a tenth of a string for each.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Fields in the making.
#[derive(Debug)]
pub struct Fields {
    text: Vec<u8>,
    /// The names, and where the value of each ends.
    ends: Vec<(HeaderName, usize)>,
}

impl Fields {
    /// With room for so many bytes of values.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(16),
        }
    }

    /// Adds a field whose value is the parts joined.
    pub fn add(&mut self, name: HeaderName, parts: &[&[u8]]) {
        for part in parts {
            self.text.extend_from_slice(part);
        }
        self.end(name);
    }

    /// Adds a field whose value `write` appends to what it is given.
    pub fn write(&mut self, name: HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.text);
        self.end(name);
    }

    /// Adds a field whose value is a number.
    pub fn number(&mut self, name: HeaderName, value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.add(name, &[&digits[at..]]);
    }

    fn end(&mut self, name: HeaderName) {
        self.ends.push((name, self.text.len()));
    }

    /// How many bytes the fields take in a response, line ends included.
    pub fn length(&self) -> usize {
        let names = self.ends.iter().map(|(name, _)| line(name, 0));
        self.text.len() + names.sum::<usize>()
    }

    /// Appends the fields to those of a response, in the order in which they were added.
    ///
    /// A value that cannot stand in a field is left out: what others say was parsed before, so there is
    /// none unless by a defect, and a client does better without one line than without an answer.
    pub fn append_to(self, headers: &mut HeaderMap) {
        let text = Bytes::from(self.text);
        headers.reserve(self.ends.len());
        let mut start = 0;
        for (name, end) in self.ends {
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(start..end)) {
                headers.append(name, value);
            }
            start = end;
        }
    }
}

/// How many bytes a field with a value of `length` bytes takes in a response.
pub fn line(name: &HeaderName, length: usize) -> usize {
    name.as_str().len() + ": \r\n".len() + length
}

#[cfg(test)]
mod tests {
    use http::header::{ETAG, LINK};

    use super::*;

    #[test]
    fn fields_keep_their_order_and_repeat() {
        let mut fields = Fields::with_capacity(8);
        fields.add(LINK, &[b"<a", b">"]);
        fields.write(ETAG, |text| text.extend_from_slice(b"\"x\""));
        fields.add(LINK, &[b"<b>"]);
        let length = fields.length();
        let mut headers = HeaderMap::new();
        fields.append_to(&mut headers);
        let links: Vec<_> = headers.get_all(LINK).iter().collect();
        assert_eq!(links, ["<a>", "<b>"]);
        assert_eq!(headers[ETAG], "\"x\"");
        assert_eq!(length, "link: <a>\r\netag: \"x\"\r\nlink: <b>\r\n".len());
    }

    #[test]
    fn what_would_end_a_field_is_left_out() {
        let mut fields = Fields::with_capacity(8);
        fields.add(LINK, &[b"<a>\r\nset-cookie: x"]);
        let mut headers = HeaderMap::new();
        fields.append_to(&mut headers);
        assert!(headers.is_empty());
    }
}

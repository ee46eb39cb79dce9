//! Header fields of an answer, their values written one after the other into one piece of memory.
//!
//! A redirect has a dozen fields that hold the same digest in several spellings. Each thread has a
//! buffer of which every value is a slice; once the answers it was used for are sent, it is used from
//! the start again. So a field costs no allocation, and nothing is kept but the buffer.

use std::cell::RefCell;

use bytes::BytesMut;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Length of a thread's buffer: a few answers, and the longest one.
const BUFFER: usize = 16 << 10;

thread_local! {
    static VALUES: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(BUFFER));
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// How many empty maps a thread keeps.
const SPARES: usize = 8;

/// The largest map kept, in fields: larger than any of ours, and than those of clients who mean well.
const SPARE_FIELDS: usize = 64;

/// Takes the fields of a request that is answered: the next answer's will stand in their place.
pub fn recycle(mut headers: HeaderMap) {
    if headers.len() <= SPARE_FIELDS && headers.capacity() <= 2 * SPARE_FIELDS {
        headers.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(headers);
            }
        });
    }
}

/// Adds fields to those of a response.
#[derive(Debug)]
pub struct Fields<'a> {
    headers: &'a mut HeaderMap,
    length: usize,
}

impl<'a> Fields<'a> {
    /// Adds about `names` fields of different names to `headers`.
    pub fn new(headers: &'a mut HeaderMap, names: usize) -> Self {
        if headers.is_empty()
            && let Some(spare) = SPARE.with_borrow_mut(Vec::pop)
        {
            *headers = spare;
        }
        headers.reserve(names);
        Self { headers, length: 0 }
    }

    /// Adds a field whose value is the parts joined.
    ///
    /// A value that cannot stand in a field is left out: what others say was parsed before, so there is
    /// none unless by a defect, and a client does better without one line than without an answer.
    pub fn add(&mut self, name: HeaderName, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum();
        let value = VALUES.with_borrow_mut(|values| {
            if values.capacity() < length {
                values.reserve(length.max(BUFFER));
            }
            for part in parts {
                values.extend_from_slice(part);
            }
            values.split().freeze()
        });
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            self.length += line(&name, length);
            self.headers.append(name, value);
        }
    }

    /// Adds a field whose value is a number.
    pub fn number(&mut self, name: HeaderName, value: u64) {
        self.add(name, &[Decimal::from(value).as_bytes()]);
    }

    /// Adds a field whose value is always the same.
    pub fn fixed(&mut self, name: HeaderName, value: &'static str) {
        self.length += line(&name, value.len());
        self.headers.append(name, HeaderValue::from_static(value));
    }

    /// How many bytes the fields added take in a response, line ends included.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// How many bytes a field with a value of `length` bytes takes in a response.
pub fn line(name: &HeaderName, length: usize) -> usize {
    name.as_str().len() + ": \r\n".len() + length
}

/// The decimal digits of a number.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl From<u64> for Decimal {
    fn from(mut value: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] += u8::try_from(value % 10).unwrap_or_default();
            value /= 10;
            if value == 0 {
                return Self { digits, start };
            }
        }
    }
}

impl Decimal {
    /// The digits as text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use http::header::{AGE, ETAG, LINK, VARY};

    use super::*;

    #[test]
    fn fields_keep_their_order_and_repeat() {
        let mut headers = HeaderMap::new();
        let mut fields = Fields::new(&mut headers, 4);
        fields.add(LINK, &[b"<a", b">"]);
        fields.add(ETAG, &[b"\"x\""]);
        fields.add(LINK, &[b"<b>"]);
        fields.number(AGE, 10);
        fields.fixed(VARY, "Accept");
        let length = fields.length();
        let links: Vec<_> = headers.get_all(LINK).iter().collect();
        assert_eq!(links, ["<a>", "<b>"]);
        assert_eq!(
            (&headers[ETAG], &headers[AGE]),
            (&"\"x\"".parse().unwrap(), &"10".parse().unwrap())
        );
        let written = "link: <a>\r\netag: \"x\"\r\nlink: <b>\r\nage: 10\r\nvary: Accept\r\n";
        assert_eq!(length, written.len());
    }

    #[test]
    fn what_would_end_a_field_is_left_out() {
        let mut headers = HeaderMap::new();
        let mut fields = Fields::new(&mut headers, 1);
        fields.add(LINK, &[b"<a>\r\nset-cookie: x"]);
        assert_eq!(fields.length(), 0);
        assert!(headers.is_empty());
    }

    #[test]
    fn answers_that_are_kept_are_not_written_over() {
        let value = |number: usize| format!("{number}-{}", "x".repeat(1000));
        let mut answers = Vec::new();
        for number in 0..100 {
            let mut headers = HeaderMap::new();
            Fields::new(&mut headers, 1).add(LINK, &[value(number).as_bytes()]);
            answers.push(headers);
        }
        let mut headers = HeaderMap::new();
        Fields::new(&mut headers, 1).add(LINK, &[&vec![b'y'; 3 * BUFFER]]);
        assert_eq!(headers[LINK].len(), 3 * BUFFER);
        for (number, headers) in answers.iter().enumerate() {
            assert_eq!(headers[LINK], value(number));
        }
    }

    #[test]
    fn what_a_request_said_is_not_in_the_answer() {
        let mut request = HeaderMap::new();
        for _ in 0..3 {
            request.append(LINK, "<a>".parse().unwrap());
        }
        recycle(request);
        let mut headers = HeaderMap::new();
        Fields::new(&mut headers, 1).fixed(VARY, "Accept");
        assert_eq!(
            (headers.len(), &headers[VARY]),
            (1, &"Accept".parse().unwrap())
        );
    }

    #[test]
    fn what_a_client_sent_much_of_is_not_kept() {
        let mut request = HeaderMap::new();
        for number in 0..1000 {
            request.append(LINK, number.into());
        }
        recycle(request);
        assert!(SPARE.with_borrow(Vec::is_empty));
    }

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 7, 10, 1_048_576, u64::MAX] {
            assert_eq!(
                Decimal::from(value).as_bytes(),
                value.to_string().as_bytes()
            );
        }
    }
}

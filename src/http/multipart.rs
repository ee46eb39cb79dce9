//! Several parts of one file in one answer: `multipart/byteranges`.
//!
//! [RFC 9110, section 14.6](https://www.rfc-editor.org/rfc/rfc9110#section-14.6). Podman fetches the
//! parts of a layer it does not have yet this way. It takes them by position, so they are sent in the
//! order asked for and never merged. The length of everything is known before the first byte is sent,
//! and only one part is open at a time: memory does not grow with parts or sizes.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Frame, SizeHint};

use super::body::Body;
use super::files::content_range;

/// What stands around the parts of one answer.
#[derive(Debug)]
pub struct Multipart {
    boundary: String,
    content_type: HeaderValue,
    parts: Vec<Range<u64>>,
    /// Length of the file the parts are of.
    of: u64,
}

impl Multipart {
    /// Parts of a file of `of` bytes, each of which is sent as `content_type`.
    pub fn new(parts: Vec<Range<u64>>, of: u64, content_type: HeaderValue) -> Self {
        Self {
            boundary: boundary(),
            content_type,
            parts,
            of,
        }
    }

    /// The value of the answer's own `Content-Type`.
    pub fn content_type(&self) -> HeaderValue {
        HeaderValue::try_from(format!("multipart/byteranges; boundary={}", self.boundary))
            .unwrap_or(HeaderValue::from_static("multipart/byteranges"))
    }

    /// Length of the answer's body in bytes.
    pub fn length(&self) -> u64 {
        let parts = self.parts.iter().enumerate();
        let parts = parts.map(|(position, part)| {
            self.head(position, part).len() as u64 + (part.end - part.start)
        });
        parts.sum::<u64>() + self.close().len() as u64
    }

    /// The body, read from the file the parts are of.
    pub fn body(self, file: File) -> Body {
        Body::boxed(Parts {
            remaining: self.length(),
            multipart: self,
            file,
            next: 0,
            current: None,
        })
    }

    /// What stands before the part at `position`.
    fn head(&self, position: usize, part: &Range<u64>) -> Bytes {
        let before: &[u8] = if position == 0 { b"--" } else { b"\r\n--" };
        [
            before,
            self.boundary.as_bytes(),
            b"\r\nContent-Type: ",
            self.content_type.as_bytes(),
            b"\r\nContent-Range: ",
            content_range(Some(part), self.of).as_bytes(),
            b"\r\n\r\n",
        ]
        .concat()
        .into()
    }

    /// What stands after the last part.
    fn close(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.boundary).into()
    }
}

/// A line nobody can have put into a file beforehand. Letters and digits only: podman refuses most
/// other characters that the grammar allows.
fn boundary() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// The body of an answer with several parts.
#[derive(Debug)]
struct Parts {
    multipart: Multipart,
    file: File,
    /// The position of the part to begin next; one past the last part stands for the closing line.
    next: usize,
    /// The part being sent.
    current: Option<Body>,
    remaining: u64,
}

impl Parts {
    /// Begins the next part, and gives what stands before it; `None` after the closing line.
    fn advance(&mut self) -> io::Result<Option<Bytes>> {
        let position = self.next;
        self.next += 1;
        match self.multipart.parts.get(position) {
            Some(part) => {
                self.current = Some(Body::file(self.file.try_clone()?, part.clone()));
                Ok(Some(self.multipart.head(position, part)))
            }
            None if position == self.multipart.parts.len() => Ok(Some(self.multipart.close())),
            None => Ok(None),
        }
    }
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let parts = self.get_mut();
        let frame = match &mut parts.current {
            Some(body) => ready!(Pin::new(body).poll_frame(context)),
            None => None,
        };
        let frame = match frame {
            Some(frame) => frame?,
            None => {
                parts.current = None;
                match parts.advance()? {
                    Some(between) => Frame::data(between),
                    None => return Poll::Ready(None),
                }
            }
        };
        let sent = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
        parts.remaining = parts.remaining.saturating_sub(sent);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;

    const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[tokio::test]
    async fn parts_come_in_the_order_asked_for_between_their_boundaries() {
        let multipart = Multipart::new(vec![8..10, 0..2, 1..2], 10, OCTETS);
        let (boundary, length) = (multipart.boundary.clone(), multipart.length());
        let body = multipart.body(file(b"0123456789"));
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(length));
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len() as u64, length);
        let expected = "--B\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 8-9/10\r\n\r\n89\
            \r\n--B\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
            \r\n--B\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 1-1/10\r\n\r\n1\
            \r\n--B--\r\n";
        assert_eq!(bytes, expected.replace('B', &boundary));
    }

    #[tokio::test]
    async fn parts_longer_than_one_read_arrive_whole() {
        let content: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        let multipart = Multipart::new(vec![7..400_000, 500_000..1_000_000], 1_000_000, OCTETS);
        let length = multipart.length();
        let bytes = multipart.body(file(&content)).collect().await.unwrap();
        let bytes = bytes.to_bytes();
        assert_eq!(bytes.len() as u64, length);
        for part in [&content[7..400_000], &content[500_000..]] {
            assert!(bytes.windows(part.len()).any(|window| window == part));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_breaks_the_answer_off() {
        let multipart = Multipart::new(vec![0..2, 4..6], 6, OCTETS);
        assert!(multipart.body(file(b"short")).collect().await.is_err());
    }

    #[test]
    fn boundaries_are_plain_and_never_the_same() {
        let boundaries: std::collections::HashSet<String> = (0..100).map(|_| boundary()).collect();
        assert_eq!(boundaries.len(), 100);
        assert!(
            boundaries
                .iter()
                .all(|text| text.len() == 32 && text.bytes().all(|c| c.is_ascii_alphanumeric()))
        );
    }
}

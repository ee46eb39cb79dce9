//! Response bodies: nothing, bytes in memory, or part of a file.

use std::fs::File;
use std::future::Future as _;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::task::JoinHandle;

/// How much of a file is read at a time, in bytes. At most two such pieces are in memory per response,
/// one being sent and one read ahead; and only one until the client has taken something.
const CHUNK: u64 = 128 << 10;

/// The body of a response.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Full(Bytes),
    File(FileBody),
    Boxed(UnsyncBoxBody<Bytes, io::Error>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self(Kind::Full(Bytes::new()))
    }

    /// The given bytes of a file. A file that turns out shorter breaks the response off, so that the
    /// client notices.
    pub fn file(file: File, range: Range<u64>) -> Self {
        if range.is_empty() {
            return Self::empty();
        }
        Self(Kind::File(FileBody {
            file: Arc::new(file),
            rest: range,
            reading: None,
            flowing: false,
        }))
    }

    /// Any other body.
    pub fn boxed<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Kind::Boxed(body.map_err(io::Error::other).boxed_unsync()))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Kind::Full(bytes.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.get_mut().0 {
            Kind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::File(file) => file
                .poll_chunk(context)
                .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            Kind::Boxed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::File(file) => file.remaining() == 0,
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::File(file) => SizeHint::with_exact(file.remaining()),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

/// Part of a file, read ahead by one chunk on the blocking pool.
#[derive(Debug)]
struct FileBody {
    file: Arc<File>,
    /// What has not been asked of the file yet.
    rest: Range<u64>,
    reading: Option<(u64, JoinHandle<io::Result<Bytes>>)>,
    /// Whether the first chunk has gone: from then on the next is read ahead.
    flowing: bool,
}

impl FileBody {
    fn remaining(&self) -> u64 {
        self.reading.as_ref().map_or(0, |(length, _)| *length) + self.rest.end - self.rest.start
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.reading.is_none() {
            self.read_ahead();
        }
        let Some((_, handle)) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let read = ready!(Pin::new(handle).poll(context));
        self.reading = None;
        if self.flowing {
            self.read_ahead();
        }
        self.flowing = true;
        Poll::Ready(Some(
            read.unwrap_or_else(|gone| Err(io::Error::other(gone))),
        ))
    }

    fn read_ahead(&mut self) {
        let length = CHUNK.min(self.rest.end - self.rest.start);
        if length == 0 {
            return;
        }
        let (file, offset) = (Arc::clone(&self.file), self.rest.start);
        self.rest.start += length;
        let read = move || {
            let mut chunk = vec![0; usize::try_from(length).unwrap_or_default()];
            file.read_exact_at(&mut chunk, offset)?;
            Ok(chunk.into())
        };
        self.reading = Some((length, tokio::task::spawn_blocking(read)));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_range_of_a_file_arrives_whole() {
        let content: Vec<u8> = (0..3 * CHUNK + 17)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let range = 5..2 * CHUNK + 9;
        let body = Body::file(file, range.clone());
        assert_eq!(
            http_body::Body::size_hint(&body).exact(),
            Some(range.end - range.start)
        );
        let read = body.collect().await.unwrap().to_bytes();
        let (start, end) = (
            range.start.try_into().unwrap(),
            range.end.try_into().unwrap(),
        );
        assert_eq!(read, content[start..end]);
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"short").unwrap();
        assert!(Body::file(file, 0..6).collect().await.is_err());
    }
}

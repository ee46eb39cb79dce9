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

use super::page_cache;
use super::sendfile::{Outbox, WINDOW};

/// How much of a file is read at a time, in bytes. At most two such pieces are in memory per response,
/// one being sent and one that is to follow.
const CHUNK: u64 = 128 << 10;

/// What is shorter is copied: it goes out together with the head of its response.
const SENT_FROM: u64 = 64 << 10;

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
            way: Way::Copied,
            loading: None,
        }))
    }

    /// The same bytes, by way of the outbox of an HTTP/1 connection if they are part of a file.
    #[must_use]
    pub fn through(mut self, outbox: &Outbox) -> Self {
        if let Kind::File(file) = &mut self.0
            && file.remaining() >= SENT_FROM
        {
            file.way = Way::Sent(outbox.clone());
        }
        self
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

/// Part of a file, a chunk at a time.
///
/// Chunks that are in memory already are taken at once; for others the disk is waited for on the
/// blocking pool.
#[derive(Debug)]
struct FileBody {
    file: Arc<File>,
    /// What has not been handed over yet.
    rest: Range<u64>,
    way: Way,
    /// Bringing in the next chunk.
    loading: Option<JoinHandle<io::Result<Bytes>>>,
}

/// How chunks of a file get to the client.
#[derive(Debug)]
enum Way {
    /// Read, and written to the connection.
    Copied,
    /// Sent by the kernel.
    Sent(Outbox),
}

impl FileBody {
    fn remaining(&self) -> u64 {
        self.rest.end - self.rest.start
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let chunk = self.next_chunk();
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = match &mut self.loading {
            Some(loading) => {
                let loaded = ready!(Pin::new(loading).poll(context));
                self.loading = None;
                loaded.unwrap_or_else(|gone| Err(io::Error::other(gone)))
            }
            None => match self.way.take(&self.file, &chunk) {
                Ok(None) => {
                    self.loading = Some(self.way.load(&self.file, chunk));
                    return self.poll_chunk(context);
                }
                Ok(Some(bytes)) => Ok(bytes),
                Err(error) => Err(error),
            },
        };
        let bytes = bytes.map(|bytes| match &self.way {
            Way::Copied => bytes,
            Way::Sent(outbox) => outbox.put(&self.file, &chunk),
        });
        if let Ok(bytes) = &bytes {
            self.rest.start += bytes.len() as u64;
        }
        Poll::Ready(Some(bytes))
    }

    fn next_chunk(&self) -> Range<u64> {
        let length = match self.way {
            Way::Copied => CHUNK,
            Way::Sent(_) => WINDOW,
        };
        self.rest.start..self.rest.end.min(self.rest.start + length)
    }
}

impl Way {
    /// Takes a chunk, or the beginning of one, if it is in memory.
    fn take(&self, file: &File, chunk: &Range<u64>) -> io::Result<Option<Bytes>> {
        match self {
            Self::Sent(_) => Ok(page_cache::holds(file, chunk)?.then(Bytes::new)),
            Self::Copied => {
                let mut buffer = vec![0; length(chunk)];
                let read = page_cache::read_now(file, &mut buffer, chunk.start)?;
                Ok(read.map(|read| {
                    buffer.truncate(read);
                    buffer.into()
                }))
            }
        }
    }

    /// Waits for the disk, elsewhere.
    fn load(&self, file: &Arc<File>, chunk: Range<u64>) -> JoinHandle<io::Result<Bytes>> {
        let file = Arc::clone(file);
        match self {
            Self::Sent(_) => tokio::task::spawn_blocking(move || {
                page_cache::load(&file, &chunk)?;
                Ok(Bytes::new())
            }),
            Self::Copied => tokio::task::spawn_blocking(move || {
                page_cache::expect(&file, &chunk);
                let mut buffer = vec![0; length(&chunk)];
                file.read_exact_at(&mut buffer, chunk.start)?;
                Ok(buffer.into())
            }),
        }
    }
}

fn length(part: &Range<u64>) -> usize {
    usize::try_from(part.end - part.start).unwrap_or(usize::MAX)
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

    #[tokio::test]
    async fn a_large_part_goes_through_the_outbox_and_a_small_one_is_read() {
        for (length, is_sent) in [(SENT_FROM - 1, false), (SENT_FROM, true)] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![b'x'; length.try_into().unwrap()])
                .unwrap();
            let outbox = Outbox::default();
            let mut body = Body::file(file, 0..length).through(&outbox);
            let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(chunk.len() as u64, length);
            assert_eq!(chunk.iter().all(|byte| *byte == b'x'), !is_sent);
        }
    }
}

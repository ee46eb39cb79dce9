//! Parts of files that go to a socket without being read: [`sendfile(2)`] below hyper.
//!
//! hyper takes bytes from a body and gives them to a stream; it knows of no files. So a body gives it a
//! *placeholder*, a slice of memory that is never looked at, as long as the part of the file it stands
//! for, and puts that part into the [`Outbox`] of the connection. [`Sending`], the stream below hyper,
//! knows the slice by its address, and has the kernel send the part instead. Nothing is copied but what
//! the network card takes, and nothing is in our memory for a client that does not read.
//!
//! The invariant: **no byte of a placeholder is ever sent.** hyper 1.12 hands the slices of a body with
//! a known length on as they are, oldest first, whole but for what was reported as written. `Sending`
//! relies on none of that: at every write the placeholders must be exactly the parts in the outbox, by
//! address and length, in order, or the connection is broken off. HTTP/2 and TLS have to see the bytes,
//! so responses there never get an outbox.
//!
//! What is on its way to the client are pages of the file itself: cutting a file short in place may
//! still change them. Nothing in a tree is written in place.
//!
//! [`sendfile(2)`]: https://man7.org/linux/man-pages/man2/sendfile.2.html

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::sendfile;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The longest part of a file that is put into an outbox at once, in bytes. Between two of them the
/// thread turns to other connections, and looks whether the next one is in memory.
pub(super) const WINDOW: u64 = 256 << 10;

/// Address space all placeholders are slices of. Nobody touches it, so it takes no memory.
static PLACEHOLDER: LazyLock<&'static [u8]> =
    LazyLock::new(|| vec![0; usize::try_from(WINDOW).unwrap_or_default()].leak());

/// The parts of files for which placeholders are under way on a connection, oldest first.
///
/// The lock is only ever taken by the task of the connection.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Arc<Mutex<VecDeque<Part>>>);

#[derive(Debug)]
struct Part {
    file: Arc<File>,
    offset: u64,
    length: usize,
    sent: usize,
}

impl Outbox {
    /// Takes a part of a file, at most [`WINDOW`] long, and gives what stands for it.
    pub(super) fn put(&self, file: &Arc<File>, part: &Range<u64>) -> Bytes {
        let region: &'static [u8] = *PLACEHOLDER;
        let length = usize::try_from(part.end.saturating_sub(part.start))
            .map_or(region.len(), |length| length.min(region.len()));
        self.parts().push_back(Part {
            file: Arc::clone(file),
            offset: part.start,
            length,
            sent: 0,
        });
        Bytes::from_static(&region[..length])
    }

    fn parts(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// Whether these bytes are what is left of the placeholder of this part.
    fn is(&self, slice: &[u8]) -> bool {
        slice.len() == self.length - self.sent
            && slice.as_ptr().addr() == PLACEHOLDER.as_ptr().addr() + self.sent
    }
}

/// A stream on which parts of files are sent in the place of their placeholders.
#[derive(Debug)]
pub struct Sending<S> {
    socket: S,
    outbox: Outbox,
}

impl<S: Socket> Sending<S> {
    /// Watches over what is written to a socket.
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            outbox: Outbox::default(),
        }
    }

    /// Where bodies may put parts of files, if the socket can send them.
    pub fn outbox(&self) -> Option<Outbox> {
        self.socket.sends_files().then(|| self.outbox.clone())
    }
}

/// How many of the slices come before the first placeholder. An error unless the placeholders among
/// the slices are exactly those of the parts.
fn before_placeholder(slices: &[IoSlice<'_>], parts: &VecDeque<Part>) -> io::Result<usize> {
    let region = PLACEHOLDER.as_ptr_range();
    let is_placeholder =
        |slice: &IoSlice<'_>| !slice.is_empty() && region.contains(&slice.as_ptr());
    let mut expected = parts.iter();
    for slice in slices.iter().filter(|slice| is_placeholder(slice)) {
        if !expected.next().is_some_and(|part| part.is(slice)) {
            return Err(io::Error::other("a placeholder without its part of a file"));
        }
    }
    if expected.next().is_some() {
        return Err(io::Error::other("a part of a file without its placeholder"));
    }
    let first = slices.iter().position(is_placeholder);
    Ok(first.unwrap_or(slices.len()))
}

impl<S: Socket> AsyncWrite for Sending<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut parts = this.outbox.parts();
        let plain = before_placeholder(slices, &parts)?;
        let Some(part) = parts
            .front_mut()
            .filter(|_| slices[..plain].iter().all(|slice| slice.is_empty()))
        else {
            drop(parts);
            return Pin::new(&mut this.socket).poll_write_vectored(context, &slices[..plain]);
        };
        let rest = part.length - part.sent;
        let offset = part.offset + part.sent as u64;
        let sent = ready!(this.socket.poll_sendfile(context, &part.file, offset, rest))?;
        if sent == 0 {
            // The rest of the response does not exist; only breaking off says so.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        part.sent += sent;
        if part.sent == part.length {
            parts.pop_front();
        }
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        // Otherwise hyper would copy small bodies together, placeholders among them.
        self.socket.sends_files() || self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<S: Socket> AsyncRead for Sending<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

/// A stream to a client that the kernel may be able to write files to.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Whether [`poll_sendfile`](Self::poll_sendfile) can be used at all.
    fn sends_files(&self) -> bool;

    /// Sends some of the `length` bytes of a file from `offset` on; none at its end.
    fn poll_sendfile(
        &self,
        context: &mut Context<'_>,
        file: &File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>>;
}

/// A socket of the kernel, with what tokio knows of when it can be written to.
trait Writable: AsyncRead + AsyncWrite + AsFd + Unpin {
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Attempts a write; if it would block, the socket counts as not ready.
    fn attempt(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
}

impl Writable for TcpStream {
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(context)
    }

    fn attempt(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, write)
    }
}

impl Writable for UnixStream {
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(context)
    }

    fn attempt(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, write)
    }
}

impl<S: Writable> Socket for S {
    fn sends_files(&self) -> bool {
        true
    }

    fn poll_sendfile(
        &self,
        context: &mut Context<'_>,
        file: &File,
        mut offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        // Until it succeeds, fails, or the socket has to be waited for.
        loop {
            ready!(self.poll_ready(context))?;
            let sent = self.attempt(|| Ok(sendfile(self, file, Some(&mut offset), length)?));
            match sent {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Sending<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Sending::new(accepted.unwrap().0), client.unwrap())
    }

    fn file(content: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Arc::new(file)
    }

    /// As hyper writes: what is left of all buffers, until nothing is.
    async fn write(stream: &mut Sending<TcpStream>, buffers: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> =
            buffers.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = stream.write_vectored(rest).await?;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_part_goes_in_the_place_of_its_placeholder() {
        let (mut stream, mut client) = pair().await;
        let file = file(b"0123456789");
        let outbox = stream.outbox().unwrap();
        let (first, second) = (outbox.put(&file, &(2..5)), outbox.put(&file, &(8..10)));
        write(
            &mut stream,
            &[b"head ", &first, b" between ", &second, b" tail"],
        )
        .await
        .unwrap();
        write(&mut stream, &[b" and more"]).await.unwrap();
        drop(stream);
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "head 234 between 89 tail and more");
    }

    #[tokio::test]
    async fn a_placeholder_is_never_sent() {
        type Wrong = fn(&Bytes, &Bytes) -> Vec<Bytes>;
        let zeros = || Bytes::from(vec![0; 10]);
        let cases: [(&str, Wrong); 7] = [
            ("copied", |_, second| {
                vec![Bytes::from(vec![0; 10]), second.clone()]
            }),
            ("left out", |first, _| vec![first.clone()]),
            ("shortened", |first, second| {
                vec![first.slice(..9), second.clone()]
            }),
            ("begun late", |first, second| {
                vec![first.slice(1..), second.clone()]
            }),
            ("out of order", |first, second| {
                vec![second.clone(), first.clone()]
            }),
            ("twice", |first, second| {
                vec![first.clone(), second.clone(), second.clone()]
            }),
            ("forgotten", |_, _| vec![Bytes::from_static(b"other")]),
        ];
        for (case, wrong) in cases {
            let (mut stream, mut client) = pair().await;
            let file = file(&[b'x'; 100]);
            let outbox = stream.outbox().unwrap();
            let parts = (outbox.put(&file, &(0..10)), outbox.put(&file, &(10..30)));
            let buffers = wrong(&parts.0, &parts.1);
            let buffers: Vec<&[u8]> = buffers.iter().map(Bytes::as_ref).collect();
            assert!(write(&mut stream, &buffers).await.is_err(), "{case}");
            drop(stream);
            let mut seen = Vec::new();
            drop(client.read_to_end(&mut seen).await);
            assert_eq!(seen, b"", "{case}");
        }
        // Nor when nothing is due.
        let (mut stream, _client) = pair().await;
        let (mut other, _) = pair().await;
        let placeholder = other.outbox().unwrap().put(&file(&zeros()), &(0..10));
        assert!(write(&mut stream, &[&placeholder]).await.is_err());
        assert!(other.write(&placeholder).await.is_ok());
    }

    #[tokio::test]
    async fn the_end_of_a_file_breaks_off() {
        let (mut stream, mut client) = pair().await;
        let file = file(b"0123456789");
        let placeholder = stream.outbox().unwrap().put(&file, &(0..11));
        let error = write(&mut stream, &[&placeholder]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        drop(stream);
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"0123456789");
    }
}

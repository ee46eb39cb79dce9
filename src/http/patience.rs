//! A connection that gives up on a peer that does nothing.
//!
//! hyper times a request's head, but only once it has decided which version of HTTP the peer speaks,
//! and it waits for ever for a peer that stops reading. Either way a connection, two descriptors and a
//! buffer would be held by somebody who spends nothing. [`Patient`] puts a limit on both.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// So many bytes tell every version of HTTP apart: the length of HTTP/2's preface.
const PREFACE: usize = 24;

/// A stream whose peer must begin to speak, and must take what is sent to it.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    /// Bytes still to come before hyper's own timer has started.
    preface: usize,
    begin: Pin<Box<Sleep>>,
    progress: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Gives the peer `begin` to send its first bytes, and `progress` between two bytes taken.
    pub fn new(stream: S, begin: Duration, progress: Duration) -> Self {
        let begin = Box::pin(tokio::time::sleep(begin));
        Self {
            stream,
            preface: PREFACE,
            begin,
            progress,
            stalled: None,
        }
    }

    /// Notes whether a write got anywhere; an error once nothing was taken for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let deadline = Instant::now() + self.progress;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.preface = self.preface.saturating_sub(buffer.filled().len() - before);
        } else if self.preface > 0 && self.begin.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_given_up() {
        let (_peer, stream) = duplex(64);
        let error = Patient::new(stream, SHORT, LONG)
            .read_u8()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (_peer, stream) = duplex(64);
        let error = Patient::new(stream, LONG, SHORT)
            .write_all(&[0; 1000])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_but_living_peer_is_waited_for() {
        let (mut peer, stream) = duplex(16);
        let mut stream = Patient::new(stream, LONG, Duration::from_millis(200));
        let (written, ()) = tokio::join!(stream.write_all(&[0; 160]), async {
            for _ in 0..10 {
                tokio::time::sleep(SHORT).await;
                peer.read_exact(&mut [0; 16]).await.unwrap();
            }
        });
        written.unwrap();
    }
}

//! A connection that gives up on a client that does nothing, or next to nothing.
//!
//! hyper cannot tell a client that is slow to send a head from one that has none to send, and waits for
//! ever for one that stops reading. Either way a connection, two descriptors and a buffer would be held
//! by somebody who spends nothing. [`Patient`] sits between hyper and the socket and keeps one timer for
//! all of it: the first request, the head of a request, the time between requests, and how fast is taken
//! what we send. Time in which it is our turn never counts.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::exchange::{Exchanges, Turn};
use super::pace::Pace;

/// How long which client is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the head of a request, from its first byte on; for the first, from the connection on.
    pub head: Duration,
    /// For the next request.
    pub idle: Duration,
    /// The time over which it is measured how fast a client takes what is sent to it.
    pub stall: Duration,
    /// How many bytes it must take in a second; in any case it must take something.
    pub rate: u64,
}

/// A stream whose client must get on.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    patience: Patience,
    exchanges: Arc<Exchanges>,
    began: Instant,
    /// The head under way: its first byte, and how many exchanges had ended by then.
    head: Option<(Instant, u64)>,
    pace: Pace,
    /// Whether the last write found no room.
    blocked: bool,
    /// When a write last found room again: until then a client is not idle but behind.
    unblocked: Instant,
    /// Bytes of bodies that have been counted.
    seen: u64,
    /// When the idle connection was told to end.
    ending: Option<Instant>,
    /// Never later than the next moment something may be due.
    clock: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    /// Waits for the client of `stream`, with whom these exchanges are had.
    pub fn new(stream: S, patience: Patience, exchanges: Arc<Exchanges>) -> Self {
        let began = Instant::now();
        Self {
            stream,
            patience,
            exchanges,
            began,
            head: None,
            pace: Pace::new(patience.stall, patience.rate),
            blocked: false,
            seen: 0,
            unblocked: began,
            ending: None,
            clock: Box::pin(tokio::time::sleep_until(began + patience.head)),
        }
    }

    /// Writes to the stream by another way than [`AsyncWrite`], under the same watch.
    pub fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let sent = write(&mut self.stream, context);
        if let Poll::Ready(Ok(count)) = &sent {
            let taken = if self.exchanges.is_multiplexed() {
                self.carried()
            } else {
                *count as u64
            };
            self.pace.took(taken);
        }
        self.watch(context, sent)
    }

    /// How much of bodies went on since the last time. On HTTP/2 only that counts: a client could have
    /// itself sent other frames for ever, and take nothing of what it asked for.
    fn carried(&mut self) -> u64 {
        let carried = self.exchanges.carried();
        carried - std::mem::replace(&mut self.seen, carried)
    }

    /// Notes whether a write got anywhere; an error once the client has taken too little for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let was_blocked = std::mem::replace(&mut self.blocked, written.is_pending());
        if self.blocked {
            self.pace.wait(Instant::now());
            ready!(self.poll_clock(context))?;
            return Poll::Pending;
        }
        if was_blocked {
            self.unblocked = Instant::now();
            if self.exchanges.turn() != Turn::Theirs {
                self.pace.go_on(self.unblocked);
            }
        }
        written
    }

    /// Ready, with an error, once the client has been waited for long enough.
    fn poll_clock(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let now = Instant::now();
            let due = self.due(now)?;
            if due < self.clock.deadline() {
                self.clock.as_mut().reset(due);
            }
            ready!(self.clock.as_mut().poll(context));
            // Armed for what was due when it was set; that has moved, or is dealt with next.
            let due = self.due(Instant::now())?;
            self.clock.as_mut().reset(due);
        }
    }

    /// When the client will have been waited for long enough, or next has to be looked at.
    fn due(&mut self, now: Instant) -> io::Result<Instant> {
        let turn = self.exchanges.turn();
        if turn == Turn::Theirs {
            self.pace.wait(now);
        } else if !self.blocked && self.pace.is_waiting() {
            self.pace.go_on(now);
        }
        let waited = match turn {
            Turn::First => Some(self.began + self.patience.head),
            // The end of the last response is still on its way.
            Turn::Next(..) if self.blocked => None,
            Turn::Next(since, ended) => match self.head {
                Some((first, before)) if before == ended => Some(first + self.patience.head),
                _ if since.max(self.unblocked) + self.patience.idle > now => {
                    Some(since.max(self.unblocked) + self.patience.idle)
                }
                _ => {
                    // The server ends the connection as its version of HTTP does; who does not play
                    // along has as long as for a head.
                    self.exchanges.idle();
                    let ending = *self.ending.get_or_insert(now);
                    Some(ending + self.patience.head)
                }
            },
            Turn::Ours | Turn::Theirs => None,
        };
        if waited.is_some_and(|waited| waited <= now) || self.pace.is_too_slow(now) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Our turn may end without anybody polling; the earliest that could matter is this.
        let look = now + self.patience.idle.min(self.patience.stall);
        let taken = self.pace.due().unwrap_or(look);
        Ok(waited.unwrap_or(look).min(taken))
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
        if read.is_pending() {
            ready!(self.poll_clock(context))?;
            return Poll::Pending;
        }
        if buffer.filled().len() > before
            && !self.exchanges.is_multiplexed()
            && let Turn::Next(_, ended) = self.exchanges.turn()
            && self.head.is_none_or(|(_, before)| before != ended)
        {
            self.head = Some((Instant::now(), ended));
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
        self.poll_send(context, |stream, context| {
            Pin::new(stream).poll_write(context, bytes)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream, context| {
            Pin::new(stream).poll_write_vectored(context, slices)
        })
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
    use http::Version;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::http::Body;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(15),
        idle: Duration::from_secs(75),
        stall: Duration::from_secs(60),
        rate: 0,
    };

    fn pair(
        room: usize,
        patience: Patience,
    ) -> (DuplexStream, Patient<DuplexStream>, Arc<Exchanges>) {
        let exchanges = Arc::new(Exchanges::new());
        let (peer, stream) = duplex(room);
        let patient = Patient::new(stream, patience, Arc::clone(&exchanges));
        (peer, patient, exchanges)
    }

    fn answer(exchanges: &Arc<Exchanges>, version: Version) {
        drop(exchanges.begin(version).carry(Body::empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_request_is_given_up() {
        for said in [&b""[..], b"GET / HT"] {
            let (mut peer, mut stream, _) = pair(64, PATIENCE);
            peer.write_all(said).await.unwrap();
            let began = Instant::now();
            let error = stream.read_exact(&mut [0; 64]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(began.elapsed().as_secs(), 15);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_next_request_may_begin_late_but_not_take_long() {
        let (mut peer, mut stream, exchanges) = pair(64, PATIENCE);
        answer(&exchanges, Version::HTTP_11);
        let began = Instant::now();
        let (read, ()) = tokio::join!(stream.read_u16(), async {
            tokio::time::sleep(Duration::from_secs(70)).await;
            peer.write_all(b"G").await.unwrap();
        });
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 85);
        assert!(!exchanges.has_idled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_to_be_ended() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let (mut peer, mut stream, exchanges) = pair(64, PATIENCE);
            answer(&exchanges, version);
            if version == Version::HTTP_2 {
                // What is not a request does not count.
                peer.write_all(b"ping").await.unwrap();
            }
            let look = async {
                tokio::time::sleep(Duration::from_secs(74)).await;
                assert!(!exchanges.has_idled());
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert!(exchanges.has_idled());
            };
            let mut read = [0; 64];
            let (read, ()) = tokio::join!(stream.read_exact(&mut read), look);
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_time_does_not_count() {
        let (mut peer, mut stream, exchanges) = pair(64, PATIENCE);
        let exchange = exchanges.begin(Version::HTTP_11);
        let (read, ()) = tokio::join!(stream.read_u8(), async {
            tokio::time::sleep(Duration::from_secs(10_000)).await;
            drop(exchange);
            peer.write_all(b"G").await.unwrap();
        });
        assert_eq!(read.unwrap(), b'G');
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (_peer, mut stream, exchanges) = pair(64, PATIENCE);
        let _exchange = exchanges.begin(Version::HTTP_11);
        let error = stream.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_is_never_opened_is_a_client_that_takes_nothing() {
        let (_peer, mut stream, exchanges) = pair(64, PATIENCE);
        let _body = exchanges.begin(Version::HTTP_2).carry(Body::from("x"));
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn on_http2_only_bodies_count_as_taken() {
        let (mut peer, mut stream, exchanges) = pair(16, PATIENCE);
        let _body = exchanges.begin(Version::HTTP_2).carry(Body::from("x"));
        let reading = async {
            loop {
                tokio::time::sleep(Duration::from_secs(10)).await;
                if peer.read_exact(&mut [0; 16]).await.is_err() {
                    return;
                }
            }
        };
        // Frames go out all the time, and none of them carries what was asked for.
        let written = tokio::select! {
            written = stream.write_all(&[0; 1600]) => written,
            () = reading => Ok(()),
        };
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_takes_the_last_response_is_not_idle() {
        let (mut peer, mut stream, exchanges) = pair(16, PATIENCE);
        answer(&exchanges, Version::HTTP_11);
        let (written, ()) = tokio::join!(stream.write_all(&[0; 160]), async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                peer.read_exact(&mut [0; 16]).await.unwrap();
            }
        });
        written.unwrap();
        assert!(!exchanges.has_idled());
    }

    #[tokio::test(start_paused = true)]
    async fn how_slow_a_client_may_be_is_a_matter_of_the_rate() {
        for (rate, is_cut) in [(0, false), (6, false), (9, true)] {
            let (mut peer, mut stream, exchanges) = pair(80, Patience { rate, ..PATIENCE });
            let _exchange = exchanges.begin(Version::HTTP_11);
            // Eight bytes a second, for long enough that several windows pass.
            let reading = async {
                let mut bytes = [0; 80];
                loop {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    if peer.read_exact(&mut bytes).await.is_err() {
                        return;
                    }
                }
            };
            let written = tokio::select! {
                written = stream.write_all(&[0; 4000]) => written,
                () = reading => Ok(()),
            };
            assert_eq!(written.is_err(), is_cut, "{rate}");
        }
    }
}

//! Who is waited for on a connection: its client, or us.
//!
//! The bytes of a connection do not say whether a request is being worked on, so the server counts: an
//! [`Exchange`] begins when hyper hands over a request and ends when the body of its response is gone.
//! [`Patient`](super::patience::Patient) reads the sums when it decides whether the other end has been
//! waited for long enough.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::http::Body;

/// The exchanges of one connection.
#[derive(Debug)]
pub struct Exchanges {
    epoch: Instant,
    /// Begun and not ended.
    open: AtomicU32,
    /// Those of them in which it is our turn.
    ours: AtomicU32,
    /// How many have ended.
    ended: AtomicU64,
    /// When the last one did, in milliseconds after the epoch.
    last_end: AtomicU64,
    /// Whether several may be open at once, because the connection speaks HTTP/2.
    multiplexed: AtomicBool,
    /// Whether the next request has been waited for long enough.
    idled: AtomicBool,
    /// Bytes of bodies handed over.
    carried: AtomicU64,
}

/// Whose turn it is on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// No request has come yet.
    First,
    /// A next request may come, and has not since this moment, when the count of exchanges was this.
    Next(Instant, u64),
    /// A request is being worked on.
    Ours,
    /// Everything we have is handed over, and HTTP/2 waits until the client lets it go.
    Theirs,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self::new()
    }
}

impl Exchanges {
    /// Of a connection that begins now.
    pub fn new() -> Self {
        Self {
            epoch: Instant::now(),
            open: AtomicU32::new(0),
            ours: AtomicU32::new(0),
            ended: AtomicU64::new(0),
            last_end: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            idled: AtomicBool::new(false),
            carried: AtomicU64::new(0),
        }
    }

    /// Notes that a request has come.
    pub fn begin(self: &Arc<Self>, version: Version) -> Exchange {
        if version == Version::HTTP_2 {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        self.ours.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Exchange {
            of: Arc::clone(self),
            is_ours: true,
        }
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Turn {
        if self.open.load(Ordering::Acquire) > 0 {
            return if self.is_multiplexed() && self.ours.load(Ordering::Relaxed) == 0 {
                Turn::Theirs
            } else {
                Turn::Ours
            };
        }
        match self.ended.load(Ordering::Acquire) {
            0 => Turn::First,
            ended => {
                let since = Duration::from_millis(self.last_end.load(Ordering::Relaxed));
                Turn::Next(self.epoch + since, ended)
            }
        }
    }

    /// How many bytes of bodies were handed over so far.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// Notes that the next request has been waited for long enough.
    pub fn idle(&self) {
        self.idled.store(true, Ordering::Relaxed);
    }

    /// Whether the connection should be ended because nothing is asked on it.
    pub fn has_idled(&self) -> bool {
        self.idled.load(Ordering::Relaxed)
    }

    /// Whether the connection has turned out to speak HTTP/2.
    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }
}

/// A request and its response.
#[derive(Debug)]
pub struct Exchange {
    of: Arc<Exchanges>,
    is_ours: bool,
}

impl Exchange {
    /// The body of the response, with which the exchange ends.
    pub fn carry(mut self, body: Body) -> Carried {
        self.pass(false);
        Carried {
            body,
            exchange: self,
        }
    }

    fn pass(&mut self, to_us: bool) {
        if to_us && !self.is_ours {
            self.of.ours.fetch_add(1, Ordering::Relaxed);
        } else if !to_us && self.is_ours {
            self.of.ours.fetch_sub(1, Ordering::Relaxed);
        }
        self.is_ours = to_us;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.pass(false);
        let now = u64::try_from(self.of.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.of.last_end.store(now, Ordering::Relaxed);
        self.of.ended.fetch_add(1, Ordering::Release);
        self.of.open.fetch_sub(1, Ordering::Release);
    }
}

/// A body that tells when it is waited for.
#[derive(Debug)]
pub struct Carried {
    body: Body,
    exchange: Exchange,
}

impl http_body::Body for Carried {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.exchange.pass(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let carried = &self.exchange.of.carried;
            carried.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_turn_goes_to_and_fro() {
        let exchanges = Arc::new(Exchanges::new());
        assert_eq!(exchanges.turn(), Turn::First);
        let first = exchanges.begin(Version::HTTP_2);
        let second = exchanges.begin(Version::HTTP_2);
        assert_eq!(exchanges.turn(), Turn::Ours);
        let mut first = first.carry(Body::from("a"));
        assert_eq!(exchanges.turn(), Turn::Ours);
        drop(second);
        assert_eq!(exchanges.turn(), Turn::Theirs);
        assert!(first.frame().await.is_some());
        assert_eq!(exchanges.turn(), Turn::Theirs);
        drop(first);
        assert!(matches!(exchanges.turn(), Turn::Next(_, 2)));
    }

    #[test]
    fn one_exchange_at_a_time_is_watched_by_its_socket() {
        let exchanges = Arc::new(Exchanges::new());
        let body = exchanges.begin(Version::HTTP_11).carry(Body::from("a"));
        assert_eq!(exchanges.turn(), Turn::Ours);
        drop(body);
    }
}

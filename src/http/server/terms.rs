//! What holds for the connections to come, changed while others are served.
//!
//! A connection takes the terms of the moment at which it was accepted and keeps them to its end. Only how
//! many may be open is one number for all: places are added at once, and taken away as they become free.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Limits, MIN_HEADER_BYTES, Peer, ProxyHeader, Surroundings};

/// How many streams of a connection may be refused or broken off for an error of its client. Some open a
/// hundred before they have heard how many they may.
const MAX_REFUSED: usize = 1024;

/// What holds for the connections to come; clones share it.
#[derive(Debug, Clone)]
pub struct Terms(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Term>,
    places: Arc<Semaphore>,
    /// Places that are to go, as soon as somebody leaves one.
    owed: AtomicUsize,
    /// Held by whoever changes the number of places.
    changing: Mutex<()>,
}

/// What holds for a connection.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) limits: Limits,
    pub(super) surroundings: Surroundings,
    /// What speaks HTTP within the limits.
    pub(super) http: Builder<TokioExecutor>,
}

impl Terms {
    /// Terms to begin with.
    pub fn new(limits: Limits, surroundings: Surroundings) -> Self {
        Self(Arc::new(Shared {
            places: Arc::new(Semaphore::new(limits.connections)),
            owed: AtomicUsize::new(0),
            changing: Mutex::new(()),
            current: ArcSwap::from_pointee(Term::new(limits, surroundings)),
        }))
    }

    /// Other terms, for the connections that are accepted from now on.
    pub fn put(&self, limits: Limits, surroundings: Surroundings) {
        let shared = &self.0;
        let changing = shared.changing.lock();
        let _changing = changing.unwrap_or_else(PoisonError::into_inner);
        let (before, now) = (shared.current.load().limits.connections, limits.connections);
        shared
            .current
            .store(Arc::new(Term::new(limits, surroundings)));
        if now >= before {
            let paid = shared.pay(now - before);
            shared.places.add_permits(now - before - paid);
        } else {
            let taken = shared.places.forget_permits(before - now);
            shared
                .owed
                .fetch_add(before - now - taken, Ordering::AcqRel);
        }
    }

    /// The terms of this moment.
    pub(super) fn current(&self) -> Arc<Term> {
        self.0.current.load_full()
    }

    /// Waits for a place for one more connection.
    pub(super) async fn place(&self) -> Place {
        // It is never closed; without a permit there is nothing to give back.
        let permit = Arc::clone(&self.0.places).acquire_owned().await.ok();
        Place {
            permit,
            shared: Arc::clone(&self.0),
        }
    }
}

impl Shared {
    /// Forgets up to so many of the places that are to go; how many that were.
    fn pay(&self, most: usize) -> usize {
        let mut paid = 0;
        let less = |owed: usize| {
            paid = owed.min(most);
            Some(owed - paid)
        };
        // It always has a value to go on with.
        let _ = self
            .owed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        paid
    }
}

/// The place of one connection, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.shared.pay(1) == 1
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

impl Term {
    /// Whether a connection must begin with a PROXY header.
    pub(super) fn begins_with_header(&self, peer: Peer) -> bool {
        self.surroundings.proxy_header == ProxyHeader::Expected
            && peer.is_none_or(|peer| self.trusts(peer))
    }

    pub(super) fn trusts(&self, peer: SocketAddr) -> bool {
        (self.surroundings.trusts)(peer.ip())
    }

    fn new(limits: Limits, surroundings: Surroundings) -> Self {
        Self {
            http: http(&limits),
            limits,
            surroundings,
        }
    }
}

/// HTTP/1.1 and HTTP/2 within limits. How long a head may take is not hyper's to say: it does not tell
/// a head that does not end from a connection without one.
fn http(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Bodies are never copied together: placeholders of files are among them.
        .writev(true)
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.max(MIN_HEADER_BYTES))
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(60))
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        // No more than that can be open to be taken back before we have looked at them.
        .max_pending_accept_reset_streams(usize::try_from(limits.streams).ok())
        .max_local_error_reset_streams(MAX_REFUSED)
        .max_send_buf_size(64 << 10);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(connections: usize) -> Terms {
        Terms::new(of(connections), Surroundings::default())
    }

    fn of(connections: usize) -> Limits {
        Limits {
            connections,
            ..Limits::default()
        }
    }

    impl Terms {
        fn free(&self) -> usize {
            self.0.places.available_permits()
        }
    }

    #[tokio::test]
    async fn places_go_as_they_become_free_and_come_at_once() {
        let terms = terms(3);
        let put = |connections| terms.put(of(connections), Surroundings::default());
        let (first, second) = (terms.place().await, terms.place().await);
        put(1);
        assert_eq!(terms.free(), 0);
        drop(first);
        assert_eq!(terms.free(), 0);
        // One is left, and taken.
        put(2);
        assert_eq!(terms.free(), 1);
        drop(second);
        assert_eq!(terms.free(), 2);

        let all = [terms.place().await, terms.place().await];
        put(1);
        // What was to go may stay.
        put(4);
        assert_eq!(terms.free(), 2);
        drop(all);
        assert_eq!(terms.free(), 4);
    }
}

//! What is counted of every request, in atomics that nobody waits for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Event, Kind, Outcome};

/// The upper ends of the classes of durations, in microseconds; one more class holds the rest.
pub const BOUNDS_US: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000,
];

/// The counters of all requests.
#[derive(Debug, Default)]
pub struct Counters {
    by_kind: [OfKind; Kind::ALL.len()],
}

/// The counters of one kind of request, apart from the next kind's in the caches.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OfKind {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    sent_bytes: AtomicU64,
    redirected_bytes: AtomicU64,
    durations: [AtomicU64; BOUNDS_US.len() + 1],
    duration_us: AtomicU64,
}

/// What one kind of request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Requests by outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Bytes of content promised from here.
    pub sent_bytes: u64,
    /// Bytes clients were sent to mirrors for.
    pub redirected_bytes: u64,
    /// Requests by the class of their duration, see [`BOUNDS_US`].
    pub durations: [u64; BOUNDS_US.len() + 1],
    /// All durations together.
    pub duration: Duration,
}

impl Counters {
    /// Counts a request.
    pub fn add(&self, event: &Event<'_>) {
        let counters = &self.by_kind[event.kind as usize];
        counters.outcomes[event.outcome as usize].fetch_add(1, Relaxed);
        if event.sent_bytes > 0 {
            counters.sent_bytes.fetch_add(event.sent_bytes, Relaxed);
        }
        if event.redirected_bytes > 0 {
            counters
                .redirected_bytes
                .fetch_add(event.redirected_bytes, Relaxed);
        }
        let micros = u64::try_from(event.duration.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS_US
            .iter()
            .take_while(|bound| **bound < micros)
            .count();
        counters.durations[class].fetch_add(1, Relaxed);
        counters.duration_us.fetch_add(micros, Relaxed);
    }

    /// What the requests of one kind came to so far.
    pub fn of(&self, kind: Kind) -> Sums {
        let counters = &self.by_kind[kind as usize];
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        Sums {
            outcomes: counters.outcomes.each_ref().map(load),
            sent_bytes: load(&counters.sent_bytes),
            redirected_bytes: load(&counters.redirected_bytes),
            durations: counters.durations.each_ref().map(load),
            duration: Duration::from_micros(load(&counters.duration_us)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode, Uri};

    use super::*;
    use crate::client_address::{Caller, TrustedProxies};

    #[test]
    fn a_request_is_counted_once_in_each_table() {
        let (trusted, headers) = (TrustedProxies::default(), HeaderMap::new());
        let counters = Counters::default();
        for micros in [0, 50, 51, 6_000_000] {
            counters.add(&Event {
                kind: Kind::Blob,
                outcome: Outcome::Redirect,
                status: StatusCode::FOUND,
                method: &Method::GET,
                uri: &Uri::from_static("/"),
                client: &Caller::new(&trusted, None, &headers),
                repository: None,
                mirror: None,
                redirected_bytes: 10,
                sent_bytes: 0,
                duration: Duration::from_micros(micros),
            });
        }
        let sums = counters.of(Kind::Blob);
        assert_eq!(sums.outcomes[Outcome::Redirect as usize], 4);
        assert_eq!((sums.redirected_bytes, sums.sent_bytes), (40, 0));
        assert_eq!((sums.durations[0], sums.durations[1]), (2, 1));
        assert_eq!(sums.durations[BOUNDS_US.len()], 1);
        assert_eq!(sums.duration, Duration::from_micros(6_000_101));
        assert_eq!(counters.of(Kind::Tag).outcomes, [0; 7]);
    }
}

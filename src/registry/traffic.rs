//! When the next request to a registry may go, and whether any more should.
//!
//! A registry that answers `Retry-After` is left alone by all requests, not only by the one that was
//! told. A budget of requests and a number of requests at once keep us from being told at all. And a
//! registry that fails every time is given up, so that a run over thousands of tags ends.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::rate::Rate;
use crate::bucket::Bucket;

/// Held by a request from before it is sent until its answer is read; `None` if there is no limit.
pub(super) type Slot = Option<OwnedSemaphorePermit>;

/// What all requests to one registry share.
#[derive(Debug)]
pub(super) struct Traffic {
    /// When the registry has asked to be left alone, nothing is sent before this.
    quiet_until: Mutex<Option<Instant>>,
    bucket: Option<Bucket>,
    slots: Option<Arc<Semaphore>>,
    /// How many requests have failed since the last good answer.
    failures: AtomicUsize,
    give_up_at: usize,
}

impl Traffic {
    pub(super) fn new(
        rate: Option<Rate>,
        max_concurrent: Option<NonZero<usize>>,
        give_up_at: usize,
    ) -> Self {
        let slots = max_concurrent.map(|most| most.get().min(Semaphore::MAX_PERMITS));
        Self {
            quiet_until: Mutex::default(),
            bucket: rate.map(Bucket::new),
            slots: slots.map(|most| Arc::new(Semaphore::new(most))),
            failures: AtomicUsize::new(0),
            give_up_at,
        }
    }

    /// Waits, in turn, until there are fewer requests under way than there may be.
    pub(super) async fn slot(&self) -> Slot {
        match &self.slots {
            // The semaphore is never closed.
            Some(slots) => Arc::clone(slots).acquire_owned().await.ok(),
            None => None,
        }
    }

    /// Waits until a request may be sent, and counts it.
    pub(super) async fn turn(&self) {
        self.keep_quiet().await;
        if let Some(bucket) = &self.bucket {
            bucket.take(1).await;
            // While we waited for the budget another request may have been told to come later.
            self.keep_quiet().await;
        }
    }

    /// One request has been told to come later: so will the others be, and each that tries anyway
    /// counts against us.
    pub(super) fn quiet_for(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut quiet = self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *quiet = (*quiet).max(Some(until));
    }

    async fn keep_quiet(&self) {
        loop {
            let until = *self
                .quiet_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// An answer came whole, and was none of a broken server.
    pub(super) fn good(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// So many requests had no answer, half an answer, or that of a broken server.
    pub(super) fn bad(&self, requests: usize) {
        self.failures.fetch_add(requests, Ordering::Relaxed);
    }

    /// How many requests have failed in a row, once that is enough to send no more.
    pub(super) fn given_up_after(&self) -> Option<usize> {
        let failures = self.failures.load(Ordering::Relaxed);
        (failures >= self.give_up_at).then_some(failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_while_the_registry_wants_to_be_left_alone() {
        let traffic = Traffic::new(Some("1/s".parse().unwrap()), None, 1);
        let started = Instant::now();
        traffic.turn().await;
        traffic.quiet_for(Duration::from_secs(7));
        traffic.quiet_for(Duration::from_secs(3));
        traffic.turn().await;
        assert_eq!(started.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_free_again_when_it_is_dropped() {
        let traffic = Traffic::new(None, NonZero::new(1), 1);
        let slot = traffic.slot().await;
        let second = tokio::time::timeout(Duration::from_secs(60), traffic.slot()).await;
        assert!(second.is_err());
        drop(slot);
        assert!(traffic.slot().await.is_some());
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let traffic = Traffic::new(None, None, 3);
        traffic.bad(2);
        traffic.good();
        traffic.bad(2);
        assert_eq!(traffic.given_up_after(), None);
        traffic.bad(2);
        assert_eq!(traffic.given_up_after(), Some(4));
        traffic.good();
        assert_eq!(traffic.given_up_after(), None);
    }
}

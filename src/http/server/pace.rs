//! How fast a client takes what is sent to it, over the time in which it is the one waited for.

use std::time::Duration;

use tokio::time::Instant;

/// A window of waiting, and how much was taken in it.
///
/// Only waiting fills the window: a client that takes everything at once is never measured, however
/// long the connection lasts.
#[derive(Debug)]
pub(super) struct Pace {
    window: Duration,
    /// What must be taken in a window.
    least: u64,
    since: Option<Instant>,
    waited: Duration,
    taken: u64,
}

impl Pace {
    /// At least `rate` bytes per second over `window`, and at least one byte.
    pub(super) fn new(window: Duration, rate: u64) -> Self {
        Self {
            window,
            least: rate.saturating_mul(window.as_secs()).max(1),
            since: None,
            waited: Duration::ZERO,
            taken: 0,
        }
    }

    pub(super) fn wait(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    pub(super) fn go_on(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now - since;
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn took(&mut self, bytes: u64) {
        if self.is_waiting() || !self.waited.is_zero() {
            self.taken += bytes;
        }
    }

    /// When the window is full, if nothing changes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since
            .map(|since| since + self.window.saturating_sub(self.waited))
    }

    /// Whether the window is full and too little was taken; a full one is followed by the next.
    pub(super) fn is_too_slow(&mut self, now: Instant) -> bool {
        let waited = self.waited + self.since.map_or(Duration::ZERO, |since| now - since);
        if waited < self.window {
            return false;
        }
        let is_too_slow = self.taken < self.least;
        self.since = self.since.map(|_| now);
        self.waited = Duration::ZERO;
        self.taken = 0;
        is_too_slow
    }
}

//! What a front end remembers of requests, in fixed memory, from one snapshot to the next.
//!
//! Docker and containerd come back to us when a mirror has failed them, and nothing else tells that one has:
//! so [`retries`] remembers who was sent where, [`ladder`] says where a client is sent that comes back, and
//! [`suspects`] where the crawler should look. [`popular`] is what is asked for most. All of it is tables of
//! atomics that never grow: requests take no lock, and the worst that a full table does is to forget.
//!
//! Blobs are remembered by the numbers of a catalog: a snapshot hands this on only to one whose catalog goes on
//! from its own.

pub mod ladder;
pub mod popular;
pub mod retries;
pub mod suspects;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use oci_mirror::tree::catalog::BlobId;

use crate::network::HostId;
use crate::select::rank::ClientKey;
use ladder::{Rung, Step};

pub use popular::Popular;
pub use retries::Retries;
pub use suspects::Suspects;

/// What is remembered.
#[derive(Debug)]
pub struct Remembered {
    /// Who was sent where lately.
    pub retries: Retries,
    /// Blobs that may be wrong at a mirror.
    pub suspects: Suspects,
    /// Blobs that are often asked for.
    pub popular: Popular,
    /// How many retries were answered, by where to.
    pub counts: Counts,
    began: Instant,
}

/// How many retries were answered, by where to.
#[derive(Debug, Default)]
pub struct Counts {
    /// With another mirror.
    pub to_mirrors: AtomicU64,
    /// With the bytes.
    pub to_origin: AtomicU64,
    /// Mirrors that clients came back from.
    pub suspects: AtomicU64,
}

/// A request for a blob that may be a retry.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Who asks.
    pub client: ClientKey,
    /// For what.
    pub blob: BlobId,
    /// For the rest of a transfer that broke.
    pub resumes: bool,
    /// When.
    pub at: Instant,
}

impl Default for Remembered {
    fn default() -> Self {
        Self {
            retries: Retries::default(),
            suspects: Suspects::default(),
            popular: Popular::default(),
            counts: Counts::default(),
            began: Instant::now(),
        }
    }
}

impl Remembered {
    /// Where the request goes, of those `listed`; the next like it within the `window` is a retry.
    ///
    /// The mirror that a retry comes from is set aside for its client, and the crawler is to look there. What
    /// one client says takes no mirror from anybody else.
    pub fn step<H>(
        &self,
        asked: &Asked,
        window: Duration,
        listed: &[H],
        id: impl Fn(&H) -> HostId,
    ) -> Step {
        let (now, window) = (self.seconds(asked.at), seconds(window));
        let aside = |host| self.retries.is_aside(asked.client, host, now, window);
        let step = self
            .retries
            .note(asked.client, asked.blob, now, window, |before| {
                ladder::step(before, asked.resumes, listed, &id, aside)
            });
        if let Some(host) = step.skipped {
            self.retries.set_aside(asked.client, host, now);
            self.suspects.note(host, asked.blob);
            self.counts.suspects.fetch_add(1, Relaxed);
        }
        if step.rung != Rung::First {
            let count = match step.mirror {
                Some(_) => &self.counts.to_mirrors,
                None => &self.counts.to_origin,
            };
            count.fetch_add(1, Relaxed);
        }
        step
    }

    /// The first of those `listed` that is not set aside for the client, and else the first.
    pub fn first<H>(
        &self,
        (client, at): (ClientKey, Instant),
        window: Duration,
        listed: &[H],
        id: impl Fn(&H) -> HostId,
    ) -> usize {
        let (now, window) = (self.seconds(at), seconds(window));
        let aside = |host: &H| self.retries.is_aside(client, id(host), now, window);
        ladder::first(listed, aside).unwrap_or_default()
    }

    fn seconds(&self, at: Instant) -> u64 {
        // Not from zero, which is what an empty place has.
        at.saturating_duration_since(self.began).as_secs() + 1
    }
}

/// A window that is there has a second at least.
fn seconds(window: Duration) -> u64 {
    window.as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(120);

    #[test]
    fn whoever_comes_back_gets_the_next_mirror_then_the_bytes_and_nobody_else_does() {
        let remembered = Remembered::default();
        let listed = [1, 2, 3].map(HostId);
        let client = |text: &str| ClientKey::of(text.parse().unwrap());
        let ask = |client, blob, at| {
            let asked = Asked {
                client,
                blob: BlobId(blob),
                resumes: false,
                at,
            };
            remembered
                .step(&asked, WINDOW, &listed, |host| *host)
                .mirror
        };
        let (one, other, at) = (client("192.0.2.1"), client("198.51.100.1"), Instant::now());
        assert_eq!(ask(one, 7, at), Some(0));
        assert_eq!(ask(one, 7, at), Some(1));
        assert!(remembered.suspects.hosts().contains(&HostId(1)));
        assert_eq!(ask(one, 7, at), None);
        assert_eq!(ask(one, 8, at), Some(2), "two mirrors have failed it");
        assert_eq!(ask(other, 7, at), Some(0), "a network of its own");
        let later = at + WINDOW + Duration::from_secs(2);
        assert_eq!(ask(one, 7, later), Some(0), "that is over");
        let counts = &remembered.counts;
        let counts = [&counts.to_mirrors, &counts.to_origin, &counts.suspects];
        assert_eq!(counts.map(|count| count.load(Relaxed)), [1, 1, 2]);
        assert_eq!(remembered.suspects.take(HostId(1)), [BlobId(7)]);
    }
}

//! What a front end remembers of requests, in fixed memory, from one snapshot to the next.
//!
//! Docker and containerd come back to us when a mirror has failed them, and nothing else tells that one has:
//! so [`retries`] remembers who was sent where, [`demand`] what was asked for, [`ladder`] says where a client is
//! sent that comes back, and
//! [`suspects`] where the crawler should look. [`popular`] is what is asked for most. All of it is tables of
//! atomics that never grow: requests take no lock, and the worst that a full table does is to forget.
//!
//! Blobs are remembered by the numbers of a catalog: a snapshot hands this on only to one whose catalog goes on
//! from its own.

pub mod demand;
pub mod ladder;
pub mod popular;
pub mod retries;
pub mod suspects;

use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use oci_mirror::tree::catalog::BlobId;

use crate::network::HostId;
use crate::select::rank::ClientKey;
use demand::Trace;

pub use demand::Demand;
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

/// Who asks, and for what if it may be a retry.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Who; `None` behind a socket file, where all clients are one.
    pub client: Option<ClientKey>,
    /// For what of which blob; `None`: for what no retry can be told by.
    pub of: Option<(BlobId, Demand<'a>)>,
}

impl Asked<'_> {
    /// A request that counts for nothing, and goes where its client was not failed.
    pub fn by(client: Option<ClientKey>) -> Self {
        Self { client, of: None }
    }
}

/// For whom mirrors are set aside that have failed the front end itself.
pub static OURSELVES: LazyLock<ClientKey> =
    LazyLock::new(|| ClientKey::of(Ipv4Addr::UNSPECIFIED.into()));

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
    /// Where the request goes, of those `listed`; `None`: it gets the bytes from here. The next like it within
    /// the window is a retry.
    ///
    /// The mirror that a retry comes from is set aside for its client, and the crawler is to look there. What
    /// one client says takes no mirror from anybody else.
    pub fn step<H>(
        &self,
        asked: &Asked<'_>,
        (at, window): (Instant, Duration),
        listed: &[H],
        id: impl Fn(&H) -> HostId,
    ) -> Option<usize> {
        // A window that is there has a second at least.
        let (now, window) = (self.seconds(at), window.as_secs().max(1));
        let Some(client) = asked.client else {
            return (!listed.is_empty()).then_some(0);
        };
        let aside = |host| self.retries.is_aside(client, host, now, window);
        let Some((blob, demand)) = asked.of else {
            return ladder::first(listed, |host| aside(id(host)));
        };
        let meets = |trace: Trace<'_>| self.retries.meets(client, (blob, trace), now, window);
        let sign = demand.sign(meets);
        let step = self.retries.note(client, blob, now, window, |before| {
            ladder::step(before, sign.request(before), listed, &id, aside)
        });
        if let Some(host) = step.skipped {
            self.suspect(host, blob, (client, at));
        }
        if step.is_retry {
            let count = match step.mirror {
                Some(_) => &self.counts.to_mirrors,
                None => &self.counts.to_origin,
            };
            count.fetch_add(1, Relaxed);
        }
        step.mirror
    }

    /// A mirror has failed a client: it is set aside for that, and the crawler is to look there.
    pub fn suspect(&self, host: HostId, blob: BlobId, (client, at): (ClientKey, Instant)) {
        self.retries.set_aside(client, host, self.seconds(at));
        self.suspects.note(host, blob);
        self.counts.suspects.fetch_add(1, Relaxed);
    }

    fn seconds(&self, at: Instant) -> u64 {
        // Not from zero, which is what an empty place has.
        at.saturating_duration_since(self.began).as_secs() + 1
    }
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
                of: Some((BlobId(blob), Demand::Whole)),
                ..Asked::by(Some(client))
            };
            remembered.step(&asked, (at, WINDOW), &listed, |host| *host)
        };
        let (one, other, at) = (client("192.0.2.1"), client("198.51.100.1"), Instant::now());
        assert_eq!(ask(one, 7, at), Some(0));
        assert_eq!(ask(one, 7, at), Some(1));
        assert!(remembered.suspects.hosts().contains(&HostId(1)));
        assert_eq!(ask(one, 7, at), None);
        assert_eq!(ask(one, 8, at), Some(2), "two mirrors have failed it");
        assert_eq!(ask(other, 7, at), Some(0), "a network of its own");
        let part = Asked::by(Some(one));
        let part = remembered.step(&part, (at, WINDOW), &listed, |host| *host);
        assert_eq!(part, Some(2));
        let later = at + WINDOW + Duration::from_secs(2);
        assert_eq!(ask(one, 7, later), Some(0), "that is over");
        let counts = &remembered.counts;
        let counts = [&counts.to_mirrors, &counts.to_origin, &counts.suspects];
        assert_eq!(counts.map(|count| count.load(Relaxed)), [1, 1, 2]);
        assert_eq!(remembered.suspects.take(HostId(1)), [BlobId(7)]);
    }
}

//! Who was sent where lately: tables of fixed size that requests read and write without waiting.
//!
//! A client is its network, a blob its number. Both are hashed with a secret of this process, so that nobody
//! can choose whom he collides with; the hash says in which set of four places an entry may be, and 22 bits of
//! the rest of it tell one entry from the next. A set that is full forgets its oldest entry. Where a whole
//! network comes back at once, each request is counted once: a place that has changed meanwhile is read again.
//!
//! Times are seconds since the program began, of which an entry keeps 20 bits: one that lies untouched for
//! twelve days, to the minute, is taken for a new one. The harm is that a client gets its second mirror first.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oci_mirror::tree::catalog::BlobId;

use super::demand::Trace;
use super::ladder::{Before, Rung, Step};
use crate::network::HostId;
use crate::select::rank::ClientKey;

/// Sets of places for clients and blobs: 512 KiB.
const SETS: usize = 1 << 14;

/// Sets of places for what parts were asked for: 512 KiB.
const TRACE_SETS: usize = 1 << 14;

/// Sets of places for mirrors set aside: 128 KiB.
const ASIDE_SETS: usize = 1 << 12;

/// Places in which one entry may be.
const WAYS: usize = 4;

/// What an entry is made of, from its highest bit: a tag, seconds, a rung, the number of a host.
const HOST_BITS: u32 = 20;
const RUNG_BITS: u32 = 2;
const SECONDS_BITS: u32 = 20;
const HOST_MASK: u64 = (1 << HOST_BITS) - 1;
const SECONDS_MASK: u64 = (1 << SECONDS_BITS) - 1;
const SECONDS_AT: u32 = HOST_BITS + RUNG_BITS;
const TAG_AT: u32 = SECONDS_AT + SECONDS_BITS;

/// Another thread may have looked at the clock a little later.
const SLACK: u64 = 5;

/// The tables.
#[derive(Debug)]
pub struct Retries {
    sent: Box<[Set]>,
    traces: Box<[Set]>,
    aside: Box<[Set]>,
    /// When a mirror was last set aside for anybody; most of the time that is long ago.
    last_aside: AtomicU64,
    secret: RandomState,
}

/// The places of one set, in one line of the cache.
#[derive(Debug, Default)]
#[repr(align(32))]
struct Set([AtomicU64; WAYS]);

impl Default for Retries {
    fn default() -> Self {
        let table = |sets| std::iter::repeat_with(Set::default).take(sets).collect();
        Self {
            sent: table(SETS),
            traces: table(TRACE_SETS),
            aside: table(ASIDE_SETS),
            last_aside: AtomicU64::new(0),
            secret: RandomState::new(),
        }
    }
}

impl Retries {
    /// Takes the step that `choose` makes of where the client was sent before, within the window.
    pub fn note(
        &self,
        client: ClientKey,
        blob: BlobId,
        now: u64,
        window: u64,
        choose: impl Fn(Option<Before>) -> Step,
    ) -> Step {
        let hash = self.secret.hash_one((client.bits(), blob.0));
        let set = set(&self.sent, hash);
        // Whoever has to try again does so because another was let through.
        loop {
            let found = set.find(hash, now);
            let before = found.within(window).map(before_of);
            let step = choose(before);
            let entry = tag(hash) | stamp(now) | bits_of(&step);
            let place = &set.0[found.way];
            let written = place.compare_exchange(found.entry, entry, Relaxed, Relaxed);
            if written.is_ok() {
                return step;
            }
        }
    }

    /// Leaves a trace of what of a blob a client asks for; whether it was there within the window.
    pub fn meets(
        &self,
        client: ClientKey,
        what: (BlobId, Trace<'_>),
        now: u64,
        window: u64,
    ) -> bool {
        let (blob, trace) = what;
        let hash = self.secret.hash_one((client.bits(), blob.0, trace));
        let set = set(&self.traces, hash);
        let found = set.find(hash, now);
        set.0[found.way].store(tag(hash) | stamp(now), Relaxed);
        found.within(window).is_some()
    }

    /// Puts a mirror behind the others for a client, for a window.
    pub fn set_aside(&self, client: ClientKey, host: HostId, now: u64) {
        let hash = self.secret.hash_one((host.0, client.bits()));
        let set = set(&self.aside, hash);
        set.0[set.find(hash, now).way].store(tag(hash) | stamp(now), Relaxed);
        self.last_aside.fetch_max(now, Relaxed);
    }

    /// Whether a mirror was set aside for a client within the window.
    pub fn is_aside(&self, client: ClientKey, host: HostId, now: u64, window: u64) -> bool {
        let last = self.last_aside.load(Relaxed);
        if last == 0 || now.saturating_sub(last) > window {
            return false;
        }
        let hash = self.secret.hash_one((host.0, client.bits()));
        let found = set(&self.aside, hash).find(hash, now);
        found.within(window).is_some()
    }
}

/// A place in a set and what is there.
struct Place {
    way: usize,
    entry: u64,
    /// Its age if it is the entry looked for, and not one to be forgotten for it.
    age: Option<u64>,
}

impl Place {
    /// The entry looked for, if it is there and no older than the window.
    fn within(&self, window: u64) -> Option<u64> {
        (self.age? <= window).then_some(self.entry)
    }
}

impl Set {
    /// The place of the entry with this hash, or the place to put it.
    fn find(&self, hash: u64, now: u64) -> Place {
        let (mut oldest, mut longest) = (0, None);
        let entries = self.0.each_ref().map(|entry| entry.load(Relaxed));
        for (way, entry) in entries.into_iter().enumerate() {
            let age = match entry {
                0 => u64::MAX,
                entry => age(entry, now),
            };
            if entry != 0 && tag(entry) == tag(hash) {
                let age = Some(age);
                return Place { way, entry, age };
            }
            if Some(age) > longest {
                (oldest, longest) = (way, Some(age));
            }
        }
        Place {
            way: oldest,
            entry: entries[oldest],
            age: None,
        }
    }
}

/// The set of an entry: by the low bits of its hash, of which the tag has none.
fn set(table: &[Set], hash: u64) -> &Set {
    let sets = table.len() as u64;
    &table[usize::try_from(hash % sets).unwrap_or_default()]
}

fn tag(hash: u64) -> u64 {
    hash >> TAG_AT << TAG_AT
}

fn stamp(now: u64) -> u64 {
    (now & SECONDS_MASK) << SECONDS_AT
}

/// Seconds since an entry was written.
fn age(entry: u64, now: u64) -> u64 {
    let written = entry >> SECONDS_AT & SECONDS_MASK;
    ((now + SLACK).wrapping_sub(written) & SECONDS_MASK).saturating_sub(SLACK)
}

fn bits_of(step: &Step) -> u64 {
    let rung = match step.rung {
        Rung::First => 0,
        Rung::Next => 1,
        Rung::Origin => 2,
    };
    // A number that does not fit is not remembered, rather than taken for another.
    let host = step.host.map_or(0, |host| u64::from(host.0));
    let host = if host > HOST_MASK { 0 } else { host };
    rung << HOST_BITS | host
}

fn before_of(entry: u64) -> Before {
    let rung = match entry >> HOST_BITS & ((1 << RUNG_BITS) - 1) {
        0 => Rung::First,
        1 => Rung::Next,
        _ => Rung::Origin,
    };
    let host = u32::try_from(entry & HOST_MASK).unwrap_or_default();
    Before {
        rung,
        host: (host > 0).then_some(HostId(host)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::ladder::{self, Request};
    use super::*;

    fn client(number: u8) -> ClientKey {
        ClientKey::of([192, 0, number, 1].into())
    }

    fn note(retries: &Retries, client: ClientKey, blob: u32, now: u64) -> Step {
        let listed = [HostId(1), HostId(2)];
        retries.note(client, BlobId(blob), now, 120, |before| {
            ladder::step(before, Request::Whole, &listed, |host| *host, |_| false)
        })
    }

    #[test]
    fn another_client_blob_or_time_is_a_first_request() {
        let retries = Retries::default();
        assert_eq!(note(&retries, client(1), 1, 10).rung, Rung::First);
        assert_eq!(note(&retries, client(2), 1, 10).rung, Rung::First);
        assert_eq!(note(&retries, client(1), 2, 10).rung, Rung::First);
        assert_eq!(note(&retries, client(1), 1, 130).rung, Rung::Next);
        assert_eq!(note(&retries, client(1), 1, 251).rung, Rung::First);
        assert_eq!(note(&retries, client(1), 1, 252).host, Some(HostId(2)));
    }

    #[test]
    fn the_clock_wraps_and_may_go_back_a_little() {
        let retries = Retries::default();
        let end = SECONDS_MASK;
        assert_eq!(note(&retries, client(1), 1, end).rung, Rung::First);
        assert_eq!(note(&retries, client(1), 1, end + 3).rung, Rung::Next);
        assert_eq!(note(&retries, client(1), 1, end + 1).rung, Rung::Origin);
        assert_eq!(note(&retries, client(1), 1, end + 200).rung, Rung::First);
        let much_later = end + 200 + SECONDS_MASK / 2;
        assert_eq!(note(&retries, client(1), 1, much_later).rung, Rung::First);
    }

    #[test]
    fn what_threads_ask_for_at_once_is_counted_once_each() {
        let retries = Retries::default();
        let steps = [const { AtomicUsize::new(0) }; 3];
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let step = note(&retries, client(1), 1, 10);
                        steps[step.rung as usize].fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(steps.map(AtomicUsize::into_inner), [800; 3]);
    }

    #[test]
    fn a_trace_is_of_one_client_blob_and_place_and_lasts_a_while() {
        let retries = Retries::default();
        let meets = |number, blob, trace, now| {
            retries.meets(client(number), (BlobId(blob), trace), now, 120)
        };
        assert!(!meets(1, 1, Trace::From(5), 10));
        for (number, blob, trace) in [
            (2, 1, Trace::From(5)),
            (1, 2, Trace::From(5)),
            (1, 1, Trace::From(6)),
            (1, 1, Trace::Chunks(5)),
        ] {
            assert!(!meets(number, blob, trace, 10), "{number} {blob} {trace:?}");
        }
        assert!(meets(1, 1, Trace::From(5), 130));
        assert!(meets(1, 1, Trace::From(5), 250), "it was left anew");
        assert!(!meets(1, 1, Trace::From(5), 371));
    }

    #[test]
    fn a_mirror_is_set_aside_for_one_client_and_a_while() {
        let retries = Retries::default();
        assert!(!retries.is_aside(client(1), HostId(1), 10, 120));
        retries.set_aside(client(1), HostId(1), 10);
        for (number, host, now, aside) in [
            (1, 1, 10, true),
            (1, 1, 130, true),
            (1, 1, 131, false),
            (1, 2, 10, false),
            (2, 1, 10, false),
        ] {
            let found = retries.is_aside(client(number), HostId(host), now, 120);
            assert_eq!(found, aside, "{number} {host} {now}");
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_forgotten() {
        let retries = Retries::default();
        let listed = [HostId(1 << HOST_BITS | 3), HostId(3)];
        let choose =
            |before| ladder::step(before, Request::Whole, &listed, |host| *host, |_| false);
        let note = || retries.note(client(1), BlobId(1), 10, 120, choose);
        assert_eq!(note().mirror, Some(0));
        let second = note();
        assert_eq!((second.mirror, second.skipped), (Some(1), Some(listed[0])));
    }

    #[test]
    fn a_million_requests_take_no_more_room_and_the_newest_is_known() {
        let retries = Retries::default();
        for blob in 0..1_000_000 {
            note(&retries, client(1), blob, 10 + u64::from(blob) / 10_000);
        }
        assert_eq!(note(&retries, client(1), 999_999, 110).rung, Rung::Next);
        assert_eq!(size_of_val(&*retries.sent), 512 << 10);
        assert_eq!(size_of_val(&*retries.aside), 128 << 10);
    }
}

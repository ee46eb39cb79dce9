//! Memory that pieces take, of all bodies together.
//!
//! Nobody waits for it, so it is a number. The bound is told each time, so that a change of it holds at once, for
//! what is taken already as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many bytes are taken.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicU64);

/// Some of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Room>,
    bytes: u64,
}

impl Room {
    /// Takes `bytes`, unless more than `bound` were taken then.
    pub(super) fn take(room: &Arc<Self>, bytes: u64, bound: u64) -> Option<Taken> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= bound);
        room.0.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Taken {
            room: Arc::clone(room),
            bytes,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_for_what_is_taken_already() {
        let room = Arc::default();
        let (first, second) = (Room::take(&room, 6, 10), Room::take(&room, 4, 10));
        assert!(first.is_some() && second.is_some());
        assert!(Room::take(&room, 1, 10).is_none());
        assert!(Room::take(&room, 1, 11).is_some(), "it was raised");
        drop(second);
        assert!(Room::take(&room, 1, 6).is_none(), "it was lowered");
        drop(first);
        assert!(Room::take(&room, 6, 6).is_some());
        assert!(Room::take(&room, u64::MAX, u64::MAX).is_some());
    }
}

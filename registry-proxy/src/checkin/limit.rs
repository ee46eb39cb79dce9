//! How often who may check in.
//!
//! A mirror checks in after a sync; one that does so again and again would keep the database busy. Who has no token
//! costs little, and is told to wait once too many of them come: but they share one bucket, so whoever has a token never
//! waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::network::HostId;

/// How often one mirror may: this often at once, and then each so much later.
const MIRROR: Rate = Rate {
    burst: 6,
    each: Duration::from_secs(10),
};

/// How often all those together are told that they are unknown.
const STRANGERS: Rate = Rate {
    burst: 20,
    each: Duration::from_millis(50),
};

/// How often something may be.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    each: Duration,
}

/// How often who was here.
#[derive(Debug, Default)]
pub(super) struct Limits {
    mirrors: Mutex<HashMap<HostId, Spent>>,
    strangers: Mutex<Spent>,
    large: Arc<Mutex<HashSet<HostId>>>,
}

/// A large report of a mirror, as long as this is kept.
#[derive(Debug)]
pub(super) struct Alone {
    host: HostId,
    among: Arc<Mutex<HashSet<HostId>>>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut among = self.among.lock().unwrap_or_else(PoisonError::into_inner);
        among.remove(&self.host);
    }
}

impl Limits {
    /// Begins with a large report of a mirror, unless another one of it is still being read.
    pub(super) fn alone(&self, host: HostId) -> Option<Alone> {
        let mut among = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        among.insert(host).then(|| Alone {
            host,
            among: Arc::clone(&self.large),
        })
    }

    /// Counts a check-in of a mirror; how long it has to wait, if it does.
    pub(super) fn mirror(&self, host: HostId, now: Instant) -> Result<(), Duration> {
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        mirrors.retain(|_, spent| !spent.is_over(now));
        mirrors.entry(host).or_default().take(MIRROR, now)
    }

    /// Counts one of somebody unknown.
    pub(super) fn stranger(&self, now: Instant) -> Result<(), Duration> {
        let mut strangers = self
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        strangers.take(STRANGERS, now)
    }
}

/// When what was taken is there again.
#[derive(Debug, Clone, Copy, Default)]
struct Spent(Option<Instant>);

impl Spent {
    fn is_over(self, now: Instant) -> bool {
        self.0.is_none_or(|full| full <= now)
    }

    fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let full = self.0.map_or(now, |full| full.max(now)) + rate.each;
        let over = (full - now).saturating_sub(rate.each * rate.burst);
        if over.is_zero() {
            self.0 = Some(full);
            Ok(())
        } else {
            Err(over)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_waits_for_itself_and_for_nobody_else() {
        let (limits, began) = (Limits::default(), Instant::now());
        let host = HostId(1);
        for _ in 0..6 {
            assert_eq!(limits.mirror(host, began), Ok(()));
        }
        let wait = limits.mirror(host, began).unwrap_err();
        assert_eq!(wait, Duration::from_secs(10));
        assert!(limits.mirror(host, began + wait / 2).is_err());
        assert_eq!(limits.mirror(HostId(2), began), Ok(()));
        assert_eq!(limits.mirror(host, began + wait), Ok(()));
        assert!(limits.mirror(host, began + wait).is_err());
        let later = began + Duration::from_secs(3600);
        assert_eq!(limits.mirror(HostId(3), later), Ok(()));
        assert_eq!(limits.mirrors.lock().unwrap().len(), 1, "others rested");
    }

    #[test]
    fn a_mirror_sends_one_large_report_at_a_time() {
        let limits = Limits::default();
        let first = limits.alone(HostId(1));
        assert!(first.is_some() && limits.alone(HostId(1)).is_none());
        assert!(limits.alone(HostId(2)).is_some());
        drop(first);
        assert!(limits.alone(HostId(1)).is_some());
    }

    #[test]
    fn strangers_share_what_there_is() {
        let (limits, began) = (Limits::default(), Instant::now());
        let taken = (0..100).filter(|_| limits.stranger(began).is_ok());
        assert_eq!(taken.count(), 20);
        assert_eq!(limits.stranger(began + Duration::from_millis(50)), Ok(()));
    }
}

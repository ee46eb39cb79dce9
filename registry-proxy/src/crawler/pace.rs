//! How fast one mirror is asked, as whoever, and how much it was: its people are to notice the crawler in
//! their logs only.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oci_mirror::bucket::Bucket;
use oci_mirror::registry::rate::Rate;

use crate::db::Cost;

/// Makes those wait who ask one mirror too much, and counts what all of them together take.
#[derive(Debug)]
pub struct Pace {
    requests: Option<Bucket>,
    bytes: Option<Bucket>,
    asked: AtomicU64,
    read: AtomicU64,
}

impl Pace {
    /// So many requests, and so many bytes a second; none: without bound.
    pub fn new(rate: Option<Rate>, bytes_per_second: Option<u64>) -> Self {
        Self {
            requests: rate.map(Bucket::new),
            bytes: bytes_per_second.map(Bucket::per_second),
            asked: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }

    /// Waits until one more request may be made.
    pub async fn request(&self) {
        if let Some(bucket) = &self.requests {
            bucket.take(1).await;
        }
        self.asked.fetch_add(1, Relaxed);
    }

    /// Waits until more may be read after so many bytes.
    pub async fn bytes(&self, count: u64) {
        self.read.fetch_add(count, Relaxed);
        if let Some(bucket) = &self.bytes {
            bucket.take(count).await;
        }
    }

    /// What was taken so far.
    pub fn cost(&self) -> Cost {
        Cost {
            requests: self.asked.load(Relaxed),
            bytes: self.read.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept() {
        let pace = Pace::new("50/s".parse().ok(), Some(1 << 20));
        let began = Instant::now();
        for _ in 0..550 {
            pace.request().await;
        }
        let took = began.elapsed();
        assert!((9990..10_100).contains(&took.as_millis()), "{took:?}");

        let began = Instant::now();
        for _ in 0..11 << 4 {
            pace.bytes(64 << 10).await;
        }
        let took = began.elapsed();
        assert!((9900..10_100).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_bounds_nobody_waits() {
        let (pace, began) = (Pace::new(None, None), Instant::now());
        for _ in 0..1000 {
            pace.request().await;
            pace.bytes(1 << 30).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        let (requests, bytes) = (1000, 1000 << 30);
        assert_eq!(pace.cost(), Cost { requests, bytes });
    }
}

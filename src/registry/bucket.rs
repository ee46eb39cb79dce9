//! The token bucket at which a request waits for the budget of its registry.

use std::time::Duration;

use tokio::time::Instant;

use super::rate::Rate;

/// Lets requests pass at a rate: the full number at once when it has rested, then as it refills.
///
/// Those who wait are served in the order in which they came, because the lock is given in that order
/// and held while waiting. Who gives up waiting takes nothing.
#[derive(Debug)]
pub(super) struct Bucket {
    /// The time in which one request is refilled.
    interval: Duration,
    /// How far the requests let pass may be ahead of their times.
    ahead: Duration,
    /// The time by which all requests let pass so far are refilled.
    full_at: tokio::sync::Mutex<Option<Instant>>,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        let interval = rate.per() / rate.requests();
        Self {
            interval,
            ahead: rate.per().saturating_sub(interval),
            full_at: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until a request may pass, and counts it.
    pub(super) async fn take(&self) {
        let mut full_at = self.full_at.lock().await;
        let now = Instant::now();
        let due = full_at.map_or(now, |full_at| full_at.max(now));
        // Subtracting from the clock could go below its start.
        let wait = (due - now).saturating_sub(self.ahead);
        if !wait.is_zero() {
            tracing::debug!(?wait, "waiting for the budget of requests");
            tokio::time::sleep(wait).await;
        }
        *full_at = Some(due + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn taken_after(bucket: &Bucket) -> Duration {
        let started = Instant::now();
        bucket.take().await;
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_bucket_is_spent_at_once_and_refills_steadily() {
        let bucket = Bucket::new("4/2s".parse().unwrap());
        for _ in 0..4 {
            assert_eq!(taken_after(&bucket).await, Duration::ZERO);
        }
        for _ in 0..3 {
            assert_eq!(taken_after(&bucket).await, Duration::from_millis(500));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        for wait in [0, 0, 0, 0, 500] {
            assert_eq!(taken_after(&bucket).await, Duration::from_millis(wait));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_sees_more_than_the_rate_and_what_had_gathered() {
        let bucket = Bucket::new("10/s".parse().unwrap());
        let started = Instant::now();
        let mut taken = 0;
        while started.elapsed() < Duration::from_secs(10) {
            bucket.take().await;
            taken += 1;
        }
        assert!((100..=111).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_turn_and_who_gives_up_takes_nothing() {
        let bucket = Arc::new(Bucket::new("1/s".parse().unwrap()));
        bucket.take().await;
        let started = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..4_u64 {
            let bucket = Arc::clone(&bucket);
            waiting.spawn(async move {
                // The second and the third give up, one of them while it is its turn.
                let patience = if [1, 2].contains(&number) {
                    1500
                } else {
                    60_000
                };
                let patience = Duration::from_millis(patience);
                let taken = tokio::time::timeout(patience, bucket.take()).await;
                taken.map(|()| number)
            });
            tokio::task::yield_now().await;
        }
        let mut served = Vec::new();
        while let Some(result) = waiting.join_next().await {
            if let Ok(number) = result.unwrap() {
                served.push((number, started.elapsed().as_millis()));
            }
        }
        assert_eq!(served, [(0, 1000), (3, 2000)]);
    }
}

//! The token bucket at which those wait who would ask or read too fast.

use std::time::Duration;

use tokio::time::Instant;

use crate::registry::rate::Rate;

/// Lets units pass at a rate: the full number at once when it has rested, then as it refills.
///
/// Those who wait are served in the order in which they came, because the lock is given in that order
/// and held while waiting. Who gives up waiting takes nothing.
#[derive(Debug)]
pub struct Bucket {
    /// So many units are refilled in this time.
    units: u64,
    per: Duration,
    /// How far the units let pass may be ahead of their times.
    ahead: Duration,
    /// The time by which all units let pass so far are refilled.
    full_at: tokio::sync::Mutex<Option<Instant>>,
}

impl Bucket {
    /// One of requests.
    pub fn new(rate: Rate) -> Self {
        Self::of(rate.requests().into(), rate.per())
    }

    /// One of so many units a second, and at least one.
    pub fn per_second(units: u64) -> Self {
        Self::of(units.max(1), Duration::from_secs(1))
    }

    fn of(units: u64, per: Duration) -> Self {
        Self {
            units,
            per,
            ahead: per.saturating_sub(time_of(1, units, per)),
            full_at: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until so many units may pass, and counts them. More than the bucket holds pass together once
    /// it is full, and those who come after wait the longer.
    pub async fn take(&self, units: u64) {
        let mut full_at = self.full_at.lock().await;
        let now = Instant::now();
        let due = full_at.map_or(now, |full_at| full_at.max(now));
        // Subtracting from the clock could go below its start.
        let wait = (due - now).saturating_sub(self.ahead);
        if !wait.is_zero() {
            tracing::debug!(?wait, "waiting for the budget");
            tokio::time::sleep(wait).await;
        }
        *full_at = Some(due + time_of(units, self.units, self.per));
    }
}

/// The time in which `count` units are refilled.
fn time_of(count: u64, units: u64, per: Duration) -> Duration {
    let nanoseconds = per.as_nanos() * u128::from(count) / u128::from(units);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn taken_after(bucket: &Bucket) -> Duration {
        let started = Instant::now();
        bucket.take(1).await;
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
            bucket.take(1).await;
            taken += 1;
        }
        assert!((100..=111).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_turn_and_who_gives_up_takes_nothing() {
        let bucket = Arc::new(Bucket::new("1/s".parse().unwrap()));
        bucket.take(1).await;
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
                let taken = tokio::time::timeout(patience, bucket.take(1)).await;
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

    #[tokio::test(start_paused = true)]
    async fn many_units_pass_together_and_are_waited_for_afterwards() {
        let bucket = Bucket::per_second(1000);
        let started = Instant::now();
        bucket.take(4000).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        bucket.take(1).await;
        // A millisecond's unit less than a full bucket may be ahead.
        assert_eq!(started.elapsed(), Duration::from_millis(3001));
    }
}

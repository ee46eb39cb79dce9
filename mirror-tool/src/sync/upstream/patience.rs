//! How often something is tried again, and after how long.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// The first wait; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(500);

/// The longest wait by doubling.
const LONGEST: Duration = Duration::from_secs(30);

/// The longest wait that an upstream may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// The tries that are left for one thing.
#[derive(Debug)]
pub(super) struct Patience {
    retries: u8,
    used: u8,
}

impl Patience {
    pub(super) fn new(retries: u8) -> Self {
        Self { retries, used: 0 }
    }

    /// There was progress, so the tries count from here again.
    pub(super) fn renew(&mut self) {
        self.used = 0;
    }

    /// Waits before the next try, at least as long as was asked for; false if there is none left.
    pub(super) async fn wait(&mut self, asked: Option<Duration>) -> bool {
        if self.used >= self.retries {
            return false;
        }
        let doubled = FIRST.saturating_mul(1 << self.used.min(16));
        self.used += 1;
        let wait = jittered(
            doubled.min(LONGEST),
            RandomState::new().build_hasher().finish(),
        );
        tokio::time::sleep(wait.max(asked.unwrap_or_default().min(LONGEST_ASKED))).await;
        true
    }
}

/// Between a half and the whole of it, so that several do not come back in step.
fn jittered(wait: Duration, random: u64) -> Duration {
    let half = wait / 2;
    let nanoseconds = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(random % nanoseconds)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_and_end_and_begin_again_after_progress() {
        let mut patience = Patience::new(3);
        for longest in [500, 1000, 2000] {
            let began = Instant::now();
            assert!(patience.wait(None).await);
            let waited = began.elapsed().as_millis();
            assert!((longest / 2..=longest).contains(&waited), "{waited}");
        }
        assert!(!patience.wait(None).await);
        patience.renew();
        assert!(patience.wait(None).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_is_waited_for_within_bounds() {
        for (asked, waited) in [(7, 7), (86_400, 300)] {
            let began = Instant::now();
            assert!(
                Patience::new(1)
                    .wait(Some(Duration::from_secs(asked)))
                    .await
            );
            assert_eq!(began.elapsed().as_secs(), waited);
        }
    }
}

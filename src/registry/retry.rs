//! When to ask a registry again, and how long to wait before.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tracing::debug;

use super::error::Error;

/// The policy for questions that may be asked twice: all of ours, since we only read.
///
/// Waits grow by doubling, with jitter, so that parallel transfers do not come back in step. A
/// `Retry-After` lengthens a wait but never beyond `max_retry_after`: a registry must not be able to
/// park us for a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often to ask again after the first failure.
    pub retries: usize,
    /// The first wait.
    pub first_delay: Duration,
    /// The longest wait by doubling.
    pub max_delay: Duration,
    /// The longest wait a `Retry-After` may ask for.
    pub max_retry_after: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: 5,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(300),
        }
    }
}

impl Retry {
    /// How often a question is asked at most.
    pub fn tries(&self) -> usize {
        self.retries.saturating_add(1)
    }

    /// Runs `attempt` until it succeeds, fails for good, or the tries are used up.
    pub async fn run<T, E, A, F>(&self, attempt: A) -> Result<T, E>
    where
        A: FnMut() -> F,
        F: Future<Output = Result<T, E>>,
        E: Advice,
    {
        let waits = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.first_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.retries);
        attempt
            .retry(waits)
            .when(E::is_retryable)
            .adjust(|error: &E, wait| {
                let asked = error.retry_after().unwrap_or_default();
                wait.map(|wait| wait.max(asked.min(self.max_retry_after)))
            })
            .notify(|error: &E, wait| debug!(%error, ?wait, "asking again"))
            .await
    }
}

/// What an error says about trying again.
pub trait Advice: std::error::Error {
    /// Whether the same question may be answered better later.
    fn is_retryable(&self) -> bool;
    /// How long the peer wants to be left alone.
    fn retry_after(&self) -> Option<Duration>;
}

impl Advice for Error {
    fn is_retryable(&self) -> bool {
        Self::is_retryable(self)
    }

    fn retry_after(&self) -> Option<Duration> {
        Self::retry_after(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Refused(bool, Option<Duration>);

    impl Advice for Refused {
        fn is_retryable(&self) -> bool {
            self.0
        }
        fn retry_after(&self) -> Option<Duration> {
            self.1
        }
    }

    const QUICK: Retry = Retry {
        retries: 3,
        first_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(2),
        max_retry_after: Duration::from_millis(50),
    };

    #[tokio::test]
    async fn gives_up_after_the_tries_and_at_once_on_a_final_error() {
        for (retryable, tries) in [(true, 4), (false, 1)] {
            let mut count = 0;
            let result: Result<(), _> = QUICK
                .run(|| {
                    count += 1;
                    async move { Err(Refused(retryable, None)) }
                })
                .await;
            assert!(result.is_err());
            assert_eq!(count, tries);
        }
    }

    #[tokio::test]
    async fn waits_as_long_as_asked_but_not_longer_than_the_cap() {
        let started = std::time::Instant::now();
        let mut first = true;
        let day = Some(Duration::from_secs(86_400));
        let result = QUICK
            .run(|| {
                let fails = std::mem::take(&mut first);
                async move {
                    if fails {
                        Err(Refused(true, day))
                    } else {
                        Ok(())
                    }
                }
            })
            .await;
        assert!(result.is_ok());
        let waited = started.elapsed();
        assert!(
            waited >= QUICK.max_retry_after && waited < Duration::from_secs(5),
            "{waited:?}"
        );
    }
}

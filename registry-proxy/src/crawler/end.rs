//! Until when a host is asked: its time is up, or ours is.

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// When to stop.
#[derive(Debug, Clone)]
pub struct End {
    deadline: Instant,
    stop: CancellationToken,
}

impl End {
    /// At a time, or when told to if that is sooner.
    pub fn new(deadline: Instant, stop: CancellationToken) -> Self {
        Self { deadline, stop }
    }

    /// What comes of something, if that comes before the end.
    pub async fn before<T>(&self, coming: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            came = timeout_at(self.deadline, coming) => came.ok(),
        }
    }

    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.is_stopped() || Instant::now() >= self.deadline
    }

    /// Whether it was told to come.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// When it comes, if not before.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

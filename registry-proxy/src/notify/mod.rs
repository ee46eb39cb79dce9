//! Notices: what became of a mirror, told to its people and to the operator.
//!
//! What a crawl has changed for clients is a [`Notice`]: always a line of the log, and one JSON object for a
//! command and a webhook if there are such. Whoever tells it does not wait. What cannot be delivered is given up
//! after some tries and logged: the database knows the state of every mirror, a notice only saves looking.

mod deliver;
mod notice;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tracing::warn;

pub use deliver::Delivery;
pub use notice::{Event, Notice};

use crate::config;

/// How many notices wait to be delivered: of every mirror of a large network at once.
const QUEUE: usize = 1000;

/// Where notices are told; the default is the log alone.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    queue: Option<mpsc::Sender<Notice>>,
    dropped: Arc<AtomicU64>,
}

impl Notifier {
    /// Tells notices as the configuration says; within a runtime of tokio, which the [`Delivery`] needs.
    pub fn start(config: &config::Notify) -> (Self, Delivery) {
        let outlets = deliver::Outlets::of(config);
        if outlets.is_empty() {
            return (Self::default(), Delivery::none());
        }
        let (sender, notices) = mpsc::channel(QUEUE);
        let notifier = Self {
            queue: Some(sender),
            dropped: Arc::default(),
        };
        (notifier, Delivery::start(outlets, notices))
    }

    /// Logs a notice and has it delivered, if there is room; never waits.
    pub fn tell(&self, notice: Notice) {
        notice.log();
        let Some(queue) = &self.queue else {
            return;
        };
        let mirror = notice.mirror.clone();
        if queue.try_send(notice).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(%mirror, dropped, "a notice finds no room and is only logged");
        }
    }

    /// How many notices were only logged because too many waited, or it was the end.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn notice(reason: &str) -> Notice {
        Notice {
            at: jiff::Timestamp::UNIX_EPOCH,
            event: Event::Disabled,
            mirror: "heidelberg".parse().unwrap(),
            site: "uni".parse().unwrap(),
            repository: None,
            reason: reason.to_owned(),
            evidence: Vec::new(),
        }
    }

    fn shell(script: &str) -> config::Notify {
        config::Notify {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            ..config::Notify::default()
        }
    }

    #[tokio::test]
    async fn what_was_told_before_the_end_is_delivered_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notices");
        let script = format!("cat >> {}", path.display());
        let (notifier, delivery) = Notifier::start(&shell(&script));
        for number in 0..20 {
            notifier.tell(notice(&number.to_string()));
        }
        delivery.finish(Duration::from_secs(60)).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let reasons = text.lines().map(|line| {
            let notice: serde_json::Value = serde_json::from_str(line).unwrap();
            notice["reason"].as_str().unwrap().to_owned()
        });
        assert!(reasons.eq((0..20).map(|number: u32| number.to_string())));
        // Whoever tells something afterwards is neither held up nor heard.
        notifier.tell(notice("late"));
        assert_eq!(notifier.dropped(), 1);
    }

    #[tokio::test]
    async fn telling_never_waits_and_the_end_is_in_time() {
        let (notifier, delivery) = Notifier::start(&shell("sleep 300"));
        for _ in 0..QUEUE + 100 {
            notifier.tell(notice("x"));
        }
        // The task that delivers has not run yet, so nothing was taken out of the queue.
        assert_eq!(notifier.dropped(), 100);
        delivery.finish(Duration::from_millis(100)).await;
    }

    #[tokio::test]
    async fn with_nobody_to_tell_there_is_only_the_log() {
        let (notifier, delivery) = Notifier::start(&config::Notify::default());
        for _ in 0..2 * QUEUE {
            notifier.tell(notice("x"));
        }
        assert_eq!(notifier.dropped(), 0);
        delivery.finish(Duration::from_secs(60)).await;
    }

    #[tokio::test]
    async fn a_command_that_fails_keeps_nobody_from_being_told_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notices");
        let script = format!("echo x >> {}; exit 1", path.display());
        let (notifier, delivery) = Notifier::start(&shell(&script));
        notifier.tell(notice("1"));
        notifier.tell(notice("2"));
        delivery.finish(Duration::from_secs(60)).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x\nx\n");
    }
}

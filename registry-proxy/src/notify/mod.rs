//! Notices: what became of a mirror, told to its people and to the operator.

use std::time::Duration;

use jiff::Timestamp;

use crate::config;
use crate::db::{Evidence, Recorded};
use crate::network::SiteName;

/// Where notices are told. Nobody is told yet.
#[derive(Debug, Clone, Default)]
pub struct Notifier(());

/// The delivery under way.
#[derive(Debug)]
pub struct Delivery;

/// What became of a mirror.
#[derive(Debug, Clone)]
pub struct Notice;

impl Notifier {
    /// Tells notices as the configuration says.
    pub fn start(_config: &config::Notify) -> (Self, Delivery) {
        (Self::default(), Delivery)
    }

    /// Has a notice delivered, if there is room; never waits.
    pub fn tell(&self, _notice: Notice) {}
}

impl Delivery {
    /// Delivers what is waiting, in this time.
    #[expect(clippy::unused_async, reason = "it will wait")]
    pub async fn finish(self, _limit: Duration) {}
}

impl Notice {
    /// What is to be told of a recorded crawl.
    pub fn of(
        _recorded: &Recorded,
        _site: &SiteName,
        _evidence: &[Evidence],
        _at: Timestamp,
    ) -> Vec<Self> {
        Vec::new()
    }
}

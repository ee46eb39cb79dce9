//! Whether it is us: when nobody answers, the line is cut here, and no mirror is to pay for it.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::chance;
use super::guard::Policy;
use super::pace::Pace;
use super::state::see;
use super::wire::Wire;
use crate::network::{Health, Host, HostId};

/// With fewer healthy hosts it cannot be told.
const ENOUGH: usize = 5;

/// How many others are asked before a failure is held against a host.
const OTHERS: usize = 5;

/// How long they have to answer.
const WAIT: Duration = Duration::from_secs(10);

/// The hosts that were in good health when others were crawled.
#[derive(Debug, Clone)]
pub(super) struct Doubt {
    healthy: Vec<Host>,
    wire: Wire,
    policy: Policy,
}

impl Doubt {
    /// Asks those of `hosts` that are wanted and in good health.
    pub(super) fn new<'a>(
        hosts: impl Iterator<Item = &'a Host>,
        wire: Wire,
        policy: Policy,
    ) -> Self {
        let is_healthy = |host: &&Host| {
            host.is_wanted() && host.health == Health::Healthy && host.download_url().is_some()
        };
        Self {
            healthy: hosts.filter(is_healthy).cloned().collect(),
            wire,
            policy,
        }
    }

    /// Whether, as the crawl of this host has failed, others that were well do not answer either.
    pub(super) async fn is_our_own(&self, failed: HostId) -> bool {
        if self.healthy.len() < ENOUGH {
            return false;
        }
        let mut others: Vec<&Host> = self.healthy.iter().collect();
        others.retain(|host| host.id != failed);
        let seed = chance::mix(failed.0.into());
        others.sort_by_key(|host| chance::nth(seed, host.id.0.into()));
        others.truncate(OTHERS);
        let answers = join_all(others.into_iter().map(|host| self.answers(host))).await;
        !answers.contains(&true)
    }

    async fn answers(&self, host: &Host) -> bool {
        let Some(base) = host.download_url() else {
            return false;
        };
        let policy = self.policy.towards(host);
        let mut mirror = self.wire.mirror(policy, Pace::new(None, None).into());
        matches!(timeout(WAIT, see(&mut mirror, base)).await, Ok(Ok(_)))
    }
}

//! How often each mirror was the one a client was sent to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::network::HostName;
use crate::presence::HostPosition;
use crate::select::Network;

/// A counter for each host of a network, by its position there.
///
/// A host keeps its counter from one snapshot to the next, so that a request that is still answered
/// from the old one is not lost.
#[derive(Debug, Clone, Default)]
pub struct Redirects(Box<[Arc<AtomicU64>]>);

impl Redirects {
    /// The counters of `network`, going on from those of the network before.
    pub fn following(network: &Network, previous: Option<(&Network, &Self)>) -> Self {
        let known: HashMap<&HostName, &Arc<AtomicU64>> =
            previous.map_or_else(HashMap::new, |(network, counts)| {
                let names = network.hosts().iter().map(|host| &host.name);
                names.zip(&counts.0).collect()
            });
        let counts = network.hosts().iter().map(|host| {
            known
                .get(&host.name)
                .map_or_else(Arc::default, |count| Arc::clone(count))
        });
        Self(counts.collect())
    }

    /// Counts a client sent to `host`.
    pub fn add(&self, host: HostPosition) {
        if let Some(count) = self.0.get(host.index()) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The counts, in the order of the hosts.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|count| count.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Host, HostId, NewHost};

    fn network(names: &[&str]) -> Network {
        let hosts = (1..).zip(names).map(|(number, name)| {
            let url = "https://m.example".parse().unwrap();
            Host::new(
                HostId(number),
                NewHost::new(name.parse().unwrap(), vec![url]),
            )
        });
        Network::new(hosts.collect())
    }

    #[test]
    fn a_host_keeps_its_count_wherever_it_stands() {
        let (old, new) = (network(&["a", "b"]), network(&["c", "b", "a"]));
        let before = Redirects::following(&old, None);
        before.add(HostPosition(1));
        let after = Redirects::following(&new, Some((&old, &before)));
        before.add(HostPosition(1));
        after.add(HostPosition(2));
        after.add(HostPosition(9));
        assert_eq!(after.counts().collect::<Vec<_>>(), [0, 2, 1]);
    }
}

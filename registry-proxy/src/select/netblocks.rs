//! Which netblocks contain an address, longest first.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::presence::HostPosition;

/// The netblocks of all hosts.
#[derive(Debug, Clone, Default)]
pub(super) struct Netblocks {
    v4: PrefixMap<Ipv4Net, Vec<HostPosition>>,
    v6: PrefixMap<Ipv6Net, Vec<HostPosition>>,
}

impl Netblocks {
    pub(super) fn insert(&mut self, netblock: IpNet, host: HostPosition) {
        let hosts = match netblock.trunc() {
            IpNet::V4(netblock) => self.v4.entry(netblock).or_default(),
            IpNet::V6(netblock) => self.v6.entry(netblock).or_default(),
        };
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }

    /// The hosts of every netblock that contains `address`, those of the longest first.
    pub(super) fn containing(&self, address: IpAddr) -> Vec<&[HostPosition]> {
        let mut found: Vec<&[HostPosition]> = match address.to_canonical() {
            IpAddr::V4(address) => self
                .v4
                .cover_values(&address.into())
                .map(Vec::as_slice)
                .collect(),
            IpAddr::V6(address) => self
                .v6
                .cover_values(&address.into())
                .map(Vec::as_slice)
                .collect(),
        };
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_comes_first() {
        let mut netblocks = Netblocks::default();
        for (host, netblock) in (0..).zip([
            "192.0.0.0/16",
            "192.0.2.0/24",
            "0.0.0.0/0",
            "2001:db8::/32",
            "192.0.2.9/24",
        ]) {
            netblocks.insert(netblock.parse().unwrap(), HostPosition(host));
        }
        let found = |address: &str| -> Vec<Vec<u32>> {
            let found = netblocks.containing(address.parse().unwrap());
            found
                .iter()
                .map(|hosts| hosts.iter().map(|host| host.0).collect())
                .collect()
        };
        assert_eq!(found("192.0.2.1"), [vec![1, 4], vec![0], vec![2]]);
        assert_eq!(found("::ffff:192.0.2.1"), found("192.0.2.1"));
        assert_eq!(found("2001:db8::1"), [vec![3]]);
        assert!(found("2001:db9::1").is_empty());
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(blocks in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..40), address: u32) {
            let mut netblocks = Netblocks::default();
            let blocks: Vec<Ipv4Net> = blocks
                .iter()
                .map(|(address, length)| Ipv4Net::new((*address).into(), *length).unwrap().trunc())
                .collect();
            for (host, block) in (0..).zip(&blocks) {
                netblocks.insert(IpNet::V4(*block), HostPosition(host));
            }
            let address = std::net::Ipv4Addr::from(address);
            let mut expected: Vec<(u8, u32)> =
                (0..).zip(&blocks).filter(|(_, b)| b.contains(&address)).map(|(h, b)| (b.prefix_len(), h)).collect();
            expected.sort_by_key(|(length, host)| (std::cmp::Reverse(*length), *host));
            let found: Vec<u32> = netblocks.containing(address.into()).concat().iter().map(|host| host.0).collect();
            prop_assert_eq!(found, expected.into_iter().map(|(_, host)| host).collect::<Vec<_>>());
        }
    }
}

//! What an operator knows better than geographic databases do: the longest netblock that says something
//! decides it, field by field.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::{Asn, Coordinates, CountryCode, Place};
use crate::config::GeoOverride;

/// All overrides.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    v4: PrefixMap<Ipv4Net, Known>,
    v6: PrefixMap<Ipv6Net, Known>,
}

/// What is known of one netblock.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    country: Option<CountryCode>,
    coordinates: Option<Coordinates>,
    asn: Option<Asn>,
}

impl Overrides {
    /// Arranges them; of two for the same netblock, the first that says something decides. Nothing if
    /// there are none.
    pub(super) fn new(given: &[GeoOverride]) -> Option<Self> {
        if given.is_empty() {
            return None;
        }
        let mut overrides = Self::default();
        for one in given {
            let known = match one.netblock.trunc() {
                IpNet::V4(netblock) => overrides.v4.entry(netblock).or_default(),
                IpNet::V6(netblock) => overrides.v6.entry(netblock).or_default(),
            };
            *known = known.or(Known {
                country: one.country,
                coordinates: one.coordinates,
                asn: one.asn,
            });
        }
        Some(overrides)
    }

    /// What is known of an address, which must not be a mapped one.
    pub(super) fn find(&self, address: IpAddr) -> Place {
        // The shortest comes first.
        let longer_wins = |found: Known, longer: &Known| longer.or(found);
        let nothing = Known::default();
        let known = match address {
            IpAddr::V4(address) => {
                let covering = self.v4.cover_values(&address.into());
                covering.fold(nothing, longer_wins)
            }
            IpAddr::V6(address) => {
                let covering = self.v6.cover_values(&address.into());
                covering.fold(nothing, longer_wins)
            }
        };
        Place {
            country: known.country,
            continent: None,
            asn: known.asn,
            coordinates: known.coordinates,
        }
    }
}

impl Known {
    /// What this says, and where it is silent the other.
    fn or(self, other: Self) -> Self {
        Self {
            country: self.country.or(other.country),
            coordinates: self.coordinates.or(other.coordinates),
            asn: self.asn.or(other.asn),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        /// In a world small enough that netblocks contain each other.
        fn any_override()(
            six: bool,
            bits in 0_u8..8,
            length in 0_u8..4,
            country in prop::option::of(prop::sample::select(vec!["DE", "FR"])),
            point in prop::option::of(0.0_f64..90.0),
            asn in prop::option::of(1_u32..9),
        ) -> GeoOverride {
            let address = address(six, bits << 5);
            GeoOverride {
                netblock: IpNet::new(address, length).unwrap(),
                country: country.map(|code| code.parse().unwrap()),
                coordinates: point.and_then(|it| Coordinates::new(it, it)),
                asn: asn.map(Asn),
            }
        }
    }

    fn address(six: bool, first: u8) -> IpAddr {
        if six {
            IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        } else {
            IpAddr::from([first, 0, 0, 1])
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(given in prop::collection::vec(any_override(), 1..12), six: bool, first: u8) {
            let address = address(six, first);
            let mut covering: Vec<&GeoOverride> =
                given.iter().filter(|one| one.netblock.contains(&address)).collect();
            covering.sort_by_key(|one| std::cmp::Reverse(one.netblock.prefix_len()));
            let found = Overrides::new(&given).unwrap().find(address);
            prop_assert_eq!(found.country, covering.iter().find_map(|one| one.country));
            prop_assert_eq!(found.coordinates, covering.iter().find_map(|one| one.coordinates));
            prop_assert_eq!(found.asn, covering.iter().find_map(|one| one.asn));
        }
    }
}

//! The order of mirrors for one client and one blob.

use std::fmt;
use std::net::IpAddr;

use oci_mirror::reference::RepoName;
use serde::Serialize;

use super::distance::{self, BANDS};
use super::network::Network;
use super::rank::{self, ClientKey};
use crate::geo::coordinates::Direction;
use crate::geo::{CountryCode, Place};
use crate::presence::{HostPosition, HostSet};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// Where the address is.
    pub place: Place,
}

/// How many mirrors to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Mirrors of other continents are added only until so many are listed.
    pub min_mirrors: usize,
    /// Never more than this.
    pub limit: usize,
}

/// How near a mirror is to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// One of its netblocks contains the client.
    Netblock,
    /// It is in the client's autonomous system or a declared peer of it.
    Asn,
    /// It is in the client's country.
    Country,
    /// It is on the client's continent.
    Continent,
    /// It is anywhere else, or at an unknown place.
    Elsewhere,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Netblock => "netblock",
            Self::Asn => "network",
            Self::Country => "country",
            Self::Continent => "continent",
            Self::Elsewhere => "elsewhere",
        })
    }
}

/// A mirror for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The position of the host.
    pub host: HostPosition,
    /// Why it stands where it does.
    pub tier: Tier,
}

impl Network {
    /// The mirrors for a client that asks for a blob of `repository`, best first.
    ///
    /// `verified` are the hosts that were seen to hold the blob; nobody else is ever named.
    ///
    /// ```
    /// use registry_proxy::geo::Place;
    /// use registry_proxy::network::{Host, HostId, NewHost};
    /// use registry_proxy::presence::HostSet;
    /// use registry_proxy::select::{Client, Network, Policy, Tier};
    /// let mut new = NewHost::new("m".parse().unwrap(), vec!["https://m.example".parse().unwrap()]);
    /// new.netblocks = vec!["192.0.2.0/24".parse().unwrap()];
    /// let network = Network::new(vec![Host::new(HostId(1), new)]);
    /// let client = Client { address: "192.0.2.7".parse().unwrap(), place: Place::default() };
    /// let policy = Policy { min_mirrors: 5, limit: 10 };
    /// let order = network.order(&client, &HostSet::full(1), &"fedora/fedora".parse().unwrap(), policy);
    /// assert_eq!(order[0].tier, Tier::Netblock);
    /// ```
    pub fn order(
        &self,
        client: &Client,
        verified: &HostSet,
        repository: &RepoName,
        policy: Policy,
    ) -> Vec<Choice> {
        let mut candidates = self.carrying(repository);
        candidates.intersect(verified);
        self.order_among(candidates, client, policy)
    }

    /// The same, among candidates already found to hold what is asked for.
    pub(super) fn order_among(
        &self,
        mut candidates: HostSet,
        client: &Client,
        policy: Policy,
    ) -> Vec<Choice> {
        candidates.intersect(&self.active);
        self.remove_unwilling(&mut candidates, client.place.country);
        let mut listing = Listing {
            network: self,
            client: ClientKey::of(client.address),
            limit: policy.limit,
            candidates,
            chosen: Vec::new(),
            scored: Vec::new(),
        };
        for netblock in self.netblocks.containing(client.address) {
            listing.take(netblock.iter().copied(), Tier::Netblock, policy.limit);
        }
        let asn = client.place.asn.and_then(|asn| self.asns.get(&asn));
        if let Some(hosts) = asn {
            listing.take(hosts.iter(), Tier::Asn, policy.limit);
        }
        listing.candidates.intersect(&self.public);
        let country = client
            .place
            .country
            .and_then(|country| self.countries.get(&country));
        if let Some(hosts) = country {
            listing.take(hosts.iter(), Tier::Country, policy.limit);
        }
        let direction = client.place.coordinates.map(Direction::from);
        if let Some(continent) = client.place.continent {
            let hosts = &self.continents[continent.index()];
            listing.take_by_distance(hosts, direction, Tier::Continent, policy.limit);
        }
        let everywhere = self.public.clone();
        listing.take_by_distance(&everywhere, direction, Tier::Elsewhere, policy.min_mirrors);
        listing.chosen
    }

    /// Removes the hosts that do not serve clients of `country`.
    fn remove_unwilling(&self, candidates: &mut HostSet, country: Option<CountryCode>) {
        let asked: Vec<HostPosition> = self.choosy.common(candidates).collect();
        for position in asked {
            if !self.serves(position, country) {
                candidates.remove(position);
            }
        }
    }

    /// Whether the host serves clients of `country`; an unknown country is on no list.
    pub(super) fn serves(&self, position: HostPosition, country: Option<CountryCode>) -> bool {
        let host = self.host(position);
        let listed = |list: &[CountryCode]| country.is_some_and(|country| list.contains(&country));
        (host.allowed_countries.is_empty() || listed(&host.allowed_countries))
            && !listed(&host.denied_countries)
    }
}

/// An order in the making.
struct Listing<'a> {
    network: &'a Network,
    client: ClientKey,
    limit: usize,
    /// Who may still be taken.
    candidates: HostSet,
    chosen: Vec<Choice>,
    /// Scratch space, kept for its memory.
    scored: Vec<(f64, HostPosition)>,
}

impl Listing<'_> {
    /// Appends those of `hosts` that are candidates, best first, until `until` are listed.
    fn take(&mut self, hosts: impl Iterator<Item = HostPosition>, tier: Tier, until: usize) {
        let room = until.min(self.limit).saturating_sub(self.chosen.len());
        if room == 0 {
            return;
        }
        self.scored.clear();
        for position in hosts.filter(|position| self.candidates.contains(*position)) {
            let host = &self.network.ranked[position.index()];
            self.scored
                .push((rank::score(self.client, host.key, host.weight), position));
        }
        let better = |a: &(f64, HostPosition), b: &(f64, HostPosition)| {
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
        };
        if self.scored.len() > room {
            self.scored.select_nth_unstable_by(room - 1, better);
            self.scored.truncate(room);
        }
        self.scored.sort_unstable_by(better);
        for &(_, host) in &self.scored {
            self.candidates.remove(host);
            self.chosen.push(Choice { host, tier });
        }
    }

    /// The same, one distance band after the other.
    fn take_by_distance(
        &mut self,
        hosts: &HostSet,
        client: Option<Direction>,
        tier: Tier,
        until: usize,
    ) {
        if self.chosen.len() >= until.min(self.limit) {
            return;
        }
        let Some(client) = client else {
            let hosts: Vec<HostPosition> = hosts.common(&self.candidates).collect();
            return self.take(hosts.into_iter(), tier, until);
        };
        let mut bands: [Vec<HostPosition>; BANDS] = std::array::from_fn(|_| Vec::new());
        for position in hosts.common(&self.candidates) {
            let host = self.network.ranked[position.index()].direction;
            bands[distance::band(Some(client), host)].push(position);
        }
        for band in bands {
            self.take(band.into_iter(), tier, until);
        }
    }
}

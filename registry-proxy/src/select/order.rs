//! The order of mirrors for one client and one blob.

use std::fmt;
use std::net::IpAddr;

use oci_mirror::reference::RepoName;
use serde::Serialize;

use super::distance;
use super::network::Network;
use super::rank::{self, ClientKey};
use crate::geo::coordinates::Direction;
use crate::geo::{Continent, Countries, CountryCode, Place};
use crate::network::Host;
use crate::presence::{HostPosition, HostSet};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// Where the address is.
    pub place: Place,
    /// The countries whose mirrors it asks for; none: those near its place.
    pub wanted: Countries,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The hosts that were seen to hold the blob; nobody else is ever named.
    pub verified: &'a HostSet,
    /// The repository it is part of; without one, what a host carries is not asked.
    pub repository: Option<&'a RepoName>,
    /// Its length, if there is a blob.
    pub size: Option<u64>,
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
    /// It is in the client's country, or in one that it asks for.
    Country,
    /// It is on the client's continent, or near everybody.
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
    /// The mirrors for a client and what it asks for, best first.
    ///
    /// ```
    /// use registry_proxy::geo::{Countries, Place};
    /// use registry_proxy::network::{Host, HostId, NewHost};
    /// use registry_proxy::presence::HostSet;
    /// use registry_proxy::select::{Client, Network, Policy, Tier, Wanted};
    /// let mut new = NewHost::new("m".parse().unwrap(), vec!["https://m.example".parse().unwrap()]);
    /// new.netblocks = vec!["192.0.2.0/24".parse().unwrap()];
    /// let network = Network::new(vec![Host::new(HostId(1), new)]);
    /// let address = "192.0.2.7".parse().unwrap();
    /// let client = Client { address, place: Place::default(), wanted: Countries::default() };
    /// let wanted = Wanted { verified: &HostSet::full(1), repository: None, size: None };
    /// let policy = Policy { min_mirrors: 5, limit: 10 };
    /// let order = network.order(&client, &wanted, policy);
    /// assert_eq!(order[0].tier, Tier::Netblock);
    /// ```
    pub fn order(&self, client: &Client, wanted: &Wanted<'_>, policy: Policy) -> Vec<Choice> {
        let place = &client.place;
        let mut listing = Listing {
            network: self,
            client: ClientKey::of(client.address),
            direction: place.coordinates.map(Direction::from),
            country: place.country,
            wanted,
            limit: policy.limit,
            chosen: Vec::with_capacity(policy.limit.min(FEW)),
            best: Vec::with_capacity(policy.limit.min(FEW)),
        };
        if client.wanted.is_empty() {
            listing.take_near(client.address, place);
        } else {
            listing.take_in(client.wanted);
        }
        let until = policy.min_mirrors;
        listing.take(&[&self.everywhere], Tier::Elsewhere, Within::Band, until);
        listing.chosen
    }

    /// Whether the host serves clients of `country`; an unknown country is on no list.
    pub(super) fn serves(&self, position: HostPosition, country: Option<CountryCode>) -> bool {
        if !self.choosy.contains(position) {
            return true;
        }
        let host = self.host(position);
        let listed = |list: &[CountryCode]| country.is_some_and(|country| list.contains(&country));
        (host.allowed_countries.is_empty() || listed(&host.allowed_countries))
            && !listed(&host.denied_countries)
    }

    /// Whether the host is to be asked for what is wanted, if it holds it.
    pub(super) fn suits(&self, position: HostPosition, wanted: &Wanted<'_>) -> bool {
        if !self.restricted.contains(position) {
            return true;
        }
        let host = self.host(position);
        let of_repository = wanted.repository.is_none_or(|repository| {
            host.carries(repository) && host.repository_failure(repository).is_none()
        });
        of_repository && wanted.size.is_none_or(|size| !is_beyond(host, size))
    }
}

/// Whether a blob is larger than any the host may be asked for.
pub(super) fn is_beyond(host: &Host, size: u64) -> bool {
    host.max_blob_size.is_some_and(|max| size > max)
}

/// Room for all that anybody but an explanation asks for.
const FEW: usize = 16;

/// What ranks the hosts of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// The score alone.
    Any,
    /// The distance band first.
    Band,
}

/// An order in the making.
struct Listing<'a> {
    network: &'a Network,
    client: ClientKey,
    direction: Option<Direction>,
    country: Option<CountryCode>,
    wanted: &'a Wanted<'a>,
    limit: usize,
    chosen: Vec<Choice>,
    /// The best of the tier so far, sorted; scratch space, kept for its memory.
    best: Vec<(usize, f64, HostPosition)>,
}

impl Listing<'_> {
    /// Appends what is near a place.
    fn take_near(&mut self, address: IpAddr, place: &Place) {
        let (network, limit) = (self.network, self.limit);
        for netblock in network.netblocks.containing(address) {
            self.take(&[netblock], Tier::Netblock, Within::Any, limit);
        }
        if let Some(hosts) = place.asn.and_then(|asn| network.asns.get(&asn)) {
            self.take(&[hosts], Tier::Asn, Within::Any, limit);
        }
        if let Some(country) = place.country {
            let hosts = &network.countries[country.index()];
            self.take(&[hosts], Tier::Country, Within::Any, limit);
        }
        let same = place
            .continent
            .map_or(&[][..], |continent| &network.continents[continent.index()]);
        let near = [same, &network.cdns];
        self.take(&near, Tier::Continent, Within::Band, limit);
    }

    /// Appends what is in the countries asked for, and then on their continents. Where the client is
    /// does not matter then.
    fn take_in(&mut self, countries: Countries) {
        let (network, limit) = (self.network, self.limit);
        self.direction = None;
        let mut near: [&[HostPosition]; Countries::MOST] = [&[]; _];
        for (list, country) in near.iter_mut().zip(countries.iter()) {
            *list = &network.countries[country.index()];
        }
        self.take(&near, Tier::Country, Within::Any, limit);
        let mut near: [&[HostPosition]; Continent::ALL.len() + 1] = [&[]; _];
        for continent in countries.iter().filter_map(CountryCode::continent) {
            near[continent.index()] = &network.continents[continent.index()];
        }
        near[Continent::ALL.len()] = &network.cdns;
        self.take(&near, Tier::Continent, Within::Any, limit);
    }

    /// Appends those of the lists that are candidates, best first, until `until` are listed. No host is
    /// on two of the lists.
    ///
    /// Every host is looked at, so what costs least and turns most away comes first, and what has to be
    /// asked of the host comes last.
    fn take(&mut self, lists: &[&[HostPosition]], tier: Tier, within: Within, until: usize) {
        let room = until.min(self.limit).saturating_sub(self.chosen.len());
        if room == 0 {
            return;
        }
        self.best.clear();
        for hosts in lists {
            self.look_at(hosts, within, room);
        }
        let taken = self.best.iter().map(|&(_, _, host)| Choice { host, tier });
        self.chosen.extend(taken);
    }

    /// Puts those of `hosts` that are candidates among the best of the tier, of which there are at most
    /// `room`.
    fn look_at(&mut self, hosts: &[HostPosition], within: Within, room: usize) {
        let (network, verified) = (self.network, self.wanted.verified);
        let (client, direction) = (self.client, self.direction);
        for &position in hosts {
            if !verified.contains(position) {
                continue;
            }
            let band = match within {
                Within::Any => 0,
                Within::Band => distance::band(direction, network.spots[position.index()]),
            };
            let host = &network.ranked[position.index()];
            let worst = self.best.last().filter(|_| self.best.len() == room);
            if let Some(&(worst_band, worst, _)) = worst
                && (band > worst_band
                    || band == worst_band
                        && rank::lower_bound(client, host.key, host.patience) > worst)
            {
                continue;
            }
            let score = rank::score(client, host.key, host.weight);
            let entry = (band, score, position);
            let at = self.best.partition_point(|known| better(known, &entry));
            if at < room && self.is_candidate(position) && self.is_best_of_its_server(position, at)
            {
                self.best.truncate(room - 1);
                self.best.insert(at, entry);
            }
        }
    }

    /// Whether a host that is verified may be listed, and is not yet.
    fn is_candidate(&self, position: HostPosition) -> bool {
        self.chosen
            .iter()
            .all(|choice| !self.network.servers.same(choice.host, position))
            && self.network.serves(position, self.country)
            && self.network.suits(position, self.wanted)
    }

    /// Whether a host that would be the `at`th of the best is before all other entries of its server;
    /// the one that was so far makes way.
    ///
    /// Nobody is missed by it: who was pushed out stood behind as many servers, and these only gain.
    fn is_best_of_its_server(&mut self, position: HostPosition, at: usize) -> bool {
        let servers = &self.network.servers;
        if servers.are_distinct() {
            return true;
        }
        let other = |&(_, _, known): &(usize, f64, HostPosition)| servers.same(known, position);
        match self.best.iter().position(other) {
            None => true,
            Some(known) if known < at => false,
            Some(known) => {
                self.best.remove(known);
                true
            }
        }
    }
}

fn better(a: &(usize, f64, HostPosition), b: &(usize, f64, HostPosition)) -> bool {
    let order = a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2));
    order.is_lt()
}

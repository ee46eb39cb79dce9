//! The order of mirrors for one client and one blob.

use std::fmt;
use std::net::IpAddr;

use oci_mirror::reference::RepoName;
use serde::Serialize;

use super::distance;
use super::network::Network;
use super::rank::{self, ClientKey};
use crate::geo::coordinates::Direction;
use crate::geo::{Countries, CountryCode, Place};
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
            repository: wanted.repository,
            verified: wanted.verified,
            limit: policy.limit,
            chosen: Vec::with_capacity(policy.limit.min(FEW)),
            best: Vec::with_capacity(policy.limit.min(FEW)),
        };
        for netblock in self.netblocks.containing(client.address) {
            listing.take(netblock, Tier::Netblock, Within::Any, policy.limit);
        }
        if let Some(hosts) = place.asn.and_then(|asn| self.asns.get(&asn)) {
            listing.take(hosts, Tier::Asn, Within::Any, policy.limit);
        }
        if let Some(country) = place.country {
            let hosts = &self.countries[country.index()];
            listing.take(hosts, Tier::Country, Within::Any, policy.limit);
        }
        if let Some(continent) = place.continent {
            let hosts = &self.continents[continent.index()];
            listing.take(hosts, Tier::Continent, Within::Band, policy.limit);
        }
        listing.take(
            &self.everywhere,
            Tier::Elsewhere,
            Within::Band,
            policy.min_mirrors,
        );
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
    repository: Option<&'a RepoName>,
    verified: &'a HostSet,
    limit: usize,
    chosen: Vec<Choice>,
    /// The best of the tier so far, sorted; scratch space, kept for its memory.
    best: Vec<(usize, f64, HostPosition)>,
}

impl Listing<'_> {
    /// Appends those of `hosts` that are candidates, best first, until `until` are listed.
    ///
    /// Every host is looked at, so what costs least and turns most away comes first, and what has to be
    /// asked of the host comes last.
    fn take(&mut self, hosts: &[HostPosition], tier: Tier, within: Within, until: usize) {
        let room = until.min(self.limit).saturating_sub(self.chosen.len());
        if room == 0 {
            return;
        }
        self.best.clear();
        for &position in hosts {
            if !self.verified.contains(position) {
                continue;
            }
            let band = match within {
                Within::Any => 0,
                Within::Band => {
                    distance::band(self.direction, self.network.directions[position.index()])
                }
            };
            let host = &self.network.ranked[position.index()];
            let worst = self.best.last().filter(|_| self.best.len() == room);
            if let Some(&(worst_band, worst, _)) = worst
                && (band > worst_band
                    || band == worst_band
                        && rank::lower_bound(self.client, host.key, host.patience) > worst)
            {
                continue;
            }
            let entry = (
                band,
                rank::score(self.client, host.key, host.weight),
                position,
            );
            let at = self.best.partition_point(|known| better(known, &entry));
            if at < room && self.is_candidate(position) {
                self.best.truncate(room - 1);
                self.best.insert(at, entry);
            }
        }
        let taken = self.best.iter().map(|&(_, _, host)| Choice { host, tier });
        self.chosen.extend(taken);
    }

    /// Whether a host that is verified may be listed, and is not yet.
    fn is_candidate(&self, position: HostPosition) -> bool {
        self.chosen.iter().all(|choice| choice.host != position)
            && self.network.serves(position, self.country)
            && self.network.carries(position, self.repository)
    }
}

fn better(a: &(usize, f64, HostPosition), b: &(usize, f64, HostPosition)) -> bool {
    let order = a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2));
    order.is_lt()
}

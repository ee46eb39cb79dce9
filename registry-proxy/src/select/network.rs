//! The hosts of a network, arranged so that a client's order is found without looking at all of them.

use std::collections::HashMap;

use super::distance::Spot;
use super::netblocks::Netblocks;
use super::rank::HostKey;
use super::servers::Servers;
use super::source::Source;
use crate::geo::coordinates::Direction;
use crate::geo::{Asn, Continent, CountryCode};
use crate::network::{Host, Inactive, Kind};
use crate::presence::{HostPosition, HostSet};

/// The hosts of a network and the tables derived from them.
///
/// The lists have only hosts in use, in the order of their positions.
#[derive(Debug)]
pub struct Network {
    pub(super) hosts: Vec<Host>,
    pub(super) standings: Vec<Result<(), Inactive>>,
    pub(super) ranked: Vec<Ranked>,
    pub(super) spots: Vec<Spot>,
    sources: Vec<Source>,
    pub(super) servers: Servers,
    /// Hosts that choose whom they serve by country.
    pub(super) choosy: HostSet,
    /// Hosts that are not to be asked for every blob: some carry only some repositories, others have a
    /// largest size.
    pub(super) restricted: HostSet,
    pub(super) netblocks: Netblocks,
    pub(super) asns: HashMap<Asn, Vec<HostPosition>>,
    /// By the index of the country; public servers only, as the two below.
    pub(super) countries: Vec<Vec<HostPosition>>,
    pub(super) continents: [Vec<HostPosition>; Continent::ALL.len()],
    pub(super) everywhere: Vec<HostPosition>,
    /// What is near everybody; on no other list but those of networks.
    pub(super) cdns: Vec<HostPosition>,
}

/// What ranking needs of a host, side by side in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    pub(super) key: HostKey,
    pub(super) weight: f64,
    /// The reciprocal of the weight.
    pub(super) patience: f64,
}

impl Network {
    /// Arranges `hosts`; the position of each is its [`HostPosition`].
    pub fn new(hosts: Vec<Host>) -> Self {
        let empty = || HostSet::new(hosts.len());
        let standings: Vec<_> = hosts.iter().map(Host::standing).collect();
        let sources: Vec<_> = hosts.iter().map(Source::from).collect();
        let mut network = Self {
            servers: Servers::of(&sources, &standings),
            standings,
            ranked: hosts.iter().map(ranked).collect(),
            spots: hosts.iter().map(spot).collect(),
            sources,
            choosy: empty(),
            restricted: empty(),
            netblocks: Netblocks::default(),
            asns: HashMap::new(),
            countries: vec![Vec::new(); CountryCode::COUNT],
            continents: std::array::from_fn(|_| Vec::new()),
            everywhere: Vec::new(),
            cdns: Vec::new(),
            hosts: Vec::new(),
        };
        for (position, host) in (0..).map(HostPosition).zip(&hosts) {
            if network.standings[position.index()].is_ok() {
                network.enter(position, host);
            }
        }
        network.hosts = hosts;
        network
    }

    /// Enters a host in use into the lists it belongs to.
    fn enter(&mut self, position: HostPosition, host: &Host) {
        if !(host.allowed_countries.is_empty() && host.denied_countries.is_empty()) {
            self.choosy.insert(position);
        }
        if is_restricted(host) {
            self.restricted.insert(position);
        }
        for netblock in &host.netblocks {
            self.netblocks.insert(*netblock, position);
        }
        for asn in host.asns.iter().chain(&host.peer_asns) {
            let hosts = self.asns.entry(*asn).or_default();
            if hosts.last() != Some(&position) {
                hosts.push(position);
            }
        }
        if host.is_private() {
            return;
        }
        if host.kind == Kind::Cdn {
            self.cdns.push(position);
            return;
        }
        self.everywhere.push(position);
        if let Some(country) = host.country {
            self.countries[country.index()].push(position);
            if let Some(continent) = country.continent() {
                self.continents[continent.index()].push(position);
            }
        }
    }

    /// All hosts, active or not, by position.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// One host.
    pub fn host(&self, position: HostPosition) -> &Host {
        &self.hosts[position.index()]
    }

    /// Where clients are sent for one host.
    pub fn source(&self, position: HostPosition) -> &Source {
        &self.sources[position.index()]
    }

    /// How many hosts are in use.
    pub fn active(&self) -> usize {
        self.standings.iter().filter(|it| it.is_ok()).count()
    }
}

fn is_restricted(host: &Host) -> bool {
    let carries_all = host.repositories.is_empty() && host.excluded_repositories.is_empty();
    !carries_all || host.max_blob_size.is_some() || !host.failing_repositories.is_empty()
}

fn spot(host: &Host) -> Spot {
    match (host.kind, host.coordinates) {
        (Kind::Cdn, _) => Spot::Everywhere,
        (Kind::Server, None) => Spot::Unknown,
        (Kind::Server, Some(point)) => Spot::At(Direction::from(point)),
    }
}

fn ranked(host: &Host) -> Ranked {
    let weight = host.weight();
    Ranked {
        key: HostKey::of(host.name.as_str()),
        weight,
        patience: 1.0 / weight,
    }
}

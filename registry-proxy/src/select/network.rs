//! The hosts of a network, arranged so that a client's order is found without looking at all of them.

use std::collections::HashMap;

use oci_mirror::reference::RepoName;

use super::netblocks::Netblocks;
use super::rank::HostKey;
use super::source::Source;
use crate::geo::coordinates::Direction;
use crate::geo::{Asn, Continent, CountryCode};
use crate::network::{Host, Inactive};
use crate::presence::{HostPosition, HostSet};

/// The hosts of a network and the tables derived from them.
///
/// The lists have only hosts in use, in the order of their positions.
#[derive(Debug)]
pub struct Network {
    pub(super) hosts: Vec<Host>,
    pub(super) standings: Vec<Result<(), Inactive>>,
    pub(super) ranked: Vec<Ranked>,
    pub(super) directions: Vec<Option<Direction>>,
    sources: Vec<Source>,
    /// Hosts that choose whom they serve by country.
    pub(super) choosy: HostSet,
    /// Hosts that carry only some repositories.
    pub(super) restricted: HostSet,
    pub(super) netblocks: Netblocks,
    pub(super) asns: HashMap<Asn, Vec<HostPosition>>,
    /// By the index of the country; public hosts only, as the two below.
    pub(super) countries: Vec<Vec<HostPosition>>,
    pub(super) continents: [Vec<HostPosition>; Continent::ALL.len()],
    pub(super) everywhere: Vec<HostPosition>,
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
        let mut network = Self {
            standings: hosts.iter().map(Host::standing).collect(),
            ranked: hosts.iter().map(ranked).collect(),
            directions: hosts
                .iter()
                .map(|host| host.coordinates.map(Direction::from))
                .collect(),
            sources: Source::of_all(&hosts),
            choosy: empty(),
            restricted: empty(),
            netblocks: Netblocks::default(),
            asns: HashMap::new(),
            countries: vec![Vec::new(); CountryCode::COUNT],
            continents: std::array::from_fn(|_| Vec::new()),
            everywhere: Vec::new(),
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
        if !(host.repositories.is_empty() && host.excluded_repositories.is_empty()) {
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

    /// Whether the host is meant to hold `repository`, or anything at all.
    pub(super) fn carries(&self, position: HostPosition, repository: Option<&RepoName>) -> bool {
        match repository {
            Some(repository) if self.restricted.contains(position) => {
                self.host(position).carries(repository)
            }
            _ => true,
        }
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

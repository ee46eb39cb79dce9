//! The hosts of a network, arranged so that a client's order is found without looking at all of them.

use std::collections::HashMap;

use oci_mirror::reference::RepoName;

use super::netblocks::Netblocks;
use super::rank::HostKey;
use crate::geo::coordinates::Direction;
use crate::geo::{Asn, Continent, CountryCode};
use crate::network::{Host, Inactive, RepoGlob};
use crate::presence::{HostPosition, HostSet};

/// The hosts of a network and the tables derived from them.
#[derive(Debug)]
pub struct Network {
    pub(super) hosts: Vec<Host>,
    pub(super) standings: Vec<Result<(), Inactive>>,
    pub(super) ranked: Vec<Ranked>,
    /// Hosts in use.
    pub(super) active: HostSet,
    /// Hosts in use that everybody may be sent to.
    pub(super) public: HostSet,
    /// Hosts that choose whom they serve by country.
    pub(super) choosy: HostSet,
    pub(super) netblocks: Netblocks,
    pub(super) asns: HashMap<Asn, HostSet>,
    pub(super) countries: HashMap<CountryCode, HostSet>,
    pub(super) continents: [HostSet; Continent::ALL.len()],
    /// Hosts that carry every repository.
    unrestricted: HostSet,
    /// Hosts that carry some, grouped by what they say, since many say the same.
    restricted: Vec<(Box<[RepoGlob]>, HostSet)>,
}

/// What ranking needs of a host, side by side in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    pub(super) key: HostKey,
    pub(super) weight: f64,
    pub(super) direction: Option<Direction>,
}

impl Network {
    /// Arranges `hosts`; the position of each is its [`HostPosition`].
    pub fn new(hosts: Vec<Host>) -> Self {
        let count = hosts.len();
        let empty = || HostSet::new(count);
        let mut network = Self {
            standings: hosts.iter().map(Host::standing).collect(),
            ranked: hosts.iter().map(ranked).collect(),
            active: empty(),
            public: empty(),
            choosy: empty(),
            netblocks: Netblocks::default(),
            asns: HashMap::new(),
            countries: HashMap::new(),
            continents: std::array::from_fn(|_| empty()),
            unrestricted: empty(),
            restricted: Vec::new(),
            hosts: Vec::new(),
        };
        let mut restricted: HashMap<Box<[RepoGlob]>, HostSet> = HashMap::new();
        for (position, host) in (0..).map(HostPosition).zip(&hosts) {
            if network.standings[position.index()].is_ok() {
                network.active.insert(position);
                if !host.is_private() {
                    network.public.insert(position);
                }
            }
            if !(host.allowed_countries.is_empty() && host.denied_countries.is_empty()) {
                network.choosy.insert(position);
            }
            for netblock in &host.netblocks {
                network.netblocks.insert(*netblock, position);
            }
            for asn in host.asns.iter().chain(&host.peer_asns) {
                network
                    .asns
                    .entry(*asn)
                    .or_insert_with(empty)
                    .insert(position);
            }
            if let Some(country) = host.country {
                network
                    .countries
                    .entry(country)
                    .or_insert_with(empty)
                    .insert(position);
                if let Some(continent) = country.continent() {
                    network.continents[continent.index()].insert(position);
                }
            }
            if host.repositories.is_empty() {
                network.unrestricted.insert(position);
            } else {
                let mut globs = host.repositories.clone();
                globs.sort();
                restricted
                    .entry(globs.into())
                    .or_insert_with(empty)
                    .insert(position);
            }
        }
        network.restricted = restricted.into_iter().collect();
        network.hosts = hosts;
        network
    }

    /// All hosts, active or not, by position.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// One host.
    pub fn host(&self, position: HostPosition) -> &Host {
        &self.hosts[position.index()]
    }

    /// How many hosts are in use.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// The hosts meant to hold `repository`.
    pub(super) fn carrying(&self, repository: &RepoName) -> HostSet {
        let mut carrying = self.unrestricted.clone();
        for (globs, hosts) in &self.restricted {
            if globs.iter().any(|glob| glob.matches(repository)) {
                carrying.union(hosts);
            }
        }
        carrying
    }
}

fn ranked(host: &Host) -> Ranked {
    Ranked {
        key: HostKey::of(host.name.as_str()),
        weight: host.weight(),
        direction: host.coordinates.map(Direction::from),
    }
}

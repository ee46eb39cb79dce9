//! Why each mirror is, or is not, in a client's list.

use std::fmt;

use serde::{Serialize, Serializer};

use super::network::Network;
use super::order::{self, Choice, Client, Policy, Tier, Wanted};
use crate::geo::{Continent, CountryCode};
use crate::network::{Host, HostName, Inactive, Kind};
use crate::presence::{HostPosition, HostSet};

/// What became of one host for one client.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The position of the host.
    pub host: HostPosition,
    /// Its rank in the list, 1 being the best, or why it is not in it.
    pub rank: Result<usize, Reason>,
    /// How near it is, listed or not; `None` for a private host outside its networks.
    pub tier: Option<Tier>,
    /// Its share of the load against others of the same tier.
    pub weight: f64,
    /// How far it is from the client, when both positions are known.
    pub distance_km: Option<f64>,
}

/// Why a host is not in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// It is not in use.
    Inactive {
        /// What speaks against it.
        #[serde(serialize_with = "word")]
        inactive: Inactive,
    },
    /// It is not meant to hold the repository.
    OtherRepositories,
    /// It could not be crawled for the repository.
    RepositoryFailing {
        /// What was wrong.
        failure: String,
    },
    /// The blob is larger than any it may be asked for.
    TooLarge {
        /// The largest.
        max: u64,
    },
    /// It was not seen to hold the blob.
    Unverified,
    /// It is private, and the client is in none of its networks or names countries.
    Private,
    /// It does not serve the client's country.
    Country {
        /// The country, if it is known.
        client: Option<CountryCode>,
    },
    /// It is another entry of a server that is listed.
    SameServer {
        /// The one that is.
        listed: HostName,
    },
    /// It is elsewhere, and enough nearer mirrors are listed.
    EnoughNearer,
    /// The list is full.
    ListFull,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inactive { inactive } => inactive.fmt(f),
            Self::OtherRepositories => f.write_str("does not carry this repository"),
            Self::RepositoryFailing { failure } => {
                write!(f, "not used for this repository: {failure}")
            }
            Self::TooLarge { max } => write!(f, "serves no blobs of more than {max} bytes"),
            Self::Unverified => f.write_str("not verified to hold this blob"),
            Self::Private => {
                f.write_str("private: only for clients of its networks that name no country")
            }
            Self::Country {
                client: Some(country),
            } => write!(f, "does not serve clients in {country}"),
            Self::Country { client: None } => {
                f.write_str("serves only certain countries; the client's is unknown")
            }
            Self::EnoughNearer => f.write_str("enough nearer mirrors"),
            Self::SameServer { listed } => write!(f, "the same server as {listed}"),
            Self::ListFull => f.write_str("the list is full"),
        }
    }
}

/// What speaks against a host as one word; the rest is said in words.
fn word<S: Serializer>(inactive: &Inactive, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match inactive {
        Inactive::SiteDisabled { .. } => "site-disabled",
        Inactive::DisabledByAdmin { .. } => "disabled-by-admin",
        Inactive::SiteDisabledBySite { .. } => "site-disabled-by-site",
        Inactive::DisabledBySite { .. } => "disabled-by-site",
        Inactive::Quarantined { .. } => "quarantined",
        Inactive::Failing { .. } => "failing",
        Inactive::NoHttpUrl => "no-http-url",
    })
}

impl Network {
    /// Says of every host where it stands for a client, or why it does not; listed hosts first.
    pub fn explain(
        &self,
        client: &Client,
        wanted: &Wanted<'_>,
        policy: Policy,
    ) -> Vec<Explanation> {
        let order = self.order(client, wanted, policy);
        let mut others = HostSet::full(self.hosts.len());
        for choice in &order {
            others.remove(choice.host);
        }

        let explain = |host, tier, rank| Explanation {
            host,
            rank,
            tier,
            weight: self.host(host).weight(),
            distance_km: self.distance_km(host, client),
        };
        let listed = (1..)
            .zip(&order)
            .map(|(rank, choice)| explain(choice.host, Some(choice.tier), Ok(rank)));
        let left_out = others.iter().map(|host| {
            let reason = self
                .objection(host, client, wanted)
                .unwrap_or_else(|| self.too_many(host, client, &order));
            explain(host, self.tier(host, client), Err(reason))
        });
        listed.chain(left_out).collect()
    }

    /// Why a host is no candidate, whoever else is.
    fn objection(
        &self,
        position: HostPosition,
        client: &Client,
        wanted: &Wanted<'_>,
    ) -> Option<Reason> {
        let host = self.host(position);
        if let Err(inactive) = &self.standings[position.index()] {
            let inactive = inactive.clone();
            return Some(Reason::Inactive { inactive });
        }
        if let Some(repository) = wanted.repository {
            if !host.carries(repository) {
                return Some(Reason::OtherRepositories);
            }
            if let Some(failure) = host.repository_failure(repository) {
                let failure = failure.to_owned();
                return Some(Reason::RepositoryFailing { failure });
            }
        }
        if let (Some(max), Some(size)) = (host.max_blob_size, wanted.size)
            && order::is_beyond(host, size)
        {
            return Some(Reason::TooLarge { max });
        }
        if !wanted.verified.contains(position) {
            return Some(Reason::Unverified);
        }
        let country = client.place.country;
        if !self.serves(position, country) {
            return Some(Reason::Country { client: country });
        }
        self.tier(position, client)
            .is_none()
            .then_some(Reason::Private)
    }

    /// Why a candidate is not in `order`.
    fn too_many(&self, position: HostPosition, client: &Client, order: &[Choice]) -> Reason {
        let same = |choice: &&Choice| self.servers.same(choice.host, position);
        match order.iter().find(same) {
            Some(choice) => Reason::SameServer {
                listed: self.host(choice.host).name.clone(),
            },
            None if self.tier(position, client) == Some(Tier::Elsewhere) => Reason::EnoughNearer,
            None => Reason::ListFull,
        }
    }

    /// The tier a host is in for a client; `None` for a private host outside its networks.
    pub fn tier(&self, position: HostPosition, client: &Client) -> Option<Tier> {
        let host = self.host(position);
        if client.wanted.is_empty()
            && let Some(tier) = own_tier(host, client)
        {
            return Some(tier);
        }
        if host.is_private() {
            return None;
        }
        let is_asked = !client.wanted.is_empty();
        let is_near = |country: CountryCode| {
            if is_asked {
                client.wanted.contains(country)
            } else {
                client.place.country == Some(country)
            }
        };
        let is_on_continent = |continent: Continent| {
            if is_asked {
                let mut continents = client.wanted.iter().map(CountryCode::continent);
                continents.any(|it| it == Some(continent))
            } else {
                client.place.continent == Some(continent)
            }
        };
        let continent = host.country.and_then(CountryCode::continent);
        Some(match host.kind {
            Kind::Cdn => Tier::Continent,
            Kind::Server if host.country.is_some_and(is_near) => Tier::Country,
            Kind::Server if continent.is_some_and(is_on_continent) => Tier::Continent,
            Kind::Server => Tier::Elsewhere,
        })
    }

    fn distance_km(&self, position: HostPosition, client: &Client) -> Option<f64> {
        Some(
            client
                .place
                .coordinates?
                .distance_km(self.host(position).coordinates?),
        )
    }
}

/// The tier a host is in for the clients of its own networks.
fn own_tier(host: &Host, client: &Client) -> Option<Tier> {
    let address = client.address.to_canonical();
    let mut netblocks = host.netblocks.iter();
    if netblocks.any(|netblock| netblock.contains(&address)) {
        return Some(Tier::Netblock);
    }
    let asn = client.place.asn?;
    let is_own = host.asns.contains(&asn) || host.peer_asns.contains(&asn);
    is_own.then_some(Tier::Asn)
}

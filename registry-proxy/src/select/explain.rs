//! Why each mirror is, or is not, in a client's list.

use std::fmt;

use serde::Serialize;

use super::network::Network;
use super::order::{Client, Policy, Tier, Wanted};
use crate::geo::CountryCode;
use crate::network::Inactive;
use crate::presence::{HostPosition, HostSet};

/// What became of one host for one client.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The position of the host.
    pub host: HostPosition,
    /// Where it stands in the list, or why it is not in it.
    pub taken: Result<Taken, Reason>,
    /// Its share of the load against others of the same tier.
    pub weight: f64,
    /// How far it is from the client, when both positions are known.
    pub distance_km: Option<f64>,
}

/// A host's place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// 1 is the best.
    pub rank: usize,
    /// How near it is.
    pub tier: Tier,
}

/// Why a host is not in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// It is not in use.
    Inactive(Inactive),
    /// It is not meant to hold the repository.
    OtherRepositories,
    /// It was not seen to hold the blob.
    Unverified,
    /// It is private, and the client is in none of its networks.
    Private,
    /// It does not serve the client's country.
    Country {
        /// The country, if it is known.
        client: Option<CountryCode>,
    },
    /// It is elsewhere, and enough nearer mirrors are listed.
    EnoughNearer,
    /// The list is full.
    ListFull {
        /// Where it would have stood.
        tier: Tier,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inactive(inactive) => inactive.fmt(f),
            Self::OtherRepositories => f.write_str("does not carry this repository"),
            Self::Unverified => f.write_str("not verified to hold this blob"),
            Self::Private => f.write_str("private, and the client is in none of its networks"),
            Self::Country {
                client: Some(country),
            } => write!(f, "does not serve clients in {country}"),
            Self::Country { client: None } => {
                f.write_str("serves only certain countries; the client's is unknown")
            }
            Self::EnoughNearer => f.write_str("enough nearer mirrors"),
            Self::ListFull { tier } => write!(f, "the list is full (would be tier {tier})"),
        }
    }
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

        let taken = (1..).zip(&order).map(|(rank, choice)| {
            (
                choice.host,
                Ok(Taken {
                    rank,
                    tier: choice.tier,
                }),
            )
        });
        let left_out = others.iter().map(|position| {
            let reason = match &self.standings[position.index()] {
                Err(inactive) => Reason::Inactive(inactive.clone()),
                Ok(()) if !self.carries(position, wanted.repository) => Reason::OtherRepositories,
                Ok(()) if !wanted.verified.contains(position) => Reason::Unverified,
                Ok(()) if !self.serves(position, client.place.country) => Reason::Country {
                    client: client.place.country,
                },
                Ok(()) => match self.tier(position, client) {
                    None => Reason::Private,
                    Some(Tier::Elsewhere) => Reason::EnoughNearer,
                    Some(tier) => Reason::ListFull { tier },
                },
            };
            (position, Err(reason))
        });
        let explain = |(host, taken): (HostPosition, Result<Taken, Reason>)| Explanation {
            host,
            taken,
            weight: self.host(host).weight(),
            distance_km: self.distance_km(host, client),
        };
        taken.chain(left_out).map(explain).collect()
    }

    /// The tier a host is in for a client; `None` for a private host outside its networks.
    pub fn tier(&self, position: HostPosition, client: &Client) -> Option<Tier> {
        let host = self.host(position);
        let (address, place) = (client.address.to_canonical(), &client.place);
        let same_asn = |asn| host.asns.contains(&asn) || host.peer_asns.contains(&asn);
        if host
            .netblocks
            .iter()
            .any(|netblock| netblock.contains(&address))
        {
            Some(Tier::Netblock)
        } else if place.asn.is_some_and(same_asn) {
            Some(Tier::Asn)
        } else if host.is_private() {
            None
        } else if host.country.is_some() && host.country == place.country {
            Some(Tier::Country)
        } else {
            let continent = host.country.and_then(CountryCode::continent);
            let same = continent.is_some() && continent == place.continent;
            Some(if same {
                Tier::Continent
            } else {
                Tier::Elsewhere
            })
        }
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

//! What is told of the mirrors: to a client that asks for its list, and to an operator who asks for a
//! client's. Both are told from the same [explanations](Explanation), so they cannot disagree.

use std::net::IpAddr;

use oci_mirror::tree::TreePath;
use serde::Serialize;

use super::explain::{Explanation, Reason};
use super::network::Network;
use super::order::{Client, Tier};
use crate::geo::{Asn, Countries, CountryCode};
use crate::network::Host;

/// For whom mirrors were chosen.
#[derive(Debug, Serialize)]
pub struct Asker {
    /// The address; `None` if it is unknown.
    pub address: Option<IpAddr>,
    /// Where it is; what countries a mirror serves is asked of this one.
    pub country: Option<CountryCode>,
    /// Whose network it is in.
    pub asn: Option<Asn>,
    /// The countries it asks for, if it does.
    #[serde(skip_serializing_if = "Countries::is_empty")]
    pub wanted: Countries,
}

/// What is told of all mirrors.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Told {
    /// Best first.
    pub mirrors: Vec<Listed>,
    /// Those the client is not sent to.
    pub left_out: Vec<LeftOut>,
}

/// A mirror the client is sent to.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// 1 is the best.
    pub rank: usize,
    /// What is said of every mirror.
    #[serde(flatten)]
    pub about: About,
    /// Where it has what is wanted.
    pub url: String,
}

/// A mirror the client is not sent to.
#[derive(Debug, Serialize)]
pub struct LeftOut {
    /// What is said of every mirror.
    #[serde(flatten)]
    pub about: About,
    /// The reason in words.
    pub why: String,
    /// The reason.
    #[serde(flatten)]
    pub reason: Reason,
}

/// What is said of every mirror.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct About {
    /// Its name.
    pub name: String,
    /// How near it is; `None` for a private one that is for others.
    pub tier: Option<Tier>,
    /// Where it is.
    pub country: Option<CountryCode>,
    /// Its share of the load against others of the same tier.
    pub weight: f64,
    /// Whole kilometres.
    pub distance_km: Option<f64>,
}

impl Asker {
    /// A client whose address is known.
    pub fn of(client: &Client) -> Self {
        Self {
            address: Some(client.address),
            country: client.place.country,
            asn: client.place.asn,
            wanted: client.wanted,
        }
    }
}

impl Told {
    /// Tells what was explained; mirrors have the file at `path`, or are named as a whole without one.
    pub fn new(
        network: &Network,
        explained: impl IntoIterator<Item = Explanation>,
        path: Option<&TreePath>,
    ) -> Self {
        let mut told = Self::default();
        for explanation in explained {
            let host = network.host(explanation.host);
            let about = About {
                name: host.name.to_string(),
                tier: explanation.tier,
                country: host.country,
                weight: explanation.weight,
                distance_km: explanation.distance_km.map(f64::round),
            };
            match explanation.rank {
                Ok(rank) => told.mirrors.push(Listed {
                    rank,
                    about,
                    url: url(host, path),
                }),
                Err(reason) => told.left_out.push(LeftOut {
                    about,
                    why: reason.to_string(),
                    reason,
                }),
            }
        }
        told
    }
}

/// Whoever is listed has one: a host without is not in use.
fn url(host: &Host, path: Option<&TreePath>) -> String {
    host.download_url()
        .map(|url| path.map_or_else(|| url.to_string(), |path| url.join(path)))
        .unwrap_or_default()
}

impl About {
    /// The tier in words, or a dash.
    pub fn tier(&self) -> String {
        or_dash(self.tier)
    }

    /// The country, or a dash.
    pub fn country(&self) -> String {
        or_dash(self.country)
    }

    /// The distance, or a dash.
    pub fn kilometres(&self) -> String {
        or_dash(self.distance_km)
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

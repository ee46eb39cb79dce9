//! `mirror add`.

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;
use tracing::warn;

use crate::config::Config;
use crate::geo::{Asn, Coordinates, CountryCode, Geo, Sources};
use crate::network::address::is_public;
use crate::network::{Bandwidth, BaseUrl, HostName, NewHost, RepoGlob, Visibility};

/// What is said of a mirror.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to call it: 1 to 64 letters, digits, `.`, `_`, `-`
    name: HostName,
    /// Where it serves the tree (http, https or rsync); may be given several times
    #[arg(long = "url", value_name = "URL", required = true)]
    urls: Vec<BaseUrl>,
    /// The country it is in [default: where its address is]
    #[arg(long, value_name = "CC")]
    country: Option<CountryCode>,
    /// What it can send, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t)]
    bandwidth: Bandwidth,
    /// A network whose clients it serves first; may be given several times
    #[arg(long = "netblock", value_name = "CIDR")]
    netblocks: Vec<IpNet>,
    /// An autonomous system it is in; may be given several times
    #[arg(long = "asn", value_name = "N")]
    asns: Vec<Asn>,
    /// An autonomous system it is well connected to; may be given several times
    #[arg(long = "peer-asn", value_name = "N")]
    peer_asns: Vec<Asn>,
    /// Only for clients of its netblocks and autonomous systems
    #[arg(long)]
    private: bool,
    /// Which repositories it carries (`*` within a component, `**` across) [default: all]
    #[arg(long = "repositories", value_name = "GLOB")]
    repositories: Vec<RepoGlob>,
    /// Where exactly it is
    #[arg(long, value_name = "LAT,LONG", allow_hyphen_values = true)]
    latlong: Option<Coordinates>,
}

impl Arguments {
    /// The host to enter; its country is looked up if it was not given.
    pub(super) async fn into_host(self, config: &Config) -> anyhow::Result<NewHost> {
        let country = match self.country {
            Some(country) => Some(country),
            None => locate(&self.urls, config).await?,
        };
        if country.is_none() {
            warn!(
                "the country of {} is not known; give --country to have its neighbours sent there",
                self.name
            );
        }
        let visibility = if self.private {
            Visibility::Private
        } else {
            Visibility::Public
        };
        if self.private && self.netblocks.is_empty() && self.asns.is_empty() {
            warn!(
                "{} is private and has no netblock or AS number: nobody will be sent there",
                self.name
            );
        }
        Ok(NewHost {
            country,
            coordinates: self.latlong,
            bandwidth: self.bandwidth,
            netblocks: self.netblocks,
            asns: self.asns,
            peer_asns: self.peer_asns,
            visibility,
            repositories: self.repositories,
            ..NewHost::new(self.name, self.urls)
        })
    }
}

/// The country of the first public address of the URLs.
async fn locate(urls: &[BaseUrl], config: &Config) -> anyhow::Result<Option<CountryCode>> {
    let Some((host, port)) = urls.iter().find_map(BaseUrl::host_and_port) else {
        return Ok(None);
    };
    let Ok(found) = tokio::net::lookup_host((host.as_str(), port)).await else {
        return Ok(None);
    };
    let addresses: Vec<IpAddr> = found
        .map(|address| address.ip())
        .filter(|address| is_public(*address))
        .collect();
    if addresses.is_empty() {
        return Ok(None);
    }
    let sources = Sources::from(config);
    let geo = tokio::task::spawn_blocking(move || Geo::open(&sources)).await??;
    Ok(addresses
        .into_iter()
        .find_map(|address| geo.locate(address).country))
}

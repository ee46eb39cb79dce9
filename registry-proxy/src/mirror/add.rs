//! `mirror add`.

use std::net::IpAddr;

use clap::Args;
use tracing::warn;

use super::fields::Fields;
use crate::config::Config;
use crate::geo::{CountryCode, Geo, Sources};
use crate::network::address::is_public;
use crate::network::{BaseUrl, HostName, Kind, NewHost, Visibility};

/// What is said of a mirror.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to call it: 1 to 64 letters, digits, `.`, `_`, `-`
    name: HostName,
    /// Where it serves the tree (http, https or rsync); may be given several times
    #[arg(long = "url", value_name = "URL", required = true)]
    urls: Vec<BaseUrl>,
    #[command(flatten)]
    fields: Fields,
}

impl Arguments {
    /// The host to enter; its country is looked up if it was not given.
    pub(super) async fn into_host(self, config: &Config) -> anyhow::Result<NewHost> {
        let mut host = NewHost::new(self.name, self.urls);
        self.fields.apply(&mut host);
        let mut host = host.accepted()?;
        if host.country.is_none() && host.kind == Kind::Server {
            host.country = locate(&host.urls, config).await?;
            if host.country.is_none() {
                warn!(
                    "the country of {} is not known; give --country to have its neighbours sent there",
                    host.name
                );
            }
        }
        let is_private = host.visibility == Visibility::Private;
        if is_private && host.netblocks.is_empty() && host.asns.is_empty() {
            warn!(
                "{} is private and has no netblock or AS number: nobody will be sent there",
                host.name
            );
        }
        Ok(host)
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

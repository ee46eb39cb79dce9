//! A made-up network: mirrors of all bandwidths in 68 countries, a fifth of them behind the others.

use oci_mirror::tree::Catalog;
use registry_proxy::network::{Bandwidth, Host, HostId, NewHost};
use registry_proxy::presence::{Builder, HostPosition, Presence};
use registry_proxy::select::Network;

use super::tree::Shape;

/// Where Fedora's mirrors are, mostly.
const COUNTRIES: &str = "USDEFRGBCNJPBRCARUPLNLSEITESATCHCZAUTWINDKNOFIUAROGRHUPTBEIEBGTRZAKRSGHKIDTHVNMYNZ\
                         ARCLCOECMXCRUYKZGEAMAZIRILLVLTEESISKHRRSMDBYLUISCYKEMUBDPHNP";

/// The mirrors.
pub(crate) fn network(shape: &Shape) -> anyhow::Result<Network> {
    let host = |number: u32| -> anyhow::Result<Host> {
        let url = format!("https://mirror{number}.example.org/pub/containers");
        let mut new = NewHost::new(format!("mirror{number}").parse()?, vec![url.parse()?]);
        // The first countries have many mirrors, the last have few, and each has one.
        let countries = u32::try_from(COUNTRIES.len() / 2)?;
        let country = if number < countries {
            number
        } else {
            let spread = number.wrapping_mul(2_654_435_761) >> 16;
            (spread % countries) * (spread / countries % countries) / countries
        };
        let at = country as usize * 2;
        new.country = Some(COUNTRIES[at..at + 2].parse()?);
        new.bandwidth = Bandwidth::from_mbit(100 << (number % 8)).unwrap_or_default();
        if number.is_multiple_of(6) {
            new.netblocks = vec![format!("{}.{}.0.0/16", 60 + number % 100, number % 250).parse()?];
        }
        Ok(Host::new(HostId(number), new))
    };
    let hosts: anyhow::Result<Vec<Host>> = (0..shape.mirrors).map(host).collect();
    Ok(Network::new(hosts?))
}

/// Which mirror holds what: four of five everything, the others what was there until some moment.
pub(crate) fn presence(shape: &Shape, catalog: &Catalog) -> Presence {
    let count = u32::try_from(catalog.blobs().len()).unwrap_or(u32::MAX);
    let mut presence = Builder::new(catalog.blobs().len(), shape.mirrors as usize);
    for host in 0..shape.mirrors {
        let held = if host % 5 == 4 {
            count / shape.mirrors * (host + 1)
        } else {
            count
        };
        let blobs = (0..held).map(oci_mirror::tree::catalog::BlobId);
        presence.add(HostPosition(host), blobs);
    }
    presence.finish()
}

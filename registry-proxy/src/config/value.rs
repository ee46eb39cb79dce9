//! How single values of the configuration are written.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use oci_mirror::excerpt::Excerpt;
use oci_mirror::http::server::ListenAddress;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// At least one address.
pub(super) fn some_addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ListenAddress>, D::Error> {
    let addresses = Vec::deserialize(deserializer)?;
    if addresses.is_empty() {
        return Err(D::Error::custom("there must be an address to listen on"));
    }
    Ok(addresses)
}

/// Networks, a bare address being a network of one.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: &String| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| {
                D::Error::custom(format!(
                    "{} is neither a network (ADDR/BITS) nor an address",
                    Excerpt(text)
                ))
            })
    };
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(network)
        .collect()
}

/// Reads `90s`, `2m`, `1h 30m`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.parse::<SignedDuration>().map_err(D::Error::custom)?;
    match Duration::try_from(parsed).map_err(D::Error::custom)? {
        Duration::ZERO => Err(D::Error::custom("it must be longer than nothing")),
        // Beyond it, adding to a time of day would overflow.
        duration if duration > LONGEST => Err(D::Error::custom("it must be at most 30 days")),
        duration => Ok(duration),
    }
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

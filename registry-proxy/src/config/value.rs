//! How single values of the configuration are written.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use oci_mirror::excerpt::Excerpt;
use oci_mirror::http::server::ListenAddress;
use oci_mirror::registry::rate::Rate;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use url::Url;

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
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| to_network(text)).collect()
}

/// One of them.
pub(super) fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    to_network(&String::deserialize(deserializer)?)
}

fn to_network<E: serde::de::Error>(text: &str) -> Result<IpNet, E> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            E::custom(format!(
                "{} is neither a network (ADDR/BITS) nor an address",
                Excerpt(text)
            ))
        })
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

/// Reads `2m`, and `0s` for never; at most an hour.
pub(super) fn short_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.parse::<SignedDuration>().map_err(D::Error::custom)?;
    match Duration::try_from(parsed).map_err(D::Error::custom)? {
        duration if duration > HOUR => Err(D::Error::custom("it must be at most an hour")),
        duration => Ok(duration),
    }
}

/// Reads `50/s`, and `none` for no bound.
pub(super) fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    match &*String::deserialize(deserializer)? {
        "none" => Ok(None),
        text => text.parse().map(Some).map_err(D::Error::custom),
    }
}

/// An http or https URL, or nothing for none.
pub(super) fn web_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(url)),
        _ => Err(D::Error::custom(format!(
            "{} is no http or https URL",
            Excerpt(&text)
        ))),
    }
}

const HOUR: Duration = Duration::from_secs(3600);

const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

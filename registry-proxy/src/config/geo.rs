//! What an operator knows better than geographic databases do.

use ipnet::IpNet;
use serde::Deserialize;

use super::value::network;
use crate::geo::{Asn, Coordinates, CountryCode};

/// Where the addresses of one network are, whatever the databases say; what is not given is theirs to say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GeoOverride {
    /// Which network.
    #[serde(deserialize_with = "network")]
    pub netblock: IpNet,
    /// The country it is in.
    #[serde(default)]
    pub country: Option<CountryCode>,
    /// Where exactly.
    #[serde(default)]
    pub coordinates: Option<Coordinates>,
    /// Whose network it is.
    #[serde(default)]
    pub asn: Option<Asn>,
}

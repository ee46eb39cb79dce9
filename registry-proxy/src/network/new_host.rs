//! A mirror as it is entered, imported and exported.

use ipnet::IpNet;
use oci_mirror::size::ByteSize;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    Bandwidth, BaseUrl, Host, HostName, Kind, Reason, RepoGlob, SiteName, Switch, Visibility,
};
use crate::geo::{Asn, Coordinates, CountryCode};

/// What somebody says about a mirror when entering it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NewHost {
    /// Its name, unique in the network.
    pub name: HostName,
    /// Where it serves the tree. The first http or https URL is the one that is crawled and that
    /// clients are sent to.
    pub urls: Vec<BaseUrl>,
    /// The country it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<CountryCode>,
    /// Where exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<Coordinates>,
    /// What it can send.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// Networks whose clients it serves first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub netblocks: Vec<IpNet>,
    /// Autonomous systems it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asns: Vec<Asn>,
    /// Autonomous systems it is well connected to, treated as its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peer_asns: Vec<Asn>,
    /// Who may be sent to it.
    #[serde(default)]
    pub visibility: Visibility,
    /// The repositories it carries; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<RepoGlob>,
    /// The only countries it serves; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_countries: Vec<CountryCode>,
    /// Countries it does not serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied_countries: Vec<CountryCode>,
    /// The site it belongs to; none: one of the host's own name, or the one it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteName>,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// Larger blobs are not asked of it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "bytes"
    )]
    pub max_blob_size: Option<ByteSize>,
    /// Of the repositories it carries, those it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_repositories: Vec<RepoGlob>,
    /// Why an administrator does not want it used, if so; none leaves a host that is there as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Reason>,
    /// Why its own people do not want it used, if so; none likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_by_site: Option<Reason>,
}

impl NewHost {
    /// A public host of default bandwidth that carries everything, at an unknown place.
    pub fn new(name: HostName, urls: Vec<BaseUrl>) -> Self {
        Self {
            name,
            urls,
            country: None,
            coordinates: None,
            bandwidth: Bandwidth::default(),
            netblocks: Vec::new(),
            asns: Vec::new(),
            peer_asns: Vec::new(),
            visibility: Visibility::default(),
            repositories: Vec::new(),
            allowed_countries: Vec::new(),
            denied_countries: Vec::new(),
            site: None,
            kind: Kind::default(),
            max_blob_size: None,
            excluded_repositories: Vec::new(),
            disabled: None,
            disabled_by_site: None,
        }
    }
}

impl From<&Host> for NewHost {
    /// What was entered.
    fn from(host: &Host) -> Self {
        let reason = |switch: &Switch| switch.reason().map(Reason::clipped);
        Self {
            name: host.name.clone(),
            urls: host.urls.clone(),
            country: host.country,
            coordinates: host.coordinates,
            bandwidth: host.bandwidth,
            netblocks: host.netblocks.clone(),
            asns: host.asns.clone(),
            peer_asns: host.peer_asns.clone(),
            visibility: host.visibility,
            repositories: host.repositories.clone(),
            allowed_countries: host.allowed_countries.clone(),
            denied_countries: host.denied_countries.clone(),
            site: Some(host.site.clone()),
            kind: host.kind,
            max_blob_size: host.max_blob_size.map(ByteSize),
            excluded_repositories: host.excluded_repositories.clone(),
            disabled: reason(&host.admin),
            disabled_by_site: reason(&host.own),
        }
    }
}

/// In bytes, since what people write is rounded.
#[expect(clippy::ref_option, reason = "serde asks for it")]
fn bytes<S: Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.0).serialize(serializer)
}

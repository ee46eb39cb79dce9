//! What a redirect or a metalink says of a host, written once for all answers.

use std::collections::HashMap;

use crate::geo::CountryCode;
use crate::network::Host;
use crate::presence::HostPosition;

/// Where clients are sent for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What the path of a file of the tree is appended to; ends with `/`. Empty for a host that no
    /// client can fetch from.
    pub base: Box<str>,
    /// The country of the host in lower case, as it stands in a `Link` field: `; geo=de`, or nothing.
    pub geo: Box<str>,
    /// The country it is in.
    pub country: Option<CountryCode>,
    /// Whether it is offered only to part of the world.
    pub private: bool,
    /// The first host with the same URL: two entries may share a server, for networks of their own.
    pub server: HostPosition,
}

impl Source {
    /// The sources of `hosts`, in their order.
    pub(super) fn of_all(hosts: &[Host]) -> Vec<Self> {
        let mut servers: HashMap<Box<str>, HostPosition> = HashMap::new();
        let source = |(position, host): (HostPosition, &Host)| {
            let base: Box<str> = host
                .download_url()
                .map(|url| format!("{url}/"))
                .unwrap_or_default()
                .into();
            let geo = host
                .country
                .map(|country| format!("; geo={}", country.to_string().to_ascii_lowercase()));
            Self {
                server: *servers.entry(base.clone()).or_insert(position),
                base,
                geo: geo.unwrap_or_default().into(),
                country: host.country,
                private: host.is_private(),
            }
        };
        (0..).map(HostPosition).zip(hosts).map(source).collect()
    }
}

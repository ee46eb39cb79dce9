//! What a redirect or a metalink says of a host, written once for all answers.

use crate::geo::CountryCode;
use crate::network::Host;

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
}

impl From<&Host> for Source {
    fn from(host: &Host) -> Self {
        let base = host
            .download_url()
            .map(|url| format!("{url}/"))
            .unwrap_or_default();
        let geo = host
            .country
            .map(|country| format!("; geo={}", country.to_string().to_ascii_lowercase()));
        Self {
            base: base.into(),
            geo: geo.unwrap_or_default().into(),
            country: host.country,
            private: host.is_private(),
        }
    }
}

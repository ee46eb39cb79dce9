//! Addresses the crawler does not connect to.
//!
//! Whoever may enter a mirror could otherwise have the crawler ask `http://169.254.169.254/` or a
//! database on the inside, and read the answer from the evidence. Names are resolved here and every
//! address is checked, so that a name cannot change its address between check and use; literal
//! addresses and redirects are checked by [`Policy::permits_url`].

use std::io;
use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::config::Crawler;
use crate::network::address::is_public;

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Only those of the public internet.
    PublicOnly,
    /// Any: a closed network, a private mirror, a test.
    Any,
}

impl From<&Crawler> for Policy {
    fn from(config: &Crawler) -> Self {
        if config.allow_private_addresses {
            Self::Any
        } else {
            Self::PublicOnly
        }
    }
}

impl Policy {
    /// Whether an address may be connected to.
    pub fn permits(self, address: IpAddr) -> bool {
        self == Self::Any || is_public(address)
    }

    /// Whether a URL names no address that may not be connected to. Names are checked when resolved.
    pub fn permits_url(self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => self.permits(address.into()),
            Some(Host::Ipv6(address)) => self.permits(address.into()),
            Some(Host::Domain(_)) => true,
            None => false,
        }
    }
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Whether an address is of it.
    pub const fn has(self, address: IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// Resolves names and leaves out what the policy forbids.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// What is allowed.
    pub policy: Policy,
    /// Only these addresses; none: of either family.
    pub family: Option<Family>,
}

impl Guard {
    /// The addresses of a name that may be connected to.
    pub async fn addresses(self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        let permitted = |address: &SocketAddr| {
            self.policy.permits(address.ip())
                && self.family.is_none_or(|family| family.has(address.ip()))
        };
        Ok(found.filter(permitted).collect())
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let permitted = guard.addresses(name.as_str()).await?;
            if permitted.is_empty() {
                let refused = format!("{} has no address on the public internet", name.as_str());
                return Err(refused.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_addresses_in_any_writing_are_caught() {
        for url in [
            "http://127.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
        ] {
            assert!(
                !Policy::PublicOnly.permits_url(&Url::parse(url).unwrap()),
                "{url}"
            );
            assert!(Policy::Any.permits_url(&Url::parse(url).unwrap()), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_of_the_inside_does_not_resolve() {
        let name = || "localhost".parse::<Name>().unwrap();
        let guard = |policy| Guard {
            policy,
            family: None,
        };
        assert!(guard(Policy::PublicOnly).resolve(name()).await.is_err());
        assert!(guard(Policy::Any).resolve(name()).await.is_ok());
    }
}

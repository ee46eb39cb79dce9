//! Addresses of mirrors that are not connected to, and redirects of mirrors that are not followed.
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
use crate::network::Host as Mirror;
use crate::network::address::is_public;

/// Most redirects followed at a mirror; clients stop at ten.
const MAX_REDIRECTS: usize = 5;

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
    /// What holds for one mirror: a private one is where its network is.
    #[must_use]
    pub fn towards(self, mirror: &Mirror) -> Self {
        if mirror.is_private() { Self::Any } else { self }
    }

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

    /// Why a redirect to `next` is not followed, if it is not; `previous` are the URLs that led to it, the one
    /// that was asked for first.
    pub fn refusal(self, previous: &[Url], next: &Url) -> Option<&'static str> {
        let from_https = previous.last().is_some_and(|url| url.scheme() == "https");
        if previous.len() > MAX_REDIRECTS {
            Some("too many redirects")
        } else if from_https && next.scheme() != "https" {
            Some("redirected from https to http")
        } else if !self.permits_url(next) {
            Some("redirected to an address that is not public")
        } else if !matches!(next.scheme(), "http" | "https") {
            Some("redirected to what is neither http nor https")
        } else {
            None
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

    #[test]
    fn redirects_lead_neither_in_circles_nor_to_the_clear_nor_to_the_inside() {
        let urls = |urls: &[&str]| -> Vec<Url> {
            urls.iter().map(|url| Url::parse(url).unwrap()).collect()
        };
        let (public, any) = (Policy::PublicOnly, Policy::Any);
        for (previous, next, policy, reason) in [
            (
                &["http://m.example/x"][..],
                "http://n.example/x",
                public,
                None,
            ),
            (&["http://m.example/x"], "https://m.example/x", public, None),
            (
                &["https://m.example/x"],
                "https://n.example/x",
                public,
                None,
            ),
            (&["http://a.example"; 5], "http://a.example", public, None),
            (
                &["http://a.example"; 6],
                "http://a.example",
                any,
                Some("too many"),
            ),
            (
                &["https://m.example/x"],
                "http://m.example/x",
                any,
                Some("to http"),
            ),
            (
                &["http://m.example", "https://m.example"],
                "http://m.example",
                public,
                Some("to http"),
            ),
            (
                &["http://m.example"],
                "http://127.0.0.1/",
                public,
                Some("not public"),
            ),
            (&["http://m.example"], "http://127.0.0.1/", any, None),
            (
                &["http://m.example"],
                "http://[::ffff:10.0.0.1]/",
                public,
                Some("not public"),
            ),
            (
                &["http://m.example"],
                "http://169.254.169.254/",
                public,
                Some("not public"),
            ),
            (
                &["http://m.example"],
                "http://0xa9fea9fe/",
                public,
                Some("not public"),
            ),
            (
                &["http://m.example"],
                "file:///etc/passwd",
                public,
                Some("not public"),
            ),
            (
                &["http://m.example"],
                "ftp://m.example/x",
                any,
                Some("neither http"),
            ),
            (
                &["https://m.example"],
                "file:///etc/passwd",
                any,
                Some("to http"),
            ),
        ] {
            let found = policy.refusal(&urls(previous), &Url::parse(next).unwrap());
            match reason {
                None => assert_eq!(found, None, "{previous:?} {next}"),
                Some(reason) => assert!(
                    found.is_some_and(|found| found.contains(reason)),
                    "{previous:?} {next}: {found:?}"
                ),
            }
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

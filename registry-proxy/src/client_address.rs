//! Who is asking: the socket's peer, or what trusted proxies say of it.
//!
//! Every hop appends the address it saw, so the list is read from the right; the first address that
//! is not a trusted proxy is the client. Anything left of it is the client's own claim.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::base_url::Forwarding;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Most hops looked at; a longer list is somebody's attack.
const MAX_HOPS: usize = 64;

/// The proxies whose word is taken.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts the given networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Whether fields added by this peer may be believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// The client of a request that came from `peer`; `None` for a unix socket, whose other end is a
    /// proxy that the operator gave access to.
    ///
    /// ```
    /// use registry_proxy::client_address::TrustedProxies;
    /// let trusted = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    /// let mut headers = http::HeaderMap::new();
    /// headers.insert("x-forwarded-for", "10.0.0.1, 192.0.2.7".parse().unwrap());
    /// let client = trusted.client("127.0.0.1:4711".parse().ok(), &headers);
    /// assert_eq!(client.unwrap().to_string(), "192.0.2.7");
    /// ```
    pub fn client(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = peer.map(|peer| peer.ip().to_canonical());
        if client.is_some_and(|client| !self.trusts(client)) {
            return client;
        }
        // Proxies that write `X-Forwarded-For`, as nearly all do, pass on whatever `Forwarded` (RFC 7239)
        // the client sent.
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = if headers.contains_key(X_FORWARDED_FOR)
        {
            (X_FORWARDED_FOR, node)
        } else {
            (FORWARDED, forwarded_for)
        };
        let lines = headers.get_all(name).into_iter().rev();
        // By bytes: what cannot be read must not hide what a proxy has written after it.
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let hops = hops.map(|hop| read(std::str::from_utf8(hop).ok()?));
        for hop in hops.take(MAX_HOPS) {
            // An unreadable hop ("unknown", an obfuscated name) hides everything before it.
            let Some(hop) = hop else { return client };
            client = Some(hop);
            if !self.trusts(hop) {
                return client;
            }
        }
        client
    }
}

/// Who asks, found out once somebody wants to know: most manifests are answered without.
#[derive(Debug)]
pub struct Caller<'a> {
    trusted: &'a TrustedProxies,
    peer: Option<SocketAddr>,
    headers: &'a HeaderMap,
    found: OnceCell<Option<IpAddr>>,
}

impl<'a> Caller<'a> {
    /// The client of a request with these fields that came from `peer`; see [`TrustedProxies::client`].
    pub fn new(
        trusted: &'a TrustedProxies,
        peer: Option<SocketAddr>,
        headers: &'a HeaderMap,
    ) -> Self {
        Self {
            trusted,
            peer,
            headers,
            found: OnceCell::new(),
        }
    }

    /// The client's address; `None` for a unix socket that says nothing of it.
    pub fn address(&self) -> Option<IpAddr> {
        let find = || self.trusted.client(self.peer, self.headers);
        *self.found.get_or_init(find)
    }

    /// Whether what the fields say of the way here is believed.
    ///
    /// Whoever may open the socket file was given that right by the operator.
    pub fn forwarding(&self) -> Forwarding {
        match self.peer {
            Some(peer) if !self.trusted.trusts(peer.ip()) => Forwarding::Untrusted,
            _ => Forwarding::Trusted,
        }
    }
}

/// The `for` of one element of a `Forwarded` field.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    node(value.trim().trim_matches('"'))
}

/// An address, with or without brackets and port.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address
        .ok()
        .or_else(bracketed)
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_client_garbled_does_not_hide_what_the_proxy_says() {
        let trusted = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        let garbled = http::HeaderValue::from_bytes(b"\xff, 198.51.100.1").unwrap();
        headers.append("x-forwarded-for", garbled);
        let client = trusted.client("127.0.0.1:9".parse().ok(), &headers);
        assert_eq!(client.unwrap().to_string(), "198.51.100.1");
    }

    fn client(peer: &str, fields: &[(&'static str, &str)]) -> String {
        let trusted = TrustedProxies::new(vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ]);
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        trusted
            .client(peer.parse().ok(), &headers)
            .map_or_else(|| "nobody".to_owned(), |client| client.to_string())
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        let xff = "x-forwarded-for";
        for (peer, fields, expected) in [
            ("192.0.2.1:1", &[(xff, "198.51.100.1")][..], "192.0.2.1"),
            ("127.0.0.1:1", &[(xff, "198.51.100.1")], "198.51.100.1"),
            (
                "127.0.0.1:1",
                &[(xff, "203.0.113.9, 198.51.100.1, 10.0.0.2")],
                "198.51.100.1",
            ),
            (
                "127.0.0.1:1",
                &[(xff, "203.0.113.9"), (xff, "198.51.100.1")],
                "198.51.100.1",
            ),
            (
                "127.0.0.1:1",
                &[(xff, "203.0.113.9, nonsense")],
                "127.0.0.1",
            ),
            ("127.0.0.1:1", &[(xff, "10.0.0.3")], "10.0.0.3"),
            ("127.0.0.1:1", &[], "127.0.0.1"),
            (
                "[::ffff:127.0.0.1]:1",
                &[(xff, "::ffff:198.51.100.1")],
                "198.51.100.1",
            ),
            (
                "127.0.0.1:1",
                &[(
                    "forwarded",
                    "for=203.0.113.9;proto=https, For=\"[2001:db8::1]:4711\"",
                )],
                "2001:db8::1",
            ),
            (
                "127.0.0.1:1",
                &[("forwarded", "for=203.0.113.9"), (xff, "198.51.100.1")],
                "198.51.100.1",
            ),
            ("a unix socket", &[(xff, "198.51.100.1")], "198.51.100.1"),
            ("a unix socket", &[], "nobody"),
            ("127.0.0.1:1", &[("forwarded", "for=_hidden")], "127.0.0.1"),
        ] {
            assert_eq!(client(peer, fields), expected, "{peer} {fields:?}");
        }
    }

    proptest! {
        #[test]
        fn an_untrusted_peer_is_believed_nothing(value in "[ -~]{0,80}") {
            let found = client("192.0.2.1:1", &[("x-forwarded-for", &value), ("forwarded", &value)]);
            prop_assert_eq!(found, "192.0.2.1");
        }
    }
}

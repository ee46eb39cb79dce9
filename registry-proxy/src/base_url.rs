//! The URL under which a client reached us: what absolute links in answers start with.
//!
//! It comes from the request, because one front end is known by several names. The `Host` field is
//! the client's to write, so it is parsed as a host before it is repeated anywhere.

use std::fmt;

use http::Uri;
use http::header::{HOST, HeaderMap, HeaderName};
use oci_mirror::reference::RegistryHost;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Scheme and host of the front end as one client sees it; displays as `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    scheme: Scheme,
    host: RegistryHost,
}

/// How the client connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS, ours or a trusted proxy's.
    Https,
}

/// Whether the forwarding fields of a request may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// The connection comes from a configured trusted proxy.
    Trusted,
    /// Anybody could have written them.
    Untrusted,
}

impl PublicUrl {
    /// Reads scheme and host of a request; `fallback` is used when the host is absent or malformed.
    pub fn of(
        uri: &Uri,
        headers: &HeaderMap,
        forwarding: Forwarding,
        scheme: Scheme,
        fallback: &RegistryHost,
    ) -> Self {
        let forwarded = |name: &HeaderName| match forwarding {
            // The last of them is the word of the proxy next to us.
            Forwarding::Trusted => headers
                .get_all(name)
                .iter()
                .next_back()?
                .to_str()
                .ok()?
                .split(',')
                .next_back()
                .map(str::trim),
            Forwarding::Untrusted => None,
        };
        let scheme = match forwarded(&X_FORWARDED_PROTO) {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => scheme,
        };
        let named = forwarded(&X_FORWARDED_HOST)
            .or_else(|| uri.authority().map(http::uri::Authority::as_str))
            .or_else(|| headers.get(HOST)?.to_str().ok());
        let host = named
            .and_then(|host| host.parse().ok())
            .unwrap_or_else(|| fallback.clone());
        Self { scheme, host }
    }
}

impl PublicUrl {
    /// Appends the URL to `text`.
    pub fn append_to(&self, text: &mut String) {
        text.push_str(self.scheme.start());
        text.push_str(self.host.as_str());
    }
}

impl Scheme {
    /// What a URL of the scheme begins with.
    const fn start(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
        }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.start())?;
        f.write_str(self.host.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &str)], forwarding: Forwarding) -> String {
        let headers = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let fallback = "127.0.0.1:5000".parse().unwrap();
        PublicUrl::of(
            &Uri::from_static("/v2/"),
            &headers,
            forwarding,
            Scheme::Http,
            &fallback,
        )
        .to_string()
    }

    #[test]
    fn a_host_is_only_repeated_if_it_is_one() {
        assert_eq!(
            of(&[("host", "registry.example:5000")], Forwarding::Untrusted),
            "http://registry.example:5000"
        );
        for host in ["a\"><script>", "a b", "x/../y", "user@host", ""] {
            assert_eq!(
                of(&[("host", host)], Forwarding::Untrusted),
                "http://127.0.0.1:5000",
                "{host}"
            );
        }
    }

    #[test]
    fn forwarding_fields_count_only_from_trusted_proxies() {
        let fields = [
            ("host", "inner"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer"),
        ];
        assert_eq!(of(&fields, Forwarding::Trusted), "https://outer");
        assert_eq!(of(&fields, Forwarding::Untrusted), "http://inner");
    }
}

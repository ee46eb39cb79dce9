//! The address under which a host serves the tree.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use oci_mirror::tree::TreePath;
use serde::{Deserialize, Serialize};
use url::Url;

/// How the files below a URL are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// In the clear; the digest in every name still catches a changed byte.
    Http,
    /// Over TLS.
    Https,
    /// By rsync, between mirrors; no client of a registry can use it.
    Rsync,
}

/// An http, https or rsync URL without credentials, query and fragment, and without a trailing slash.
///
/// ```
/// use registry_proxy::network::BaseUrl;
/// let url: BaseUrl = "https://Mirror.Example/pub/".parse().unwrap();
/// assert_eq!(url.to_string(), "https://mirror.example/pub");
/// assert_eq!(url.join(&oci_mirror::tree::TreePath::State), "https://mirror.example/pub/state.json");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl {
    scheme: Scheme,
    text: Box<str>,
}

impl BaseUrl {
    /// How it is fetched.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether a client of a registry can fetch from it.
    pub const fn is_http(&self) -> bool {
        matches!(self.scheme, Scheme::Http | Scheme::Https)
    }

    /// The text, normalised.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL of one file of the tree.
    pub fn join(&self, path: &TreePath) -> String {
        format!("{}/{path}", self.text)
    }

    /// The host, as it is looked up, and the port.
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let url = Url::parse(&self.text).ok()?;
        let port = url.port_or_known_default().unwrap_or(873);
        let host = url.host_str()?;
        Some((host.trim_matches(['[', ']']).to_owned(), port))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBaseUrl> {
        let wrong = |why| InvalidBaseUrl {
            found: Excerpt(text).into(),
            why,
        };
        // `Url::parse` forgives spaces and line breaks; whoever wrote them meant something else.
        if text.len() > MAX_LEN || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("it has spaces or control characters, or is too long"));
        }
        let url = Url::parse(text).map_err(|_| wrong("it is not a URL"))?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "rsync" => Scheme::Rsync,
            _ => return Err(wrong("only http, https and rsync are used")),
        };
        // `Url::parse` forgives `https:///x` and accepts `"` in a name, which a `Link` field does not.
        let host = url.host_str().unwrap_or_default();
        let legal =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        let written = text
            .split_once("://")
            .is_some_and(|(_, rest)| !rest.starts_with(['/', '\\']));
        if host.is_empty() || !host.chars().all(legal) || !written {
            return Err(wrong("it names no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "it would show a user name or password to every client",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(
                "paths are appended to it, so it cannot have a query or fragment",
            ));
        }
        let text = url.as_str().trim_end_matches('/');
        Ok(Self {
            scheme,
            text: text.into(),
        })
    }
}

/// Longest URL accepted; with the path of a blob it must still fit a request line everywhere.
const MAX_LEN: usize = 1024;

crate::by_text::by_text!(BaseUrl);

/// The text cannot be the address of a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} cannot be the URL of a mirror: {why}")]
pub struct InvalidBaseUrl {
    found: Box<str>,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rejects_what_clients_could_not_use_or_should_not_see() {
        for text in [
            "",
            "mirror.example",
            "/pub",
            "ftp://m.example/",
            "file:///srv",
            "https://",
            "https:///pub",
            "rsync://",
            "https://user@m.example/",
            "https://u:p@m.example/",
            "https://m.example/?a=b",
            "https://m.example/#x",
            "https://m.example/a b",
            "https://m.example/\r\nX: y",
            "javascript:alert(1)",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn host_and_port_are_those_that_are_connected_to() {
        for (text, host, port) in [
            ("http://m.example", "m.example", 80),
            ("https://[2001:db8::1]:8443/x", "2001:db8::1", 8443),
            ("rsync://m.example/containers", "m.example", 873),
        ] {
            assert_eq!(
                text.parse::<BaseUrl>().unwrap().host_and_port(),
                Some((host.to_owned(), port))
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_stable_and_safe_in_a_header(text in "(http|https|rsync)://[a-z.:@/?#<>\" é%-]{0,40}") {
            if let Ok(url) = text.parse::<BaseUrl>() {
                prop_assert_eq!(url.as_str().parse::<BaseUrl>(), Ok(url.clone()));
                if url.is_http() {
                    prop_assert!(!url.as_str().contains(['<', '>', '"', ' ', '\n']), "{}", url);
                }
            }
        }
    }
}

//! As whom a mirror is asked: a mirror that tells its crawler from its clients must not get away with it.

use std::fmt;
use std::str::FromStr;

use http::header::{ACCEPT, ACCEPT_LANGUAGE, HeaderMap, HeaderValue, USER_AGENT};
use serde::Serialize;

/// As whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// As ourselves, with an address for complaints.
    #[default]
    Crawler,
    /// As a browser would.
    Browser,
}

impl Identity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crawler => "crawler",
            Self::Browser => "browser",
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Identity {
    type Err = UnknownIdentity;

    fn from_str(text: &str) -> Result<Self, UnknownIdentity> {
        match text {
            "crawler" => Ok(Self::Crawler),
            "browser" => Ok(Self::Browser),
            _ => Err(UnknownIdentity),
        }
    }
}

/// The word is nobody we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no identity of the crawler")]
pub struct UnknownIdentity;

impl Identity {
    /// The fields by which a request shows who makes it; `ours` is our own name.
    ///
    /// The browser asks as one that goes on with a download: with those fields, and without an encoding.
    pub(super) fn fields(self, ours: &HeaderValue) -> HeaderMap {
        let mut fields = HeaderMap::new();
        match self {
            Self::Crawler => {
                fields.insert(USER_AGENT, ours.clone());
            }
            Self::Browser => {
                fields.insert(USER_AGENT, HeaderValue::from_static(BROWSER));
                let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
                fields.insert(ACCEPT, HeaderValue::from_static(accept));
                let language = HeaderValue::from_static("en-US,en;q=0.5");
                fields.insert(ACCEPT_LANGUAGE, language);
            }
        }
        fields
    }
}

/// Firefox with long support, which many have for a year.
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// How we introduce ourselves to mirror admins, who find out more at `contact`, if there is one.
pub fn user_agent(contact: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if contact.is_empty() {
        return format!("registry-proxy/{version} (crawler; verifies what this mirror holds)");
    }
    format!("registry-proxy/{version} (crawler; +{contact})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_as_a_browser_shows_nothing_of_ours() {
        let ours = HeaderValue::from_static("registry-proxy/1 (crawler)");
        let fields = Identity::Browser.fields(&ours);
        assert_eq!(fields.len(), 3);
        for value in fields.values() {
            let value = value.to_str().unwrap();
            assert!(!value.contains("registry") && !value.contains("crawler"));
        }
        assert_eq!(Identity::Crawler.fields(&ours)[USER_AGENT], ours);
        let introduced = user_agent("https://example.org/mirrors");
        assert!(
            introduced.ends_with(" (crawler; +https://example.org/mirrors)"),
            "{introduced}"
        );
    }
}

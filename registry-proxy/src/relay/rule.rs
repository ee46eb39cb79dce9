//! Which clients get the bytes through here, by what they call themselves.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::Deserialize;

/// Clients, as `containers<5.25` or `skopeo`: a product of `User-Agent`, and versions of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientRule(Box<str>);

impl fmt::Display for ClientRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ClientRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let is_word = !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic());
        is_word
            .then(|| Self(text.into()))
            .ok_or_else(|| InvalidRule(Excerpt(text).into()))
    }
}

crate::by_text::by_text!(ClientRule);

/// The text names no clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} names no clients: write PRODUCT or PRODUCT<VERSION, as containers<5.25")]
pub struct InvalidRule(Box<str>);

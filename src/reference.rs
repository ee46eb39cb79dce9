//! Repository names, tags and references, as the [distribution specification][spec] writes them.
//!
//! A registry path is parsed into these types once, at the edge; past that point a name cannot
//! contain `..`, a slash at the wrong place or anything a file system would misread.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{self, Digest};
use crate::excerpt::Excerpt;

/// Longest repository name accepted, in bytes: the limit every implementation shares.
pub const MAX_NAME_LEN: usize = 255;

/// Longest tag of the specification's grammar, in bytes.
pub const MAX_TAG_LEN: usize = 128;

macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The text as it stands in URLs and paths.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.into()
            }
        }
    };
}

/// A repository name: lower-case components joined by `/`, for example `fedora/fedora-minimal`.
///
/// ```
/// use oci_mirror::reference::RepoName;
/// assert!("fedora/fedora-minimal".parse::<RepoName>().is_ok());
/// assert!("fedora/../etc".parse::<RepoName>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoName(Box<str>);

impl RepoName {
    /// The components between the slashes.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

text_newtype!(RepoName);

impl FromStr for RepoName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() <= MAX_NAME_LEN && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(Error::Name(Excerpt(text).into()))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let mut rest = component.as_bytes();
    loop {
        let word = rest
            .iter()
            .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            .count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = match rest {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|&&c| c == b'-').count(),
            _ => return false,
        };
        rest = &rest[separator..];
    }
}

/// A tag: the mutable name of a manifest inside a repository.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Box<str>);

text_newtype!(Tag);

impl FromStr for Tag {
    type Err = Error;

    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
    fn from_str(text: &str) -> Result<Self, Error> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let mut bytes = text.bytes();
        let well_formed = bytes.next().is_some_and(word)
            && bytes.all(|c| word(c) || c == b'.' || c == b'-')
            && text.len() <= MAX_TAG_LEN;
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(Error::Tag(Excerpt(text).into()))
        }
    }
}

/// What a manifest is asked for by: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// By mutable name.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// A text with a `:` can only be a digest, since a tag has none.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.contains(':') {
            Ok(Self::Digest(text.parse()?))
        } else {
            Ok(Self::Tag(text.parse()?))
        }
    }
}

/// The host, and port if any, of a registry: `registry.example:5000`, `[::1]:5000`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryHost(Box<str>);

text_newtype!(RegistryHost);

impl FromStr for RegistryHost {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Registry(Excerpt(text).into());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or_else(wrong)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                (
                    "v6",
                    if rest.is_empty() {
                        None
                    } else {
                        Some(rest.strip_prefix(':').ok_or_else(wrong)?)
                    },
                )
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let port_is_right = port.is_none_or(|port| {
            port.bytes().all(|c| c.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if host.len() <= 253 && host.split('.').all(label) && port_is_right {
            Ok(Self(text.into()))
        } else {
            Err(wrong())
        }
    }
}

/// Where a manifest, or all of a repository, is found: `HOST[:PORT]/NAME[:TAG|@DIGEST]`.
///
/// ```
/// use oci_mirror::reference::ImageRef;
/// let image: ImageRef = "registry.example:5000/fedora/fedora:43".parse().unwrap();
/// assert_eq!(image.name.as_str(), "fedora/fedora");
/// assert_eq!(image.to_string(), "registry.example:5000/fedora/fedora:43");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    /// The registry to ask.
    pub registry: RegistryHost,
    /// The repository there.
    pub name: RepoName,
    /// One manifest of it, or `None` for every tag.
    pub reference: Option<Reference>,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)?;
        match &self.reference {
            None => Ok(()),
            Some(Reference::Tag(tag)) => write!(f, ":{tag}"),
            Some(Reference::Digest(digest)) => write!(f, "@{digest}"),
        }
    }
}

impl FromStr for ImageRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (registry, path) = text
            .split_once('/')
            .ok_or_else(|| Error::NoRegistry(Excerpt(text).into()))?;
        let (name, reference) = if let Some((name, digest)) = path.split_once('@') {
            (name, Some(Reference::Digest(digest.parse()?)))
        } else if let Some((name, tag)) = path.split_once(':') {
            (name, Some(Reference::Tag(tag.parse()?)))
        } else {
            (path, None)
        };
        Ok(Self {
            registry: registry.parse()?,
            name: name.parse()?,
            reference,
        })
    }
}

/// Why a text is not a name, tag, reference or registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a repository name of the grammar, or longer than 255 bytes.
    #[error(
        "{0} is not a repository name (lower-case components joined by `/`, at most 255 bytes)"
    )]
    Name(Box<str>),
    /// Not a tag of the grammar, or longer than 128 bytes.
    #[error("{0} is not a tag (letters, digits, `_`, `.`, `-`; at most 128 of them)")]
    Tag(Box<str>),
    /// It has a `:` and so must be a digest, but is none.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// Not a host name or address with an optional port.
    #[error("{0} is not a registry host (HOST or HOST:PORT)")]
    Registry(Box<str>),
    /// There is no `/` that would end the registry's host.
    #[error("{0} names no registry: write HOST[:PORT]/NAME[:TAG|@DIGEST]")]
    NoRegistry(Box<str>),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_names_of_the_grammar() {
        for name in [
            "a",
            "fedora",
            "a/b/c",
            "a.b_c__d-e---f",
            "0/1",
            "library/debian",
        ] {
            assert!(name.parse::<RepoName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn rejects_names_outside_the_grammar() {
        let long = "a/".repeat(130);
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", ".a", "a.", "..",
            "a/../b", "a%2fb", "a\\b", "a b", "a\0", "é", "a:b", &long,
        ] {
            assert!(name.parse::<RepoName>().is_err(), "{name}");
        }
    }

    #[test]
    fn tags_keep_the_grammar() {
        let long = "a".repeat(129);
        for tag in ["latest", "1.0", "_x", "V1-rc.2", &long[1..]] {
            assert!(tag.parse::<Tag>().is_ok(), "{tag}");
        }
        for tag in ["", ".x", "-x", "a/b", "a:b", "a b", "ä", "..", &long] {
            assert!(tag.parse::<Tag>().is_err(), "{tag}");
        }
    }

    #[test]
    fn image_references_split_at_the_right_places() {
        let image: ImageRef = "localhost:5000/a/b".parse().unwrap();
        assert_eq!(
            (image.registry.as_str(), image.name.as_str()),
            ("localhost:5000", "a/b")
        );
        assert_eq!(image.reference, None);
        assert!("[::1]:5000/a:1".parse::<ImageRef>().is_ok());
        for text in [
            "a",
            "a/",
            "h:99999/a",
            "h:/a",
            "h:+1/a",
            "-h/a",
            "h/a:b@c",
            "h/a@sha256:00",
            "[::1/a",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn names_of_the_grammar_round_trip(
            name in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,8}){0,3}"
        ) {
            let parsed: RepoName = name.parse().unwrap();
            prop_assert_eq!(parsed.to_string(), name);
        }

        #[test]
        fn references_round_trip_or_fail(text in ".{0,140}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text.clone());
            }
            if let Ok(name) = text.parse::<RepoName>() {
                prop_assert!(name.components().all(|c| c != ".." && c != "." && !c.is_empty()));
            }
            if let Ok(image) = text.parse::<ImageRef>() {
                prop_assert_eq!(image.to_string(), text);
            }
        }
    }
}

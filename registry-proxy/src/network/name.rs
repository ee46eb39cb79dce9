//! How hosts, their sites, and the accounts that look after them are called.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

/// Longest name, in characters.
pub const MAX_LEN: usize = 64;

/// A number in the database; never used again after what it stands for is removed.
macro_rules! number {
    ($(#[$docs:meta])* $type:ident) => {
        $(#[$docs])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $type(
            /// The number.
            pub u32,
        );

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of a host in the database; never used again after the host is removed.
    HostId
}

number! {
    /// The number of a site in the database.
    SiteId
}

number! {
    /// The number of an account in the database.
    AccountId
}

/// A name: 1 to 64 letters, digits, `.`, `_` and `-`, not starting with `-`.
macro_rules! name {
    ($(#[$docs:meta])* $type:ident, $what:literal) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Box<str>);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                parse(text, $what).map(Self)
            }
        }

        crate::by_text::by_text!($type);
    };
}

name! {
    /// The name of a host: 1 to 64 letters, digits, `.`, `_` and `-`, not starting with `-`.
    ///
    /// ```
    /// use registry_proxy::network::HostName;
    /// assert!("mirror.example.org".parse::<HostName>().is_ok());
    /// assert!("--name".parse::<HostName>().is_err());
    /// ```
    HostName, "host"
}

name! {
    /// The name of a site, by the rules of [`HostName`].
    SiteName, "site"
}

name! {
    /// The name of an account, by the rules of [`HostName`].
    AccountName, "account"
}

impl From<&HostName> for SiteName {
    /// The site a host is alone at.
    fn from(host: &HostName) -> Self {
        Self(host.0.clone())
    }
}

fn parse(text: &str, what: &'static str) -> Result<Box<str>, InvalidName> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let right =
        (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(legal) && !text.starts_with('-');
    right.then(|| text.into()).ok_or_else(|| InvalidName {
        found: Excerpt(text).into(),
        what,
    })
}

/// The text cannot be the name of a host, a site or an account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found} is not a {what} name: 1 to {MAX_LEN} letters, digits, `.`, `_` or `-`, not starting with `-`"
)]
pub struct InvalidName {
    found: Box<str>,
    what: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_what_is_no_name() {
        for text in ["", "-x", "a b", "a/b", "é", "a\n", &"x".repeat(65)] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
            assert!(text.parse::<SiteName>().is_err(), "{text}");
            assert!(text.parse::<AccountName>().is_err(), "{text}");
        }
        assert!("x".repeat(64).parse::<HostName>().is_ok());
        let error = "a b".parse::<SiteName>().unwrap_err().to_string();
        assert!(error.contains("not a site name"), "{error}");
    }
}

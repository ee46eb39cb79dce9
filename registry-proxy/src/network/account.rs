//! An account: somebody who looks after sites.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

use super::{AccountName, SiteName};

/// Somebody who looks after sites; several may look after one, and one after several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Account {
    /// The name.
    pub name: AccountName,
    /// Where to write to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Which sites, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteName>,
}

/// Longest address ([RFC 5321, 4.5.3.1.3](https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.1.3)).
const MAX_LEN: usize = 254;

/// An address for mail: something at something, without spaces. Only mail itself can tell more.
///
/// ```
/// use registry_proxy::network::account::Email;
/// assert!("ops@mirror.example".parse::<Email>().is_ok());
/// assert!("ops at mirror".parse::<Email>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(Box<str>);

impl Email {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        let legal = |c: char| !c.is_whitespace() && !c.is_control();
        let parts = text.rsplit_once('@');
        let whole = parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        if whole && text.len() <= MAX_LEN && text.chars().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidEmail(Excerpt(text).into()))
        }
    }
}

crate::by_text::by_text!(Email);

/// The text is no address for mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no mail address")]
pub struct InvalidEmail(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_something_at_something() {
        for text in ["", "@", "a@", "@b", "a b@c", "a@b\n", "ab"] {
            assert!(text.parse::<Email>().is_err(), "{text}");
        }
        assert!("x@y".parse::<Email>().is_ok());
        assert!(format!("x@{}", "y".repeat(253)).parse::<Email>().is_err());
    }
}

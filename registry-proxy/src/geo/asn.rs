//! Autonomous system numbers: who runs the network an address is in.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

/// An autonomous system number, written `AS64496` or `64496`.
///
/// ```
/// use registry_proxy::geo::Asn;
/// assert_eq!("as64496".parse::<Asn>().unwrap(), Asn(64496));
/// assert_eq!(Asn(64496).to_string(), "AS64496");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Asn(
    /// The number.
    pub u32,
);

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

impl FromStr for Asn {
    type Err = InvalidAsn;

    fn from_str(text: &str) -> Result<Self, InvalidAsn> {
        let wrong = || InvalidAsn(Excerpt(text).into());
        let prefixed = text
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("as"));
        let digits = if prefixed { &text[2..] } else { text };
        // `u32` would also take a leading `+`.
        if !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(wrong());
        }
        digits.parse().map(Self).map_err(|_| wrong())
    }
}

crate::by_text::by_text!(Asn);

/// The text is not an autonomous system number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an autonomous system number such as AS64496")]
pub struct InvalidAsn(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_with_and_without_prefix() {
        for text in ["AS64496", "as64496", "64496"] {
            assert_eq!(text.parse(), Ok(Asn(64496)), "{text}");
        }
        for text in ["", "AS", "AS-1", "+1", "4294967296", "ASé", "AS1.2"] {
            assert!(text.parse::<Asn>().is_err(), "{text}");
        }
    }
}

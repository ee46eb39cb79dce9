//! Countries, by their two letters.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

use super::continent::{self, Continent};

/// A country code of ISO 3166-1: two letters, shown in capitals.
///
/// Codes that are not assigned are accepted, since geographic databases contain a few; they have no
/// [continent](CountryCode::continent).
///
/// ```
/// use registry_proxy::geo::{Continent, CountryCode};
/// let portugal: CountryCode = "pt".parse().unwrap();
/// assert_eq!(portugal.to_string(), "PT");
/// assert_eq!(portugal.continent(), Some(Continent::Europe));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CountryCode([u8; 2]);

impl CountryCode {
    /// How many codes can be written: the length of a table indexed by [`CountryCode::index`].
    pub const COUNT: usize = 26 * 26;

    /// The two capitals.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The two letters in lower case.
    pub const fn to_lower(self) -> [u8; 2] {
        [
            self.0[0].to_ascii_lowercase(),
            self.0[1].to_ascii_lowercase(),
        ]
    }

    /// The position of the code in a table of all codes.
    pub const fn index(self) -> usize {
        (self.0[0] - b'A') as usize * 26 + (self.0[1] - b'A') as usize
    }

    /// The continent the country is on.
    pub fn continent(self) -> Option<Continent> {
        continent::of(self)
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CountryCode {
    type Err = InvalidCountry;

    fn from_str(text: &str) -> Result<Self, InvalidCountry> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => Err(InvalidCountry(Excerpt(text).into())),
        }
    }
}

crate::by_text::by_text!(CountryCode);

/// The text is not two letters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a country code of two letters")]
pub struct InvalidCountry(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_cases_and_nothing_else() {
        assert_eq!("de".parse::<CountryCode>(), "DE".parse());
        for text in ["", "D", "DEU", "D1", "é", "Д", "d e"] {
            assert!(text.parse::<CountryCode>().is_err(), "{text}");
        }
    }

    #[test]
    fn serde_goes_through_the_parser() {
        let code: CountryCode = serde_json::from_str("\"se\"").unwrap();
        assert_eq!(serde_json::to_string(&code).unwrap(), "\"SE\"");
        assert!(serde_json::from_str::<CountryCode>("\"sweden\"").is_err());
    }
}

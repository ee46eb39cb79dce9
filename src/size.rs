//! Numbers of bytes, as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

/// A number of bytes, written `65536`, `64KiB`, `1.5MB`.
///
/// ```
/// use oci_mirror::size::ByteSize;
/// assert_eq!("64KiB".parse::<ByteSize>().unwrap(), ByteSize(65_536));
/// assert_eq!(ByteSize(1_572_864).to_string(), "1.5 MiB");
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(try_from = "Text", into = "String")]
pub struct ByteSize(
    /// The number of bytes.
    pub u64,
);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl fmt::Display for ByteSize {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in &UNITS[..4] {
            if self.0 >= *bytes {
                let value = self.0 as f64 / *bytes as f64;
                let text = format!("{value:.1}");
                let text = text.strip_suffix(".0").unwrap_or(&text);
                return write!(f, "{text} {unit}");
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the value is checked to be finite, positive and small enough before the cast"
    )]
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error(Excerpt(text).into());
        let trimmed = text.trim();
        let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &trimmed[digits.len()..];
        let factor = if unit.is_empty() {
            1
        } else {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .ok_or_else(wrong)?
                .1
        };
        let digits = digits.trim();
        if let Ok(whole) = digits.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(wrong);
        }
        if !digits.bytes().all(|c| c.is_ascii_digit() || c == b'.') {
            return Err(wrong());
        }
        let value = digits.parse::<f64>().map_err(|_| wrong())? * factor as f64;
        if value.is_finite() && value < 9e18 {
            Ok(Self(value.round() as u64))
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<Text> for ByteSize {
    type Error = Error;

    fn try_from(text: Text) -> Result<Self, Error> {
        match text {
            Text::Number(bytes) => Ok(Self(bytes)),
            Text::Text(text) => text.parse(),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

/// A size in a configuration file: a plain number or a text with a unit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Number(u64),
    Text(String),
}

/// The text is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a size: write a number with an optional unit such as KiB, MiB or GB")]
pub struct Error(Box<str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1.5MB", 1_500_000),
            ("2 GB", 2_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "KiB",
            "-1",
            "1 parsec",
            "99999999999999999999",
            "1e9",
            "NaN",
            "20000000TiB",
            "1.2.3",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(bytes in 0_u64..1 << 60) {
            prop_assert!(ByteSize(bytes).to_string().parse::<ByteSize>().is_ok());
        }
    }
}

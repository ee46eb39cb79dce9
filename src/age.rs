//! Spans of time, as people write ages and grace periods.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

/// A span of whole seconds, written `7d`, `36h`, `90m`, `1d12h`, `2w` or `0`.
///
/// A day has 24 hours. Units go from large to small, each at most once, so that a slip of the finger
/// (`1m30h`) is not taken for another age; a number without a unit is refused but for 0.
///
/// ```
/// use oci_mirror::age::Age;
/// use std::time::Duration;
/// let age: Age = "1d12h".parse().unwrap();
/// assert_eq!(Duration::from(age), Duration::from_secs(36 * 3600));
/// assert_eq!("2w".parse::<Age>().unwrap().to_string(), "14d");
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Age {
    seconds: u64,
}

/// The units, largest first.
const UNITS: [(char, u64); 5] = [
    ('w', 7 * 24 * 3600),
    ('d', 24 * 3600),
    ('h', 3600),
    ('m', 60),
    ('s', 1),
];

/// A thousand years: more is a slip of the finger, and would lead out of what a clock can show.
const MAX_SECONDS: u64 = 1000 * 365 * 24 * 3600;

impl From<Age> for Duration {
    fn from(age: Age) -> Self {
        Self::from_secs(age.seconds)
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.seconds;
        // Weeks are left out: `30d` should not come back as `4w2d`.
        for (unit, seconds) in &UNITS[1..] {
            if rest >= *seconds {
                write!(f, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

impl FromStr for Age {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match seconds(text) {
            Some(seconds) if seconds <= MAX_SECONDS => Ok(Self { seconds }),
            _ => Err(Error(Excerpt(text).into())),
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.chars().next()?;
        let (_, each) = units.find(|(name, _)| *name == unit)?;
        let span = number.parse::<u64>().ok()?.checked_mul(*each)?;
        total = total.checked_add(span)?;
        rest = behind[1..].trim_start();
        if rest.is_empty() {
            return Some(total);
        }
    }
}

impl TryFrom<String> for Age {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Age> for String {
    fn from(age: Age) -> Self {
        age.to_string()
    }
}

/// The text is not an age.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a span of time: write numbers with units, such as 7d, 36h, 90m or 1d12h")]
pub struct Error(Box<str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_units() {
        for (text, seconds) in [
            ("0", 0),
            ("0s", 0),
            ("90m", 5400),
            ("36h", 129_600),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("1d12h", 129_600),
            ("1h 30m", 5400),
            (" 1s ", 1),
        ] {
            assert_eq!(text.parse(), Ok(Age { seconds }), "{text}");
        }
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for text in [
            "",
            "7",
            "00",
            "d",
            "-1d",
            "+1d",
            "1.5h",
            "7D",
            "1M",
            "1y",
            "7days",
            "1m30h",
            "1d1d",
            "1 d",
            "1dd",
            "1dé",
            "99999999999999999999s",
            "9999999999999999999w",
            "400000d",
        ] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_same_age(seconds in 0..=MAX_SECONDS) {
            let age = Age { seconds };
            prop_assert_eq!(age.to_string().parse(), Ok(age));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}|[0-9wdhms ]{0,20}") {
            drop(text.parse::<Age>());
        }
    }
}

//! How many requests a registry is to get in a time.
//!
//! Registries publish such limits, Docker Hub's `100/6h` being the best known, and punish who goes beyond
//! by refusing everybody behind the same address.

use std::fmt;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// So many requests in such a time: `10/s`, `200/m`, `100/6h`.
///
/// ```
/// use oci_mirror::registry::rate::Rate;
/// let rate: Rate = "100/6h".parse().unwrap();
/// assert_eq!(rate.to_string(), "100/6h");
/// assert!("0/s".parse::<Rate>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    requests: NonZero<u32>,
    seconds: NonZero<u32>,
}

impl Rate {
    /// How many requests may come at once, after a long rest.
    pub fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// In what time as many may come again.
    pub fn per(&self) -> Duration {
        Duration::from_secs(self.seconds.get().into())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = u64::from(self.seconds.get());
        let whole = |&&(_, length): &&(char, u64)| seconds.is_multiple_of(length);
        let (unit, length) = UNITS.iter().find(whole).copied().unwrap_or(('s', 1));
        match seconds / length {
            1 => write!(f, "{}/{unit}", self.requests),
            count => write!(f, "{}/{count}{unit}", self.requests),
        }
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let parsed = || {
            let (requests, time) = text.split_once('/')?;
            let unit = time.chars().next_back()?;
            let (_, length) = UNITS.into_iter().find(|(letter, _)| *letter == unit)?;
            let count = match &time[..time.len() - 1] {
                "" => 1,
                count => number(count)?,
            };
            let seconds = u64::from(count).checked_mul(length)?;
            Some(Self {
                requests: NonZero::new(number(requests)?)?,
                seconds: NonZero::new(seconds.try_into().ok()?)?,
            })
        };
        parsed().ok_or_else(|| InvalidRate(Excerpt(text).into()))
    }
}

/// Digits only: the library's parser would take a sign.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl TryFrom<String> for Rate {
    type Error = InvalidRate;

    fn try_from(text: String) -> Result<Self, InvalidRate> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// A text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no rate of requests: write a number per time, as 10/s, 200/m or 100/6h")]
pub struct InvalidRate(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_a_number_per_time() {
        for (text, requests, seconds, shown) in [
            ("10/s", 10, 1, "10/s"),
            ("100/6h", 100, 21_600, "100/6h"),
            ("200/m", 200, 60, "200/m"),
            ("5000/h", 5000, 3600, "5000/h"),
            ("5000/60m", 5000, 3600, "5000/h"),
            ("7/90s", 7, 90, "7/90s"),
            ("1/2d", 1, 172_800, "1/2d"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.requests(), rate.per().as_secs()), (requests, seconds));
            assert_eq!(rate.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rate));
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "/",
            "10",
            "10/",
            "/s",
            "0/s",
            "10/0s",
            "-1/s",
            "+1/s",
            "1/+1s",
            "1.5/s",
            "10/x",
            "10/s ",
            " 10/s",
            "10/sm",
            "10/é",
            "10/5",
            "1/99999999999d",
            "1/4294967295d",
            "99999999999/s",
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.to_string().contains("100/6h"), "{text}");
        }
        let parsed: Result<Rate, _> = serde_json::from_str(r#""0/s""#);
        assert!(parsed.is_err());
    }
}
